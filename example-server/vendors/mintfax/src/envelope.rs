//! The frame around every answer: its request id, and the form of failures.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use idempotency_layer::Rejection;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::errors::Failure;
use super::fax::base32;
use platform::envelope::ErrorRenderer;

/// What an answer must know of its request.
#[derive(Debug, Clone)]
pub(super) struct Context {
    request_id: String,
}

impl ErrorRenderer for Context {
    fn of(_: &HeaderMap) -> Self {
        Self { request_id: format!("req_{}", base32(Uuid::now_v7().as_u128())) }
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
    pub(super) fn ok(&self, body: &impl Serialize) -> Response {
        self.render(StatusCode::OK, body)
    }

    pub(super) fn created(&self, body: &impl Serialize) -> Response {
        self.render(StatusCode::CREATED, body)
    }

    pub(super) fn fail(&self, failure: &Failure) -> Response {
        let document = ErrorDocument {
            error: failure.code,
            message: &failure.message,
            action: failure.action,
            docs: format!("{DOCS}{}", failure.code.replace('_', "-")),
            request_id: &self.request_id,
            context: failure.context.as_ref(),
        };
        self.render_failure(failure.status, failure.retry_after_seconds, &document)
    }

    /// The body, or why there is none.
    pub(super) fn answer<T: Serialize>(&self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(body) => self.ok(&body),
            Err(failure) => self.fail(&failure),
        }
    }
}

/// A failure.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorDocument<'a> {
    /// What is wrong, for programs. Stable.
    #[schema(example = "validation_failed")]
    error: &'static str,
    /// What is wrong, for people.
    #[schema(example = "The to field is required.")]
    message: &'a str,
    /// What a program can do about it.
    #[schema(example = "fix_request")]
    action: &'static str,
    /// Where to read more.
    #[schema(example = "https://mintfax.com/docs/errors/validation-failed")]
    docs: String,
    /// What the request is known by; the same as the header `X-Request-Id`.
    #[schema(example = "req_01KB2T7Q3NF8S9W4X5Y6Z7A8BC", pattern = "^req_[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: &'a str,
    /// More, where there is more to say: of a request that is not valid `errors`, the messages by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    context: Option<&'a Value>,
}

pub(super) const DOCS: &str = "https://mintfax.com/docs/errors/";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// Says of every answer to which key it belongs, also of those that were refused before the idempotency layer.
pub(super) async fn echo_key(request: Request, next: Next) -> Response {
    let key = echoed(request.method(), request.headers());
    let mut response = next.run(request).await;
    if let Some(key) = key {
        response.headers_mut().entry(X_IDEMPOTENCY_KEY).or_insert(key);
    }
    response
}

/// The key of a request that may have one, if it is one.
fn echoed(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(key), None) = (values.next(), values.next()) else { return None };
    let length = std::str::from_utf8(key.as_bytes()).map_or(key.len(), |text| text.chars().count());
    (method == Method::POST && (1..=MAX_KEY).contains(&length)).then(|| key.clone())
}
