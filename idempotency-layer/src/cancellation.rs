//! The state that the future of a request shares with its engine, because the future may be
//! dropped.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a request holds a claim, and whether its client disconnected.
///
/// The engine writes the former, and the response future reads it when it is dropped. The latter
/// goes the other way.
#[derive(Debug, Default)]
pub(crate) struct CancellationState {
    holds_claim: AtomicBool,
    is_disconnected: AtomicBool,
    is_cancelled: AtomicBool,
    cancelled: Notify,
}

impl CancellationState {
    /// Notes that the request holds a claim from now on, or may hold one.
    pub(crate) fn claim_begins(&self) {
        self.holds_claim.store(true, Ordering::Relaxed);
    }

    /// Notes that the request holds no claim, so that it may be dropped.
    pub(crate) fn claim_ends(&self) {
        self.holds_claim.store(false, Ordering::Relaxed);
    }

    /// Returns whether the request holds a claim or may hold one.
    pub(crate) fn holds_claim(&self) -> bool {
        self.holds_claim.load(Ordering::Relaxed)
    }

    /// Notes that the client disconnected.
    pub(crate) fn disconnect(&self) {
        self.is_disconnected.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client disconnected.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::Relaxed)
    }

    /// Cancels the request.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.cancelled.notify_one();
    }

    /// Returns whether the request was cancelled, so that its handler must not be started.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Waits until the request is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }
}
