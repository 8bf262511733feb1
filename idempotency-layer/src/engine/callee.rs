//! The service behind the layer, and whether it is ready.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tower_service::Service;

/// The service that is called once, if at all. Its readiness may be a permit or a connection, which nobody holds while they
/// wait.
pub(super) struct Callee<S> {
    service: S,
    is_ready: bool,
}

impl<S: Clone> Callee<S> {
    pub(super) fn ready(service: S) -> Self {
        Self { service, is_ready: true }
    }

    /// Gives the readiness back. A clone is not ready, and the service that is dropped gives back what it reserved.
    pub(super) fn give_readiness_back(&mut self) {
        if self.is_ready {
            self.service = self.service.clone();
            self.is_ready = false;
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Waits until the service is ready.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it just stops waiting; it can be called again.
    pub(super) async fn wait_until_ready<Q>(&mut self) -> Result<(), S::Error>
    where
        S: Service<Q>,
    {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn poll_ready<Q>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Q>,
    {
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        let poll = self.service.poll_ready(cx);
        self.is_ready = matches!(poll, Poll::Ready(Ok(())));
        poll
    }

    /// Calls the service, which is ready.
    pub(super) fn call<Q>(&mut self, request: Q) -> S::Future
    where
        S: Service<Q>,
    {
        debug_assert!(self.is_ready, "called without being made ready");
        self.is_ready = false;
        self.service.call(request)
    }
}
