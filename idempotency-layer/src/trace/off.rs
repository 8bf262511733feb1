//! Replaces `trace.rs` if the feature `tracing` is off: no events.

use std::time::Duration;

use crate::error::StoreError;
use crate::rejection::Rejection;
use crate::store::{RecordId, Run};

pub(crate) fn claimed(_: RecordId, _: &Run) {}
pub(crate) fn replayed(_: RecordId) {}
pub(crate) fn completed(_: RecordId) {}
pub(crate) fn released(_: RecordId) {}
pub(crate) fn rejected(_: &Rejection) {}
pub(crate) fn stale(_: RecordId) {}
pub(crate) fn lease_lost(_: RecordId) {}
pub(crate) fn store_failed(_: RecordId, _: &'static str, _: &StoreError) {}
pub(crate) fn purge_failed(_: &StoreError) {}
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn on_commit_panicked() {}
pub(crate) fn not_committed(_: &StoreError) {}
pub(crate) fn not_stored(_: RecordId, _: &'static str) {}
pub(crate) fn ended_without_response(_: RecordId, _: &'static str) {}
pub(crate) fn waiting(_: RecordId, _: Duration) {}
pub(crate) fn in_span<F: Future>(future: F) -> F {
    future
}
