//! The same stack with the words and the rules of the `TXCloud` API.

use axum::routing::post;
use retry_scheduler::WorkerHandle;

use super::*;
use crate::accounts::Environment;
use crate::txcloud::engines::{EngineFault, Engines, RiskLevel, kyb};
use crate::txcloud::{self, Txcloud};
use crate::webhooks::tests::telling;

/// One operation, `POST /it`, whose first answer has this status and every later one 200.
fn first_answering(status: u16) -> Router {
    let runs = Arc::new(AtomicU32::new(0));
    serving(post(async move || match runs.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::from_u16(status).unwrap(),
        _ => StatusCode::OK,
    }))
}

fn serving(handler: MethodRouter) -> Router {
    let config = load("").unwrap();
    let vendor = Txcloud::new(&config.txcloud);
    let (api, _) = one_route(vendor, &config.idempotency, handler, Access::Key);
    app(Router::new(), vec![api.clone()], api.operations)
}

/// The answer, after a look at the headers that all have.
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
async fn what_is_below_500_is_stored_but_for_what_passes() {
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
async fn every_refusal_has_its_id_and_says_how_many_requests_are_left() {
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

/// An engine of somebody's own, for which no business is what it says.
#[derive(Debug)]
struct Careful;

#[async_trait::async_trait]
impl kyb::Engine for Careful {
    async fn judge(&self, of: Environment, case: &kyb::Case) -> Result<kyb::Findings, EngineFault> {
        if case.legal_name == "Nobody" {
            return Err(EngineFault("out of order: kyb-7.internal".into()));
        }
        assert_eq!((of, case.legal_name.as_str()), (Environment::Test, "Bakery"));
        let checks = kyb::Checks::default();
        Ok(kyb::Findings { status: kyb::KybStatus::Failed, risk_level: RiskLevel::Critical, checks })
    }
}

#[tokio::test]
async fn an_engine_can_be_replaced_alone_by_naming_another() {
    let config = load("").unwrap();
    let engines = Engines { kyb: Arc::new(Careful), ..Engines::sandbox() };
    let database = Database::open("sqlite::memory:").await.unwrap();
    let api =
        txcloud::Api::new(database.clone(), WorkerHandle::default(), engines, telling(), &config.txcloud);
    let api = Arc::new(api);
    let operations = txcloud::routes().into_iter().map(|route| route.with_state(&api)).collect();
    let mut stacks = Stacks::new(config.idempotency, database, true, 1);
    let router = stacks.stack(Txcloud::new(&config.txcloud), operations).operations;
    let entity = json!({"type": "individual", "name": "Amina Exemple"});
    let business = json!({"legal_name": "Bakery", "registration_number": "RC-1", "country": "MA"});
    let ask = async |path: &str, body: Value| {
        let request = Request::post(path).header("authorization", "Bearer txc_test_abc123def456");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { parts, body: serde_json::from_slice(&body).unwrap() }
    };
    assert_eq!(ask("/kyb/verify", json!({"business": business})).await.body["status"], "failed");
    assert_eq!(ask("/watchlist/screen", json!({"entity": entity})).await.body["status"], "clear");

    let business = json!({"legal_name": "Nobody", "registration_number": "RC-1", "country": "MA"});
    let answer = ask("/kyb/verify", json!({"business": business})).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.body["error"]["retry_after"], 1);
    assert!(!answer.body.to_string().contains("kyb-7"), "{}", answer.body);
}
