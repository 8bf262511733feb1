//! Requests, handlers and answers of the tests.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use idempotency_layer::{
    Builder, Contract, IdempotencyLayer, IdempotencyService, MemoryStore, Rejection, RejectionKind, Scope,
    Scoped, Store,
};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Req = Request<Body>;
pub(crate) type Res = Response<Body>;
pub(crate) type Handler = BoxCloneSyncService<Req, Res, io::Error>;

/// A frame of a body, or the error that ends it.
pub(crate) type Piece = Result<Frame<Bytes>, io::Error>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of these frames, each of which is pending at its first poll.
pub(crate) fn frames(pieces: Vec<Piece>) -> Body {
    let slowly = futures_util::stream::iter(pieces).then(|piece| async {
        yield_now().await;
        piece
    });
    BodyExt::boxed_unsync(StreamBody::new(slowly))
}

#[expect(clippy::unnecessary_wraps, reason = "a piece of a body may be an error")]
pub(crate) fn data(bytes: impl Into<Bytes>) -> Piece {
    Ok(Frame::data(bytes.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "a piece of a body may be an error")]
pub(crate) fn trailers(name: &'static str, value: &'static str) -> Piece {
    let pair = (HeaderName::from_static(name), HeaderValue::from_static(value));
    Ok(Frame::trailers(HeaderMap::from_iter([pair])))
}

pub(crate) fn broken() -> Piece {
    Err(io::Error::other("the connection was reset"))
}

pub(crate) fn request(method: Method, uri: &str, key: &str, body: impl Into<Bytes>) -> Req {
    let request = Request::builder().method(method).uri(uri);
    request.header("idempotency-key", key).body(full(body)).unwrap()
}

pub(crate) fn post(key: &str, body: impl Into<Bytes>) -> Req {
    request(Method::POST, "/orders", key, body)
}

pub(crate) fn post_without_key(body: impl Into<Bytes>) -> Req {
    Request::post("/orders").body(full(body)).unwrap()
}

/// The request with one more header field.
pub(crate) fn with(mut request: Req, name: &'static str, value: &str) -> Req {
    request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    request
}

pub(crate) fn response(status: u16, body: impl Into<Bytes>) -> Res {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    /// Increments the count and returns it.
    pub(crate) fn one(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A gate at which handlers wait.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(1000);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

pub(crate) fn handler<F, Fut>(run: F) -> Handler
where
    F: Fn(Req) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Res> + Send + 'static,
{
    try_handler(move |request| {
        let answer = run(request);
        async { Ok(answer.await) }
    })
}

pub(crate) fn try_handler<F, Fut>(run: F) -> Handler
where
    F: Fn(Req) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Res, io::Error>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(run))
}

/// A handler that answers 201 with the number of its run.
pub(crate) fn counting(runs: &Count) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        let run = runs.one();
        async move { response(201, format!("run {run}")) }
    })
}

/// The same at a gate: counts when it begins, and answers when the gate opens.
pub(crate) fn gated(runs: &Count, gate: &Gate) -> Handler {
    let (runs, gate) = (runs.clone(), gate.clone());
    handler(move |_| {
        let (run, gate) = (runs.one(), gate.clone());
        async move {
            gate.pass().await;
            response(201, format!("run {run}"))
        }
    })
}

/// A handler that answers its first run with `first` and later ones with 201.
pub(crate) fn first_then_created<F>(runs: &Count, first: F) -> Handler
where
    F: Fn() -> Res + Clone + Send + Sync + 'static,
{
    let runs = runs.clone();
    handler(move |_| {
        let run = runs.one();
        let answer = if run == 1 { first() } else { response(201, format!("run {run}")) };
        async { answer }
    })
}

/// Returns the scope of a request: the header `x-tenant`, or "us".
#[expect(clippy::unnecessary_wraps, reason = "a scope may be nobody's")]
pub(crate) fn tenant(parts: &http::request::Parts) -> Option<Scope> {
    Some(Scope::of(parts.headers.get("x-tenant").map_or(&b"us"[..], HeaderValue::as_bytes)))
}

pub(crate) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::default())
}

/// A layer with the strict keys and final answers that most APIs have.
pub(crate) fn builder<St: Store>(store: St) -> Builder<St, Scoped> {
    IdempotencyLayer::builder(store).contract(Contract::veriko()).scope(tenant)
}

/// The handler behind a plain layer of its own.
pub(crate) fn protected(inner: Handler) -> IdempotencyService<Handler, Arc<MemoryStore>> {
    builder(memory()).build().layer(inner)
}

/// The handler behind a layer with this contract.
pub(crate) fn under(contract: Contract, inner: Handler) -> IdempotencyService<Handler, Arc<MemoryStore>> {
    builder(memory()).contract(contract).build().layer(inner)
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) rejection: Option<Rejection>,
}

impl Answer {
    /// Reads a response; a body that breaks off fails the test.
    pub(crate) async fn of(response: Res) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
            rejection: parts.extensions.get().cloned(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> Option<RejectionKind> {
        self.rejection.as_ref().map(Rejection::kind)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether it says that it is a replay, by the mark of most contracts.
    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// Status and text, as most assertions want them.
    pub(crate) fn brief(&self) -> (u16, &str) {
        (self.status, self.text())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) async fn send<S>(service: &S, request: Req) -> Answer
where
    S: Service<Req, Response = Res, Error: fmt::Debug> + Clone,
{
    // The clock is paused, so a test whose answer never comes fails at once.
    let answer = timeout(Duration::from_mins(20), service.clone().oneshot(request)).await;
    Answer::of(answer.expect("an answer within twenty minutes").unwrap()).await
}

/// Sends a request on a task of its own.
pub(crate) fn start<S>(service: &S, request: Req) -> JoinHandle<Answer>
where
    S: Service<Req, Response = Res, Error: fmt::Debug> + Clone + Send + 'static,
    S::Error: Send,
    S::Future: Send,
{
    let service = service.clone();
    let answer = timeout(Duration::from_mins(20), service.oneshot(request));
    tokio::spawn(
        async move { Answer::of(answer.await.expect("an answer within twenty minutes").unwrap()).await },
    )
}

/// Lets all tasks run until none can go on, without moving the paused clock.
pub(crate) async fn settle() {
    for _ in 0..64 {
        yield_now().await;
    }
}

/// Polls a future once.
pub(crate) async fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Reads the paused clock.
#[expect(clippy::disallowed_methods, reason = "a test holds the clock that it reads")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Begins a request and leaves it as if its process had died: it is never polled again and never dropped.
pub(crate) async fn die_during<S>(service: &S, request: Req)
where
    S: Service<Req, Response = Res, Error: fmt::Debug> + Clone,
    S::Future: 'static,
{
    let mut future = Box::pin(service.clone().oneshot(request));
    for _ in 0..16 {
        assert!(poll(&mut future).await.is_pending(), "the handler ended before its process");
    }
    std::mem::forget(future);
}
