//! Nothing, in the place of `metrics.rs` where the feature `metrics` is off.

use std::time::Duration;

use super::outcome::Outcome;
use crate::claim::Claimed;
use crate::error::SchedulerError;

pub(super) fn ended(_: &Claimed, _: Outcome) {}
pub(super) fn attempt_took(_: &Claimed, _: Duration) {}
pub(super) fn panicked(_: &Claimed) {}
pub(super) fn timed_out(_: &Claimed) {}
pub(super) fn claimed(_: &Claimed) {}
pub(super) fn running_changed(_: f64) {}
pub(super) fn gates_changed(_: f64) {}
pub(super) fn unreadable() {}
pub(super) fn purged(_: u64) {}
pub(super) fn store_error(_: &'static str, _: &SchedulerError) {}
