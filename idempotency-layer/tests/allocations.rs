//! Allocations of the layer, and the memory of its records. `docs/PERFORMANCE.md` states the bounds.
//!
//! Only the thread of the test counts, which also drives the runtime, so other tests do not disturb it.

#![expect(clippy::print_stdout, reason = "the figures behind the bounds, for `--nocapture`")]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use allocation_counter::measure;
use axum::Router;
use axum::body::Body;
use axum::routing::{Route, post};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use idempotency_layer::{IdempotencyLayer, IdempotencyService, MemoryStore, Scope};
use tokio::runtime::Runtime;
use tower::layer::layer_fn;
use tower::{Layer, Service, ServiceExt, service_fn};

/// The allocations of a first keyed request, beyond those of the bare handler with one more extension.
const FIRST: u64 = 10;
/// The allocations of a retry, which runs no handler.
const REPLAY: u64 = 10;
/// The bytes of an entry, beyond its response and its key.
const ENTRY_BYTES: i64 = 250;

const BODY_BYTES: usize = 1024;
/// A buffer like the one into which a connection is read.
const BUFFER_BYTES: usize = 64 * 1024;

#[test]
fn a_request_without_a_key_allocates_nothing() {
    let runtime = runtime();
    let echo =
        |request: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(request.into_body())) };
    let layered = layer().layer(service_fn(echo));
    let request = || Request::post("/echo").body(Full::new(body())).expect("a request");
    assert_eq!(allocations(&runtime, &layered, request()), 0);
}

/// A request that the contract does not concern is offered no transaction.
#[cfg(feature = "sqlite")]
#[test]
fn a_request_that_the_contract_leaves_out_allocates_nothing_on_a_store_that_shares_its_database() {
    use idempotency_layer::SqliteStore;
    let runtime = runtime();
    let store = runtime.block_on(async {
        let options = sqlx::sqlite::SqlitePoolOptions::new();
        SqliteStore::new(options.connect_lazy("sqlite::memory:").expect("a pool"))
    });
    let echo =
        |request: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(request.into_body())) };
    let layered = IdempotencyLayer::builder(store)
        .when(|parts| parts.uri.path() != "/search")
        .single_tenant()
        .build()
        .layer(service_fn(echo));
    for request in [Request::get("/echo"), Request::post("/search")] {
        let request = request.header(IDEMPOTENCY_KEY, "\"key\"").body(Full::new(body())).expect("a request");
        assert_eq!(allocations(&runtime, &layered, request), 0);
    }
}

#[test]
fn a_request_without_a_key_allocates_what_the_router_alone_does() {
    let runtime = runtime();
    let alone = allocations(&runtime, &router(), request(None));
    assert_eq!(allocations(&runtime, &layer().layer(router()), request(None)), alone, "around the router");

    // Axum clones a layer given to it into a box for each request, if there is anything to clone.
    let state = Arc::new(());
    let idle = layer_fn(move |route: Route| {
        black_box(&state);
        route
    });
    let alone = allocations(&runtime, &router().layer(idle), request(None));
    assert_eq!(allocations(&runtime, &router().layer(layer()), request(None)), alone, "within the router");
}

#[test]
fn first_requests_and_replays_allocate_a_bounded_number_of_times() {
    let runtime = runtime();
    // `Idempotency` is an extension of the request. The cost of one more depends on how many axum has, by its features.
    let extension = Arc::new(0_u8);
    let extended = router().map_request(move |mut request: Request<Body>| {
        request.extensions_mut().insert(extension.clone());
        request
    });
    let bare = allocations(&runtime, &extended, request(None));
    let layered = with_entries(1_000, &runtime);
    // Sometimes a table of the store grows. The most frequent number is the median.
    let mut first: Vec<_> =
        (0..101).map(|new| allocations(&runtime, &layered, request(Some(&key(1_000 + new))))).collect();
    first.sort_unstable();
    let first = first[first.len() / 2] - bare;
    // The first replay makes the bytes of the record shared. A record that is never replayed saves that.
    let [shared, replay] = [(); 2].map(|()| allocations(&runtime, &layered, request(Some(&key(500)))));
    println!("bare {bare}, first keyed {first} more, replay {replay}");
    assert_eq!(first, FIRST, "first keyed: {first} more than the {bare} of the bare handler");
    assert_eq!(replay, REPLAY, "replay: {replay}");
    assert_eq!(shared, REPLAY + 1, "the first replay of a record: {shared}");
}

#[test]
fn an_entry_takes_its_response_its_key_and_at_most_250_bytes() {
    let runtime = runtime();
    let response = router().oneshot(request(None));
    let response = runtime.block_on(response).expect("an infallible service");
    let headers = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let size = i64::try_from(headers.sum::<usize>() + BODY_BYTES + key(0).len()).expect("a small response");

    let layered = with_entries(0, &runtime);
    let (mut kept, mut most) = (0, 0);
    // Just after the tables of the store have doubled, when they have the most spare room.
    for entries in 1..=30_000 {
        kept += bytes_kept(|| answer(&runtime, &layered, request(Some(&key(entries)))));
        if entries >= 10_000 {
            most = most.max(kept / entries - size);
        }
    }
    println!("an entry: {most} B beside the {size} B of its response and key");
    assert!(most <= ENTRY_BYTES, "{most} B beside the {size} B of response and key");
}

#[test]
fn a_replay_leaves_nothing_behind() {
    let runtime = runtime();
    let layered = with_entries(1, &runtime);
    let replay = || answer(&runtime, &layered, request(Some(&key(0))));
    replay();
    assert_eq!(bytes_kept(replay), 0);
}

#[test]
fn an_entry_does_not_hold_the_buffers_that_request_and_response_were_cut_from() {
    fn cut(text: &str) -> Bytes {
        let mut buffer = vec![0; BUFFER_BYTES];
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Bytes::from(buffer).slice(..text.len())
    }
    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_maybe_shared(cut(text)).expect("a header value")
    }
    async fn respond() -> Response<Body> {
        let mut response = Response::new(Body::from(cut("{}")));
        response.headers_mut().insert(header::LOCATION, header("/payments/17"));
        response
    }
    let runtime = runtime();
    let layered = layer().layer(Router::new().route("/echo", post(respond)));
    let entries = 100;
    let kept = bytes_kept(|| {
        for number in 0..entries {
            let mut request = Request::post("/echo").body(Body::from(cut("{}"))).expect("a request");
            request.headers_mut().insert(IDEMPOTENCY_KEY, header(&key(number)));
            answer(&runtime, &layered, request);
        }
    });
    assert!(kept / entries < 1024, "{} B an entry", kept / entries);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn layer() -> IdempotencyLayer<MemoryStore> {
    IdempotencyLayer::builder(MemoryStore::default()).scope(|_| Some(Scope::of("account 17"))).build()
}

fn router() -> Router {
    async fn echo(body: Bytes) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
    Router::new().route("/echo", post(echo))
}

fn with_entries(entries: i64, runtime: &Runtime) -> IdempotencyService<Router, MemoryStore> {
    let layered = layer().layer(router());
    for number in 0..entries {
        answer(runtime, &layered, request(Some(&key(number))));
    }
    layered
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// As long as a quoted UUID.
fn key(number: i64) -> String {
    format!("\"018f2c6e-7d3a-7b5c-{number:017x}\"")
}

fn body() -> Bytes {
    Bytes::from_static(&[b' '; BODY_BYTES])
}

fn request(key: Option<&str>) -> Request<Body> {
    let mut request = Request::post("/echo").body(Body::from(body())).expect("a request");
    if let Some(key) = key {
        request.headers_mut().insert(IDEMPOTENCY_KEY, key.parse().expect("a header value"));
    }
    request
}

/// Answers a request and reads the answer to its end.
fn answer<S, B, R>(runtime: &Runtime, service: &S, request: Request<B>)
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone,
    R: http_body::Body<Data = Bytes> + Unpin,
{
    runtime.block_on(async {
        let Ok(response) = service.clone().oneshot(request).await;
        assert!(response.status().is_success());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            assert!(frame.is_ok());
        }
    });
}

/// Counts the allocations of a request.
fn allocations<S, B, R>(runtime: &Runtime, service: &S, request: Request<B>) -> u64
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone,
    R: http_body::Body<Data = Bytes> + Unpin,
{
    runtime.block_on(async {}); // makes the thread's locals
    measure(|| answer(runtime, service, request)).count_total
}

/// Returns the bytes that were allocated and not freed.
fn bytes_kept(act: impl FnOnce()) -> i64 {
    measure(act).bytes_current
}
