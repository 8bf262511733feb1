//! The order of layers in `docs/STACK-ORDER.md`, line by line: what holds on the right side of the idempotency layer, and what
//! goes wrong on the other side.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderValue, StatusCode, header};
use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore, RejectionKind, RequestOutcome, Scope};
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::PropagateRequestIdLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::support::{Count, builder, memory};

type Idempotency = IdempotencyLayer<Arc<MemoryStore>>;

/// The position of a layer, relative to the idempotency layer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Outside,
    Inside,
}

use Side::{Inside, Outside};

/// The router with one other layer on this side of the idempotency layer.
macro_rules! stack {
    ($router:expr, $idempotency:expr, $side:expr, $other:expr) => {
        match $side {
            Outside => $router.layer($idempotency).layer($other),
            Inside => $router.layer($other).layer($idempotency),
        }
    };
}

fn idempotency() -> Idempotency {
    builder(memory()).build()
}

/// Long enough to be compressed.
fn text(run: usize) -> String {
    format!("run {run}: {}", "a payment ".repeat(20))
}

fn counting(runs: &Count) -> Router {
    let runs = runs.clone();
    let run = move || {
        let run = runs.one();
        async move { (StatusCode::CREATED, text(run)) }
    };
    Router::new().route("/payments", post(run))
}

fn pay(fields: &[(&'static str, &'static str)]) -> Request {
    let request = Request::post("/payments").header("idempotency-key", "key");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::from("1200")).unwrap()
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
    outcome: RequestOutcome,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn is_replay(&self) -> bool {
        matches!(self.outcome, RequestOutcome::Replayed { .. })
    }
}

async fn send(app: &Router, request: Request) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let outcome = RequestOutcome::of(&response);
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, outcome }
}

#[tokio::test(start_paused = true)]
async fn a_trace_outside_sees_runs_replays_and_rejections() {
    for (side, seen) in [(Outside, vec!["ran", "replayed", "rejected"]), (Inside, vec!["unkeyed"])] {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let written = outcomes.clone();
        let trace = TraceLayer::new_for_http().on_response(move |response: &Response, _, _: &Span| {
            written.lock().unwrap().push(match RequestOutcome::of(response) {
                RequestOutcome::Ran { .. } => "ran",
                RequestOutcome::Replayed { .. } => "replayed",
                RequestOutcome::Rejected(_) => "rejected",
                _ => "unkeyed",
            });
        });
        let app = stack!(counting(&Count::default()), idempotency(), side, trace);
        send(&app, pay(&[])).await;
        send(&app, pay(&[])).await;
        let reused = Request::post("/payments").header("idempotency-key", "key").body(Body::from("1300"));
        send(&app, reused.unwrap()).await;
        assert_eq!(*outcomes.lock().unwrap(), seen, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_id_outside_is_that_of_the_retry() {
    for (side, id) in [(Outside, "second"), (Inside, "first")] {
        let other = PropagateRequestIdLayer::x_request_id();
        let app = stack!(counting(&Count::default()), idempotency(), side, other);
        assert_eq!(send(&app, pay(&[("x-request-id", "first")])).await.header("x-request-id"), Some("first"));
        let retry = send(&app, pay(&[("x-request-id", "second")])).await;
        assert_eq!((retry.header("x-request-id"), retry.is_replay()), (Some(id), true), "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn cors_outside_answers_the_origin_of_the_retry() {
    for (side, origin) in [(Outside, "https://b.example"), (Inside, "https://a.example")] {
        let other = CorsLayer::new().allow_origin(AllowOrigin::mirror_request());
        let app = stack!(counting(&Count::default()), idempotency(), side, other);
        send(&app, pay(&[("origin", "https://a.example")])).await;
        let retry = send(&app, pay(&[("origin", "https://b.example")])).await;
        let allowed = retry.header("access-control-allow-origin");
        assert_eq!((allowed, retry.is_replay()), (Some(origin), true), "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn compression_outside_encodes_a_replay_for_the_client_that_gets_it() {
    for (side, encoding) in [(Outside, None), (Inside, Some("gzip"))] {
        let app =
            stack!(counting(&Count::default()), idempotency(), side, CompressionLayer::new().gzip(true));
        let first = send(&app, pay(&[("accept-encoding", "gzip")])).await;
        assert_eq!(first.header("content-encoding"), Some("gzip"), "{side:?}");
        // This client does not accept gzip.
        let retry = send(&app, pay(&[])).await;
        assert_eq!((retry.header("content-encoding"), retry.is_replay()), (encoding, true), "{side:?}");
        assert_eq!(retry.body == text(1).as_bytes(), side == Outside, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_answers_the_client_and_the_handler_finishes_for_the_retry() {
    for (side, runs_in_the_end) in [(Outside, 1), (Inside, 2)] {
        let (runs, idempotency) = (Count::default(), idempotency());
        let counted = runs.clone();
        let slow = move || {
            let run = counted.one();
            async move {
                if run == 1 {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                (StatusCode::CREATED, text(run))
            }
        };
        let router = Router::new().route("/payments", post(slow));
        let other = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1));
        let app = stack!(router, idempotency.clone(), side, other);
        assert_eq!(send(&app, pay(&[])).await.status, 408, "{side:?}");
        idempotency.shutdown().await;
        // Inside, the time-out drops the handler. A 408 is not stored, so the retry runs.
        let retry = send(&app, pay(&[])).await;
        assert_eq!((retry.status, retry.is_replay()), (201, side == Outside), "{side:?}");
        assert_eq!(runs.get(), runs_in_the_end, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_limit_outside_refuses_a_request_before_its_key_is_used() {
    for (side, status) in [(Outside, 201), (Inside, 422)] {
        let app = stack!(counting(&Count::default()), idempotency(), side, RequestBodyLimitLayer::new(5));
        let long = Request::post("/payments").header("idempotency-key", "key").header("content-length", 10);
        assert_eq!(send(&app, long.body(Body::from("0123456789")).unwrap()).await.status, 413, "{side:?}");
        // Inside, the 413 is the stored response of this key, and a shorter body is another request.
        assert_eq!(send(&app, pay(&[])).await.status, status, "{side:?}");
    }
}

/// The account of a request.
#[derive(Clone)]
struct Account(String);

async fn authenticate(mut request: Request, next: Next) -> Response {
    let Some(account) = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
    else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let account = Account(account.to_owned());
    request.extensions_mut().insert(account);
    next.run(request).await
}

fn account(parts: &http::request::Parts) -> Option<Scope> {
    parts.extensions.get::<Account>().map(|account| Scope::of(&account.0))
}

#[tokio::test(start_paused = true)]
async fn authentication_outside_names_the_scope_and_a_401_uses_no_key() {
    let runs = Count::default();
    let layer = || IdempotencyLayer::builder(memory()).contract(Contract::veriko()).scope(account).build();
    let app = stack!(counting(&runs), layer(), Outside, from_fn(authenticate));
    assert_eq!(send(&app, pay(&[])).await.status, 401);
    for (account, run) in [("alice", 1), ("bob", 2), ("alice", 1)] {
        let answer = send(&app, pay(&[("authorization", account)])).await;
        assert_eq!((answer.status, answer.body), (201, text(run).into_bytes()), "{account}");
    }

    let app = stack!(counting(&runs), layer(), Inside, from_fn(authenticate));
    let answer = send(&app, pay(&[("authorization", "alice")])).await;
    let missing = RequestOutcome::Rejected(RejectionKind::ScopeMissing);
    assert_eq!((answer.status, answer.outcome), (500, missing));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_inside_is_not_spent_by_replays() {
    for (side, status) in [(Inside, 201), (Outside, 429)] {
        let spent = Count::default();
        let limit = from_fn(move |request: Request, next: Next| {
            let spent = spent.one();
            async move {
                if spent > 1 {
                    StatusCode::TOO_MANY_REQUESTS.into_response()
                } else {
                    next.run(request).await
                }
            }
        });
        let app = stack!(counting(&Count::default()), idempotency(), side, limit);
        assert_eq!(send(&app, pay(&[])).await.status, 201, "{side:?}");
        for _ in 0..3 {
            assert_eq!(send(&app, pay(&[])).await.status, status, "{side:?}");
        }
        // A request with another key spends, and its 429 is not stored.
        let other = || Request::post("/payments").header("idempotency-key", "other").body(Body::from("1"));
        for _ in 0..2 {
            let refused = send(&app, other().unwrap()).await;
            assert_eq!((refused.status, refused.is_replay()), (429, false), "{side:?}");
        }
    }
}

/// Stands for your rate limit.
async fn limit(request: Request, next: Next) -> Response {
    next.run(request).await
}

fn app(router: Router) -> Router {
    let idempotency = IdempotencyLayer::builder(MemoryStore::default()).scope(account).build();
    // The layer that is added last is the outermost.
    router
        .route_layer(from_fn(limit))
        .route_layer(idempotency)
        .route_layer(from_fn(authenticate))
        .layer(RequestBodyLimitLayer::new(64 * 1024))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::new().allow_origin(AllowOrigin::mirror_request()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http())
}

#[tokio::test(start_paused = true)]
async fn the_whole_stack_replays_for_the_client_that_asks() {
    let app = app(counting(&Count::default()));
    let key = ("idempotency-key", "\"key\"");
    let fields = |origin, id, encoding| {
        let mut request = pay(&[
            ("authorization", "alice"),
            ("origin", origin),
            ("x-request-id", id),
            ("accept-encoding", encoding),
        ]);
        request.headers_mut().insert(key.0, HeaderValue::from_static(key.1));
        request
    };
    let first = send(&app, fields("https://a.example", "1", "gzip")).await;
    assert_eq!((first.status, first.is_replay()), (201, false));
    let retry = send(&app, fields("https://b.example", "2", "identity")).await;
    assert_eq!((retry.status, retry.is_replay()), (201, true));
    assert_eq!(retry.header("access-control-allow-origin"), Some("https://b.example"));
    assert_eq!(retry.header("x-request-id"), Some("2"));
    assert_eq!((retry.header("content-encoding"), &*retry.body), (None, text(1).as_bytes()));
}

#[test]
fn the_stack_of_the_page_is_the_one_that_is_tested_here() {
    let page = include_str!("../../../docs/STACK-ORDER.md");
    let block = page.split("```").find_map(|block| block.strip_prefix("rust\n")).expect("the stack");
    let function = block.trim();
    assert!(
        function.starts_with("fn app") && include_str!("stack_order.rs").contains(function),
        "{function}"
    );
}
