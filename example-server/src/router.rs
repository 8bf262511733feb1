//! The program's routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, StatusCode, header};
use platform::ops;
use platform::stack::{BuiltApi, method_not_allowed, not_found};
use tower::ServiceExt;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

/// Builds the router: the APIs below `/v1`, the APIs without a prefix also at the root, and `ops`.
///
/// Errors for `ops` and for unknown paths outside `/v1` use the envelope of the first API.
pub(crate) fn router(ops: Router, apis: Vec<BuiltApi>) -> Router {
    let mut root =
        Router::new().merge(ops).fallback(not_found).method_not_allowed_fallback(method_not_allowed);
    if let Some(first) = apis.first() {
        root = (first.apply_envelope)(root);
    }
    let mut v1 = Router::new();
    for api in &apis {
        v1 = v1.merge(api.operations.clone());
        if api.at_root {
            root = root.merge(api.operations.clone());
        }
    }
    let apis: Arc<[BuiltApi]> = apis.into();
    let v1 = v1.fallback(move |request: Request| fallback(Arc::clone(&apis), request));
    root.nest("/v1", v1)
        .layer(from_fn(ops::observe))
        // This layer comes first, so that whatever prints these headers prints "Sensitive".
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, IDEMPOTENCY_KEY]))
}

/// Answers an unknown path with the API that the request's key belongs to, or else with the first.
async fn fallback(apis: Arc<[BuiltApi]>, request: Request) -> Response {
    let owner = apis.iter().find(|api| (api.matches_key)(request.headers())).or(apis.first());
    match owner.map(|api| api.fallback.clone()) {
        Some(fallback) => fallback.oneshot(request).await.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[cfg(test)]
mod tests;
