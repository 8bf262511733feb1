//! Tests of the middleware stack with handlers that no API has: slow, failing and forbidden ones.

mod txcloud;

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::handler::Handler;
use axum::routing::{MethodRouter, put};
use http::{Method, Request};
use http_body_util::BodyExt;
use retry_scheduler::WorkerHandle;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower::ServiceExt;
use utoipa::openapi::path::Paths;

use idempotency_layer::{AnyStore, MemoryStore, PostgresStore};

use platform::Platform;
use platform::account::Permission;
use platform::db::{Database, Records, Storage};
use platform::encryption::Sealer;
use platform::route::{Access, BodySize, Described, Route};
use platform::stack::ApiBuilder;
use platform::vendor::Vendor;
use vendor_veriko::Veriko;

use super::*;
use crate::config::Config;
use crate::config::tests::load;

/// A server with one idempotent route, `PUT /v1/it`.
struct Server {
    router: Router,
    builder: ApiBuilder,
}

impl Server {
    fn of<T: 'static>(handler: impl Handler<T, ()>, needs: Option<Permission>) -> Self {
        Self::configured("", handler, needs)
    }

    fn configured<T: 'static>(config: &str, handler: impl Handler<T, ()>, needs: Option<Permission>) -> Self {
        let config = load(config).unwrap();
        let access = needs.map_or(Access::Key, Access::Permission);
        let (api, builder) = one_route(Veriko::defaults(), config, put(handler), access);
        Self { router: router(Router::new(), vec![api]), builder }
    }

    /// Sends a request with the demo key made of this digit.
    async fn put(&self, digit: char, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri("/v1/it")
            .header("authorization", format!("Bearer mxcep_{}", digit.to_string().repeat(64)))
            .header("idempotency-key", "the-key");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        // Time is paused in every test here, so a request that hangs ends at once.
        let answered = timeout(Duration::from_hours(1), self.router.clone().oneshot(request)).await;
        let (parts, body) = answered.expect("an answer").unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { parts, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}

/// An API with one idempotent route, `/it`.
fn one_route<V: Vendor>(
    vendor: V,
    config: Config,
    handler: MethodRouter,
    access: Access,
) -> (BuiltApi, ApiBuilder) {
    let records = Records::Elsewhere(AnyStore::new(MemoryStore::default()));
    let sealer = Arc::new(Sealer::new(None, None).unwrap());
    let platform = Platform::new(unreachable_database(), Storage::Memory, sealer, 1, true);
    let mut builder = ApiBuilder::with_records(config.idempotency, &config.limits, &platform, records);
    let described = Described { paths: Paths::new(), schemas: Vec::new() };
    let path = "/it".to_owned();
    let route = Route {
        path,
        handler,
        described,
        access,
        idempotent: true,
        in_transaction: false,
        body: BodySize::Usual,
    };
    (builder.build(vendor, vec![route]), builder)
}

/// No connection is made, because the demo keys need none. A real database does not work with
/// paused time.
fn unreachable_database() -> Database {
    let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
    Database::Postgres { records: PostgresStore::new(pool.clone()), pool, worker: WorkerHandle::default() }
}

struct Answer {
    parts: http::response::Parts,
    body: Value,
}

impl Answer {
    fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the code of the only error.
    fn code(&self) -> &str {
        assert_eq!(self.body["meta"]["request_id"].as_str(), self.header("x-request-id"), "{}", self.body);
        self.body["errors"][0]["code"].as_str().unwrap_or_else(|| panic!("{}", self.body))
    }
}

/// A handler that counts its runs and blocks in each until released.
#[derive(Clone, Default)]
struct Slow(Arc<(AtomicU32, Notify, Notify)>);

impl Slow {
    fn handler(&self) -> impl Handler<((),), ()> {
        let slow = self.clone();
        async move || {
            let (runs, begun, go) = &*slow.0;
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            begun.notify_one();
            go.notified().await;
            json!({"run": run}).to_string()
        }
    }

    async fn begun(&self) {
        timeout(Duration::from_hours(1), self.0.1.notified()).await.expect("a run");
    }

    fn go(&self) {
        self.0.2.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_request_is_answered_409_in_the_envelope_and_then_replayed() {
    let slow = Slow::default();
    let server = Arc::new(Server::of(slow.handler(), None));
    let first = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.put('1', &[]).await }
    });
    slow.begun().await;

    // The retry is answered at once: as time is paused, this time-out ends as soon as anything
    // waits.
    let second =
        timeout(Duration::from_millis(1), server.put('1', &[("accept-language", "es")])).await.unwrap();
    assert_eq!((second.status(), second.code()), (409, "idempotency_key_in_progress"));
    assert_eq!(second.header("retry-after"), Some("1"));
    assert_eq!(second.body["meta"]["retry_after"], 1);
    assert_eq!(second.header("idempotent-replayed"), Some("false"));
    assert_eq!(second.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(second.body["errors"][0]["detail"].as_str().unwrap().contains("sigue en proceso"));

    slow.go();
    assert_eq!(first.await.unwrap().body["run"], 1);
    let third = server.put('1', &[]).await;
    assert_eq!(
        (third.status(), third.header("idempotent-replayed"), &third.body["run"]),
        (200, Some("true"), &json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_first_request_as_long_as_the_configuration_says() {
    let slow = Slow::default();
    let server = Server::configured("[idempotency]\nwait_seconds = 20", slow.handler(), None);
    let second = async {
        slow.begun().await;
        assert!(timeout(Duration::from_secs(19), server.put('1', &[])).await.is_err(), "it did not wait");
        let (second, ()) = tokio::join!(server.put('1', &[]), async { slow.go() });
        second
    };
    let (first, second) = tokio::join!(server.put('1', &[]), second);
    assert_eq!((first.header("idempotent-replayed"), &first.body["run"]), (Some("false"), &json!(1)));
    assert_eq!((second.header("idempotent-replayed"), &second.body["run"]), (Some("true"), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_client_disconnected_finishes_and_shutdown_waits_for_it() {
    let slow = Slow::default();
    let server = Server::of(slow.handler(), None);
    tokio::select! {
        _ = server.put('1', &[]) => panic!("the handler was released early"),
        () = slow.begun() => {}
    }
    // The client has disconnected, but its request keeps running.
    assert_eq!(server.put('1', &[]).await.code(), "idempotency_key_in_progress");
    tokio::select! {
        biased;
        () = server.builder.shutdown() => panic!("it did not wait"),
        () = tokio::task::yield_now() => {}
    }
    slow.go();
    server.builder.shutdown().await;
    let retry = server.put('1', &[]).await;
    assert_eq!((retry.header("idempotent-replayed"), &retry.body["run"]), (Some("true"), &json!(1)));
    assert_eq!(slow.0.0.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_500_without_details_and_leaves_the_key_free() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let server = Server::of(
        async move || -> StatusCode {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("the secret ingredient");
        },
        None,
    );
    for run in 1..=3 {
        let answer = server.put('1', &[]).await;
        assert_eq!((answer.status(), answer.code()), (500, "internal_error"));
        assert!(!answer.body.to_string().contains("ingredient"));
        assert_eq!(runs.load(Ordering::SeqCst), run);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_not_stored_and_gets_the_envelope() {
    let runs = Arc::new(AtomicU32::new(0));
    let server = Server::of(
        async move || match runs.fetch_add(1, Ordering::SeqCst) {
            0 => (StatusCode::BAD_GATEWAY, "upstream db-7.internal said no").into_response(),
            _ => StatusCode::OK.into_response(),
        },
        None,
    );
    let first = server.put('1', &[]).await;
    assert_eq!((first.status(), first.code()), (502, "internal_error"));
    assert!(!first.body.to_string().contains("db-7"));
    let second = server.put('1', &[]).await;
    assert_eq!((second.status(), second.header("idempotent-replayed")), (200, Some("false")));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_the_permission_gets_403_and_nothing_runs() {
    let server = Server::of(async || StatusCode::OK, Some(Veriko::PERMISSIONS[1]));
    for (language, words) in [("en", "lacks the permission"), ("es", "no tiene el permiso")] {
        let answer = server.put('4', &[("accept-language", language)]).await;
        assert_eq!((answer.status(), answer.code()), (403, "forbidden"));
        assert!(answer.body["errors"][0]["detail"].as_str().unwrap().contains(words));
        assert_eq!(answer.header("idempotent-replayed"), None, "the layer was not reached");
    }
    assert_eq!(server.put('1', &[]).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_keeps_its_key() {
    let server = Server::of(async || pending::<StatusCode>().await, None);
    let first = server.put('1', &[]);
    let later = async {
        // For twenty leases.
        tokio::time::sleep(Duration::from_mins(10)).await;
        server.put('1', &[]).await
    };
    tokio::select! {
        biased;
        _ = first => panic!("it never ends"),
        answer = later => assert_eq!(answer.code(), "idempotency_key_in_progress"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_under_a_key_is_408_and_leaves_the_key_free() {
    let mut server = Server::of(async |_: bytes::Bytes| "done", None);
    server.router = server.router.layer(from_fn(platform::bodies::pace));
    let request = Request::put("/v1/it")
        .header("authorization", format!("Bearer mxcep_{}", "1".repeat(64)))
        .header("idempotency-key", "the-key");
    let answer = server.send(request.body(Body::new(StallingBody)).unwrap()).await;
    assert_eq!((answer.status(), answer.code()), (408, "request_timeout"));
    assert_eq!(server.put('1', &[]).await.status(), 200);
}

/// A body that never yields a frame.
struct StallingBody;

impl http_body::Body for StallingBody {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn replays_cost_nothing_until_there_are_far_too_many() {
    let server = Server::of(async || "done", None);
    // The plan allows 60 requests a minute.
    let mut answered = 0;
    loop {
        let answer = server.put('3', &[]).await;
        if answer.status() == 429 {
            assert_eq!(answer.code(), "rate_limit_exceeded");
            break;
        }
        assert_eq!(answer.status(), 200);
        answered += 1;
        assert!(answered < 6000, "there is an end");
    }
    assert!(answered >= 600, "{answered}");
}

#[tokio::test]
async fn every_api_opens_and_is_built_on_either_database() {
    for url in ["sqlite::memory:".to_owned(), private_postgres::shared_database()] {
        let config = load("").unwrap();
        let database = Database::open(&url).await.unwrap();
        let sealer = Arc::new(Sealer::new(None, None).unwrap());
        let platform = Platform::new(database, Storage::Memory, sealer, 1, true);
        let mut builder = ApiBuilder::new(config.idempotency, &config.limits, &platform);
        for open in config.apis {
            let api = open(&platform).unwrap();
            api.check_secrets().await.unwrap();
            let _ = api.build(&mut builder);
        }
        builder.shutdown().await;
    }
}
