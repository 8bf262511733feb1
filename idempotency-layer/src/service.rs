//! The service, which passes a request on, rejects it or processes it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::body::Replayable;
use crate::config::Config;
use crate::engine::{self, Admission};
use crate::future::ResponseFuture;
use crate::handler_error::{NoClaim, Unclaimed};
use crate::store::Store;

/// A service whose keyed requests happen once. Made by
/// [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// Its error is that of the inner service. Failures of the layer itself are responses.
pub struct IdempotencyService<S, St> {
    inner: S,
    config: Arc<Config<St>>,
}

impl<S, St> IdempotencyService<S, St> {
    pub(crate) fn new(inner: S, config: Arc<Config<St>>) -> Self {
        Self { inner, config }
    }

    /// Takes the service that `poll_ready` made ready, and leaves its clone, which is not ready.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

impl<S, St, B, R> Service<Request<B>> for IdempotencyService<S, St>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    St: Store,
    B: Replayable,
    R: Replayable,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match engine::admit(&self.config, request) {
            Admission::Bypass(request) => {
                let unclaimed = Unclaimed::new(&self.config, NoClaim::NotConcerned);
                ResponseFuture::bypass(self.inner.call(request), unclaimed)
            }
            Admission::WithoutKey(mut request) => {
                let unclaimed = Unclaimed::new(&self.config, NoClaim::NoKey);
                match St::offer_transaction(&self.config.store, request.extensions_mut()) {
                    None => ResponseFuture::bypass(self.inner.call(request), unclaimed),
                    transaction => {
                        let (config, handler) = (self.config.clone(), self.inner.call(request));
                        let run = engine::run_without_key(config, transaction, unclaimed, handler);
                        ResponseFuture::without_key(run)
                    }
                }
            }
            Admission::Reject(response) => {
                // Releases what the readiness holds, such as a permit.
                drop(self.take_ready());
                ResponseFuture::rejected(response)
            }
            Admission::Engage(engine, request) => {
                let inner = self.take_ready();
                ResponseFuture::engaged(engine, request, inner)
            }
        }
    }
}

impl<S: Clone, St> Clone for IdempotencyService<S, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: self.config.clone() }
    }
}

impl<S: fmt::Debug, St> fmt::Debug for IdempotencyService<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish()
    }
}
