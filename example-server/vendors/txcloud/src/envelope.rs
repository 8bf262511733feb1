//! The envelope of every response: JSON, `X-Request-Id`, and the format of errors.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use idempotency_layer::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::{ErrorType, Failure};
use super::free_form;
use platform::envelope::{self, ErrorRenderer};

/// What a response needs to know about its request.
#[derive(Debug, Clone)]
pub(super) struct Context {
    request_id: String,
}

impl ErrorRenderer for Context {
    fn of(_: &HeaderMap) -> Self {
        Self { request_id: format!("req_{}", envelope::random_id()) }
    }

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn rejected(&self, rejection: &Rejection) -> Response {
        self.fail(&Failure::of_rejection(rejection))
    }

    fn refused(&self, bare: &Response) -> Response {
        self.fail(&Failure::of_bare(bare))
    }
}

impl Context {
    /// Renders a success.
    pub(super) fn answer(&self, status: StatusCode, body: &impl Serialize) -> Response {
        self.render_json(status, free_form::to_json(body).into_bytes())
    }

    pub(super) fn fail(&self, failure: &Failure) -> Response {
        let error = ErrorBody {
            code: failure.code,
            message: &failure.message,
            r#type: failure.kind,
            param: failure.param.as_deref(),
            retry_after: failure.retry_after_seconds,
            request_id: &self.request_id,
        };
        self.render_failure(failure.status, failure.retry_after_seconds, &ErrorEnvelope { error })
    }
}

/// An error response.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorEnvelope<'a> {
    error: ErrorBody<'a>,
}

/// An error.
#[derive(Serialize, ToSchema)]
struct ErrorBody<'a> {
    /// The error code, for programs. Stable.
    #[schema(example = "missing_parameter")]
    code: &'static str,
    /// The error message, for people.
    #[schema(example = "document_front is required")]
    message: &'a str,
    r#type: ErrorType,
    /// The field with the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "document_front")]
    param: Option<&'a str>,
    /// When to retry, in seconds, as in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, example = 30)]
    retry_after: Option<u64>,
    /// The id of the request, as in the header `X-Request-Id`.
    #[schema(example = "req_a1b2c3d4e5f6", pattern = "^req_[0-9a-f]{12}$")]
    request_id: &'a str,
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http::{Request, header};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer(path: &str) -> (Response, serde_json::Value) {
        let bare = StatusCode::TOO_MANY_REQUESTS;
        let router = Router::new()
            .route("/bare", get(move || async move { (bare, [(header::RETRY_AFTER, "7")]) }))
            .route(
                "/fine",
                get(|context: axum::Extension<Context>| async move {
                    context.answer(StatusCode::CREATED, &serde_json::json!({"id": 1}))
                }),
            )
            .layer(from_fn(envelope::apply_envelope::<Context>));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, Body::empty()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_bare_error_gets_a_body_and_keeps_its_headers() {
        let (response, body) = answer("/bare").await;
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(
            (response.status(), &response.headers()["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap())
        );
        assert_eq!(
            body,
            serde_json::json!({"error": {
                "code": "rate_limit_exceeded",
                "message": "Too many requests. Please retry after 7 seconds",
                "type": "rate_limit_error",
                "retry_after": 7,
                "request_id": id,
            }})
        );
    }

    #[tokio::test]
    async fn a_success_has_the_id_in_its_header_only() {
        let (response, body) = answer("/fine").await;
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert!(id.len() == 16 && id.starts_with("req_"), "{id}");
        assert_eq!((response.status(), body), (StatusCode::CREATED, serde_json::json!({"id": 1})));
    }
}
