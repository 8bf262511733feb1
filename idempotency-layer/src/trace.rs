//! Events on the `tracing` crate. They name a record by the start of its hash, and never contain a
//! key, a scope or a body.

use std::time::Duration;

use tracing::{Instrument, debug, error, warn};

use crate::error::StoreError;
use crate::rejection::{Rejection, RejectionKind};
use crate::store::{RecordId, Run};

pub(crate) fn claimed(record: RecordId, run: &Run) {
    if run.orphan {
        warn!(?record, attempt = run.attempt, "took over an orphan");
    } else {
        debug!(?record, attempt = run.attempt, "claimed");
    }
}

pub(crate) fn replayed(record: RecordId) {
    debug!(?record, "replayed");
}

pub(crate) fn completed(record: RecordId) {
    debug!(?record, "completed");
}

pub(crate) fn released(record: RecordId) {
    debug!(?record, "released");
}

pub(crate) fn rejected(rejection: &Rejection) {
    match rejection.kind() {
        RejectionKind::ScopeMissing => error!("no scope for a request with a key"),
        RejectionKind::Misconfigured => {
            let error = rejection.source().map(|source| source as &(dyn std::error::Error + 'static));
            error!(error, "the handler took what no layer gives it, or used it wrongly");
        }
        kind => debug!(?kind, status = rejection.status().as_u16(), "rejected"),
    }
}

pub(crate) fn stale(record: RecordId) {
    error!(?record, "the lease was lost while the handler ran; its outcome is not recorded");
}

pub(crate) fn lease_lost(record: RecordId) {
    warn!(?record, "the lease was lost while the handler runs");
}

pub(crate) fn store_failed(record: RecordId, verb: &'static str, failure: &StoreError) {
    error!(?record, verb, error = failure as &(dyn std::error::Error + 'static), "the store failed");
}

pub(crate) fn purge_failed(failure: &StoreError) {
    error!(error = failure as &(dyn std::error::Error + 'static), "expired records could not be dropped");
}

/// A function given to `CoCommit::on_commit` panicked. The transaction is committed.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn on_commit_panicked() {
    error!("a function that waited for the commit panicked");
}

pub(crate) fn not_committed(failure: &StoreError) {
    error!(
        error = failure as &(dyn std::error::Error + 'static),
        "what a handler wrote without a key was not committed"
    );
}

pub(crate) fn not_stored(record: RecordId, why: &'static str) {
    warn!(?record, why, "the response is not stored; retries will not get it");
}

pub(crate) fn ended_without_response(record: RecordId, how: &'static str) {
    warn!(?record, how, "the handler ended without a response");
}

pub(crate) fn waiting(record: RecordId, at_most: Duration) {
    debug!(?record, ?at_most, "waiting for the owner");
}

/// Binds the current span to a future, wherever it is polled later.
pub(crate) fn in_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.in_current_span()
}
