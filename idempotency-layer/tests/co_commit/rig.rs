//! A layer on a new database, with handlers that use its transaction.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use idempotency_layer::{
    Builder, CoCommit, Contract, IdempotencyLayer, Rejection, RejectionKind, ReplayBody, Scoped, Store,
};
use sqlx::Pool;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

use crate::database::Bench;

pub(crate) type Body = ReplayBody<Full<Bytes>>;
pub(crate) type Service = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

pub(crate) struct Rig<DB: Bench> {
    pub(crate) pool: Pool<DB>,
    pub(crate) layer: IdempotencyLayer<DB::Records>,
    _place: DB::Place,
}

impl<DB: Bench> Rig<DB> {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(
        set: impl FnOnce(Builder<DB::Records, Scoped>) -> Builder<DB::Records, Scoped>,
    ) -> Self {
        Self::small(32, set).await
    }

    /// Creates a layer for each way to claim: leased, and in the transaction.
    pub(crate) async fn both_ways() -> [Self; 2] {
        [Self::new().await, Self::with(Builder::claim_in_transaction).await]
    }

    /// Creates a layer on a pool of `connections`.
    pub(crate) async fn small(
        connections: u32,
        set: impl FnOnce(Builder<DB::Records, Scoped>) -> Builder<DB::Records, Scoped>,
    ) -> Self {
        let (place, store, pool) = DB::open_with(connections).await;
        Self::on(place, set(builder(store)), pool)
    }

    pub(crate) fn on(place: DB::Place, builder: Builder<DB::Records, Scoped>, pool: Pool<DB>) -> Self {
        Self { pool, layer: builder.build(), _place: place }
    }

    pub(crate) fn serve<F, Fut>(&self, runs: &Count, handler: F) -> Service
    where
        F: Fn(usize, CoCommit<DB>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        serve(&self.layer, runs, handler)
    }

    /// Creates a layer on the same database, as in another process.
    pub(crate) async fn another(
        &self,
        set: impl FnOnce(Builder<DB::Records, Scoped>) -> Builder<DB::Records, Scoped>,
    ) -> IdempotencyLayer<DB::Records> {
        set(builder(DB::open_again(&self.pool).await)).build()
    }

    /// A handler that writes a row with the number of its run and answers with this status.
    pub(crate) fn writing(&self, runs: &Count, status: u16) -> Service {
        self.serve(runs, move |run, co_commit| async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            answer(status, run)
        })
    }

    /// The same behind a gate: counts its run, and writes and answers when the gate opens.
    pub(crate) fn writing_at(&self, gate: &Gate, runs: &Count, status: u16) -> Service {
        let gate = gate.clone();
        self.serve(runs, move |run, co_commit| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
                answer(status, run)
            }
        })
    }

    pub(crate) async fn rows(&self) -> Vec<String> {
        DB::rows(&self.pool).await
    }

    /// Checks that a write of the application is committed at once, and that no connection is inside a transaction.
    pub(crate) async fn writes_are_visible(&self, row: &str) {
        let mut beside = DB::beside(&self.pool).await;
        let written = tokio::time::timeout(Duration::from_secs(20), async {
            DB::insert(&mut *self.pool.acquire().await.unwrap(), row).await.unwrap();
        });
        written.await.expect("a connection, and no lock on the row");
        assert!(DB::has_row(&mut beside, row).await, "{row} was written within a transaction of others");
        DB::nobody_is_in_a_transaction(&mut beside).await;
    }

    pub(crate) async fn records(&self) -> i64 {
        DB::records(&self.pool).await
    }

    pub(crate) async fn end_leases(&self) {
        DB::end_leases(&self.pool).await;
    }

    pub(crate) async fn detached_are_done(&self) {
        self.layer.shutdown().await;
    }
}

pub(crate) fn builder<St: Store>(store: St) -> Builder<St, Scoped> {
    IdempotencyLayer::builder(store).contract(Contract::veriko()).single_tenant()
}

/// Puts a handler behind the layer. It gets the number of its run.
pub(crate) fn serve<DB, St, F, Fut>(layer: &IdempotencyLayer<St>, runs: &Count, handler: F) -> Service
where
    DB: Bench,
    St: Store,
    F: Fn(usize, CoCommit<DB>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let runs = runs.clone();
    BoxCloneSyncService::new(layer.layer(service_fn(move |request: Request<Body>| {
        let co_commit = request.extensions().get::<CoCommit<DB>>().expect("a transaction is lent").clone();
        let answered = handler(runs.one(), co_commit);
        async move { Ok(answered.await) }
    })))
}

/// The same for a handler that also gets the key.
pub(crate) fn serve_keyed<DB, St, F, Fut>(layer: &IdempotencyLayer<St>, runs: &Count, handler: F) -> Service
where
    DB: Bench,
    St: Store,
    F: Fn(String, usize, CoCommit<DB>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let runs = runs.clone();
    BoxCloneSyncService::new(layer.layer(service_fn(move |request: Request<Body>| {
        let co_commit = request.extensions().get::<CoCommit<DB>>().expect("a transaction is lent").clone();
        let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
        let answered = handler(key, runs.one(), co_commit);
        async move { Ok(answered.await) }
    })))
}

pub(crate) fn answer(status: u16, run: usize) -> Response<Body> {
    let body = ReplayBody::new(Full::new(Bytes::from(format!("run {run}"))));
    Response::builder().status(status).body(body).unwrap()
}

pub(crate) fn post(key: &str) -> Request<Body> {
    let mut request = post_without_key();
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

pub(crate) fn post_without_key() -> Request<Body> {
    Request::post("/payments").body(ReplayBody::new(Full::new(Bytes::from_static(b"{}")))).unwrap()
}

pub(crate) fn request(keyed: bool, key: &str) -> Request<Body> {
    if keyed { post(key) } else { post_without_key() }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) replay: bool,
    pub(crate) kind: Option<RejectionKind>,
}

pub(crate) async fn send(service: &Service, request: Request<Body>) -> Answer {
    let answer = tokio::time::timeout(Duration::from_mins(1), service.clone().oneshot(request));
    let (parts, body) = answer.await.expect("an answer within a minute").unwrap().into_parts();
    Answer {
        status: parts.status.as_u16(),
        replay: parts.headers.get("idempotent-replayed").is_some_and(|mark| mark == "true"),
        kind: parts.extensions.get().map(Rejection::kind),
        text: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    }
}

/// Sends a request on a task of its own.
pub(crate) fn start(service: &Service, request: Request<Body>) -> JoinHandle<Answer> {
    let service = service.clone();
    tokio::spawn(async move { send(&service, request).await })
}

/// Sends a request whose client disconnects during its run.
pub(crate) async fn leave_during(service: &Service, request: Request<Body>, runs: &Count) {
    let run = runs.get() + 1;
    let client = start(service, request);
    runs.reaches(run).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
}

/// Polls a future at most this many times and then drops it. Returns `None` if it was not ready.
pub(crate) async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let (mut future, mut polled) = (Box::pin(future), 0);
    std::future::poll_fn(move |cx| {
        polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polled >= polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Reads the real clock, for tests that wait for a server.
#[expect(clippy::disallowed_methods, reason = "the server's time passes by itself")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Counts the runs of a handler.
#[derive(Clone)]
pub(crate) struct Count(Arc<watch::Sender<usize>>);

impl Default for Count {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Count {
    pub(crate) fn one(&self) -> usize {
        let mut count = 0;
        self.0.send_modify(|runs| {
            *runs += 1;
            count = *runs;
        });
        count
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    pub(crate) async fn reaches(&self, runs: usize) {
        let mut seen = self.0.subscribe();
        tokio::time::timeout(Duration::from_mins(1), seen.wait_for(|seen| *seen >= runs))
            .await
            .unwrap()
            .unwrap();
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
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
