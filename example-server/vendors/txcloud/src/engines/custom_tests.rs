//! Tests with a custom engine.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use platform::api_key::Environment;
use platform::db::Database;
use platform::testing;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::api::Api;
use crate::config::DEFAULTS;
use crate::{Txcloud, routes};

/// A custom engine that rejects every business.
#[derive(Debug)]
struct RejectsAll;

#[async_trait::async_trait]
impl kyb::Engine for RejectsAll {
    async fn judge(&self, environment: Environment, case: &kyb::Case) -> Result<kyb::Findings, EngineError> {
        if case.legal_name == "Nobody" {
            return Err(EngineError("out of order: kyb-7.internal".into()));
        }
        assert_eq!((environment, case.legal_name.as_str()), (Environment::Test, "Bakery"));
        let checks = kyb::Checks::default();
        Ok(kyb::Findings { status: kyb::KybStatus::Failed, risk_level: RiskLevel::Critical, checks })
    }
}

#[tokio::test]
async fn a_single_engine_can_be_replaced() {
    let engines = Engines { kyb: Arc::new(RejectsAll), ..Engines::sandbox() };
    let platform = testing::platform(&Database::open("sqlite::memory:").await.unwrap());
    let config = testing::config(&[DEFAULTS], "").unwrap().section("txcloud").unwrap();
    let api = Arc::new(Api::new(&platform, engines, &config).unwrap());
    let operations = routes().into_iter().map(|route| route.with_state(&api)).collect();
    let router = testing::api_builder(&platform).build(Txcloud::new(&config), operations).operations;
    let entity = json!({"type": "individual", "name": "Amina Exemple"});
    let business = json!({"legal_name": "Bakery", "registration_number": "RC-1", "country": "MA"});
    let ask = async |path: &str, body: Value| {
        let request = Request::post(path).header("authorization", "Bearer txc_test_abc123def456");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice::<Value>(&body).unwrap())
    };
    assert_eq!(ask("/kyb/verify", json!({"business": business})).await.1["status"], "failed");
    assert_eq!(ask("/watchlist/screen", json!({"entity": entity})).await.1["status"], "clear");

    let business = json!({"legal_name": "Nobody", "registration_number": "RC-1", "country": "MA"});
    let (parts, body) = ask("/kyb/verify", json!({"business": business})).await;
    assert_eq!((parts.status.as_u16(), parts.headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(body["error"]["retry_after"], 1);
    assert!(!body.to_string().contains("kyb-7"), "{body}");
}
