//! The same stack with the errors and the rules of the `TXCloud` API.

use axum::routing::post;
use vendor_txcloud::Txcloud;

use super::*;

/// Returns a router with one operation, `POST /it`. Its first response has this status, later ones
/// have 200.
fn first_answering(status: u16) -> Router {
    let runs = Arc::new(AtomicU32::new(0));
    serving(post(async move || match runs.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::from_u16(status).unwrap(),
        _ => StatusCode::OK,
    }))
}

fn serving(handler: MethodRouter) -> Router {
    let (api, _) = one_route(Txcloud::defaults(), load("").unwrap(), handler, Access::Key);
    router(Router::new(), vec![api])
}

/// Sends a request and checks the headers that every response has.
async fn ask(router: &Router, path: &str, key: Option<&str>) -> Answer {
    let mut request = Request::post(path).header("idempotency-key", "one-and-the-same");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = Answer { parts, body: serde_json::from_slice(&body).unwrap_or_default() };
    assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "{:?}", answer.parts);
    for number in ["limit", "remaining", "reset", "window"] {
        assert!(answer.header(&format!("x-ratelimit-{number}")).is_some(), "{number}: {:?}", answer.parts);
    }
    answer
}

const KEY: Option<&str> = Some("txc_test_abc123def456");

#[tokio::test(start_paused = true)]
async fn responses_below_500_are_stored_except_for_temporary_ones() {
    for (status, stored) in [
        (200, true),
        (201, true),
        (202, true),
        (400, true),
        (401, false),
        (403, true),
        (404, true),
        (408, false),
        (409, true),
        (410, true),
        (422, true),
        (425, false),
        (429, false),
        (499, true),
        (500, false),
        (502, false),
        (503, false),
    ] {
        let router = first_answering(status);
        let first = ask(&router, "/v1/it", KEY).await;
        assert_eq!((first.status(), first.header("idempotent-replayed")), (status, None));
        let second = ask(&router, "/it", KEY).await;
        let replayed = second.header("idempotent-replayed") == Some("true");
        assert_eq!((second.status(), replayed), if stored { (status, true) } else { (200, false) });
    }
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_a_request_id_and_rate_limit_headers() {
    let panics = serving(post(async || -> StatusCode { panic!("the secret ingredient") }));
    for (path, key, status, code) in [
        ("/it", None, 401, "unauthorized"),
        ("/v1/it", None, 401, "unauthorized"),
        ("/it", KEY, 500, "internal_error"),
        ("/v1/it", KEY, 500, "internal_error"),
        ("/identity", KEY, 404, "not_found"),
        ("/v1/kyb/", KEY, 404, "not_found"),
        ("/lending/nothing/at/all", KEY, 404, "not_found"),
        ("/v1/watchlist/nothing", None, 401, "unauthorized"),
    ] {
        let answer = ask(&panics, path, key).await;
        let error = &answer.body["error"];
        assert_eq!((answer.status(), &error["code"]), (status, &json!(code)), "{path}");
        assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"), "{path}");
        assert!(!answer.body.to_string().contains("ingredient"), "{}", answer.body);
    }
}
