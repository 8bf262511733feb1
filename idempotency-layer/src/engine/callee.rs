//! The service behind the layer, and whether it is ready.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tower_service::Service;

/// The inner service, which is called at most once. Its readiness may be a permit or a connection,
/// so it is given back while the request waits for something else.
pub(super) struct Callee<S> {
    service: S,
    is_ready: bool,
}

impl<S: Clone> Callee<S> {
    pub(super) fn ready(service: S) -> Self {
        Self { service, is_ready: true }
    }

    /// Gives the readiness back: replaces the service by its clone, which is not ready. Dropping
    /// the service releases what it reserved.
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
    /// If the future is dropped, it stops waiting. The function can be called again.
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

    /// Calls the service, which must be ready.
    pub(super) fn call<Q>(&mut self, request: Q) -> S::Future
    where
        S: Service<Q>,
    {
        debug_assert!(self.is_ready, "called without being made ready");
        self.is_ready = false;
        self.service.call(request)
    }
}
