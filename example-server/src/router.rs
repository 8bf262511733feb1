//! Every route of the program.

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

/// Everything that is served: the APIs below `/v1`, those that have no prefix at the root as well, and `ops`. What belongs
/// to no API, and paths where nothing is, have the envelope of the first.
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
        // Before anything can look at them: whatever prints these headers prints "Sensitive".
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, IDEMPOTENCY_KEY]))
}

/// Where there is nothing, the API answers whose key it is; a key of no API is refused by the first one.
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
