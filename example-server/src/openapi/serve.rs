//! `/openapi.json`, for whoever can reach the port.

use axum::Router;
use axum::routing::get;
use http::header;
use serde_json::Value;

/// What serves this document.
pub(crate) fn routes(document: &Value) -> Router {
    let document = bytes::Bytes::from(document.to_string());
    Router::new().route(
        "/openapi.json",
        get(async move || ([(header::CONTENT_TYPE, "application/json")], document.clone())),
    )
}
