use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use pin_project_lite::pin_project;
use tokio::time::{Timeout, timeout};
use tower::BoxError;
use tower::retry::future::ResponseFuture as Tries;
use tower::timeout::error::Elapsed;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

use super::error::{Error, ErrorKind};
use super::message::{ClientRequest, ClientResponse};
use super::policy::Session;
use super::{Config, Key, Shared};

/// Makes a client try again. From [`Retries::layer`](super::Retries::layer); clones share their budgets.
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

/// A client that tries again.
///
/// What the client underneath does by itself is its own business: switch its retries and time-outs off, or have them times
/// ours.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    layer: RetryLayer,
}

/// One try, which takes no longer than a try may.
type OneTry<S> = tower::timeout::Timeout<S>;

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
        self.inner.poll_ready(context).map_err(|error| Error::of(error.into(), None))
    }

    fn call(&mut self, mut request: Req) -> ResponseFuture<S, Req> {
        let RetryLayer { config, shared } = &self.layer;
        let key = ensure_key(&mut request, &config.key);
        if request.try_clone().is_none() {
            return ResponseFuture { state: State::Refused, key };
        }
        // The one that was polled ready is the one that is called; its clone is polled when its turn comes.
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        let session = Session::new(Arc::clone(config), Arc::clone(shared));
        let mut tries = tower::retry::Retry::new(session, OneTry::new(ready, config.try_timeout));
        ResponseFuture { state: State::Trying { future: timeout(config.deadline, tries.call(request)) }, key }
    }
}

/// The key that the request has afterwards.
fn ensure_key<Req: ClientRequest>(request: &mut Req, key: &Key) -> Option<HeaderValue> {
    let Key::Header { name, quoted } = key else { return None };
    let mut value = match request.headers().get(name) {
        Some(given) => given.clone(),
        None if request.method().is_idempotent() => return None,
        None => {
            let made = Uuid::new_v4();
            let made = if *quoted { format!("\"{made}\"") } else { made.to_string() };
            let mut made =
                HeaderValue::try_from(made).expect("digits, hyphens and quotes make a header value");
            made.set_sensitive(true);
            request.headers_mut().insert(name.clone(), made.clone());
            made
        }
    };
    value.set_sensitive(true);
    Some(value)
}

pin_project! {
    /// The answer to come.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
        S::Response: ClientResponse,
        S::Error: Into<BoxError>,
        Req: ClientRequest,
    {
        #[pin]
        state: State<S, Req>,
        key: Option<HeaderValue>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Req>
    where
        S: Service<Req>,
        S::Response: ClientResponse,
        S::Error: Into<BoxError>,
        Req: ClientRequest,
    {
        Refused,
        Trying {
            #[pin]
            future: Timeout<Tries<Session, OneTry<S>, Req>>,
        },
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: ClientResponse,
    S::Error: Into<BoxError>,
    Req: ClientRequest,
{
    type Output = Result<S::Response, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match this.state.project() {
            StateProjection::Refused => Error::new(ErrorKind::NotReplayable),
            StateProjection::Trying { future } => match ready!(future.poll(context)) {
                Ok(Ok(response)) => return Poll::Ready(Ok(response)),
                Ok(Err(error)) => Error::of(error, None),
                Err(_) => Error::new(ErrorKind::Deadline),
            },
        };
        Poll::Ready(Err(Error { key: this.key.take(), ..error }))
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Response: ClientResponse,
    S::Error: Into<BoxError>,
    Req: ClientRequest,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Error {
    /// Of what the tries ended with.
    fn of(error: BoxError, key: Option<HeaderValue>) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => *ours,
            Err(error) if error.is::<Elapsed>() => Self { key, ..Self::new(ErrorKind::TryTimeout) },
            Err(error) => Self { kind: ErrorKind::Client, key, source: Some(error) },
        }
    }
}
