//! Silence, in the place of `trace.rs` where the feature `tracing` is off.

use std::time::Duration;

use crate::claim::{Claimed, Unreadable};
use crate::error::SchedulerError;

pub(super) fn in_span<F: Future>(_: &Claimed, run: F) -> F {
    run
}
pub(super) fn started(_: usize, _: Duration) {}
pub(super) fn draining(_: usize) {}
pub(super) fn stopped(_: usize) {}
pub(super) fn claimed(_: usize, _: usize) {}
pub(super) fn poisoned(_: &Claimed) {}
pub(super) fn panicked(_: &Claimed) {}
pub(super) fn timed_out(_: &Claimed) {}
pub(super) fn stuck(_: &Claimed) {}
pub(super) fn lapsed(_: &Claimed) {}
pub(super) fn taken(_: &Claimed) {}
pub(super) fn refused(_: &Claimed) {}
pub(super) fn undelivered(_: &Claimed) {}
pub(super) fn without_detail(_: &Claimed) {}
pub(super) fn closed(_: &Claimed, _: Duration) {}
pub(super) fn deferred(_: &Claimed, _: Duration) {}
pub(super) fn bug(_: &tokio::task::JoinError) {}
pub(super) fn unreadable(_: &Unreadable) {}
pub(super) fn purged(_: usize) {}
pub(super) fn refusing(_: &'static str, _: &SchedulerError) {}
pub(super) fn failing(_: &'static str, _: &SchedulerError) {}
pub(super) fn still_failing(_: &'static str, _: &SchedulerError) {}
pub(super) fn reachable() {}
