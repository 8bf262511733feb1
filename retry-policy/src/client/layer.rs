use std::sync::Arc;
use std::task::{Context, Poll};

use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::config::{Config, Shared};
use super::error::Error;
use super::future::ResponseFuture;
use super::message::{ClientRequest, ClientResponse};
use super::session::Session;

/// Adds retries to an HTTP client. Created by [`Retries::layer`](super::Retries::layer); clones share their budgets.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, layer: self.clone() }
    }
}

/// An HTTP client with retries.
///
/// Retries and timeouts of the client underneath are not counted: switch them off.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    layer: RetryLayer,
}

impl<S> Retry<S> {
    #[cfg(feature = "reqwest")]
    pub(super) fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, Req> Service<Req> for Retry<S>
where
    S: Service<Req> + Clone,
    S::Response: ClientResponse,
    S::Error: Into<BoxError>,
    Req: ClientRequest,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context).map_err(|error| Error::client(error.into()))
    }

    fn call(&mut self, mut request: Req) -> ResponseFuture<S, Req> {
        let RetryLayer { config, shared } = &self.layer;
        let key = config.key.ensure(&mut request);
        let mut session = Session::new(Arc::clone(config), Arc::clone(shared));
        let copy = if session.is_last_try() { None } else { request.try_clone() };
        if copy.is_none() && !session.is_last_try() {
            return ResponseFuture::not_replayable(self.inner.clone(), session, key);
        }
        session.begin(&request);
        // The service that was polled ready is the one to call. The future polls its clone before the next try.
        let clone = self.inner.clone();
        let first = std::mem::replace(&mut self.inner, clone).call(request);
        ResponseFuture::trying(self.inner.clone(), session, key, copy, first)
    }
}
