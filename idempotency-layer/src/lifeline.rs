//! What the future of a request, which may be dropped, and its engine know of each other.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// What a request's future and its engine tell each other.
#[derive(Debug, Default)]
pub(crate) struct Lifeline {
    held: AtomicBool,
    is_cancelled: AtomicBool,
    cancelled: Notify,
}

impl Lifeline {
    /// From now on the request holds a claim, or may.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// The request holds no claim (any more): it may be dropped.
    pub(crate) fn let_go(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    /// Whether the client went away and its request is not to be begun any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Until the request is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.cancelled.notify_one();
    }
}
