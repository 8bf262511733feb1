//! The envelope of every response: the request id, and the format of errors.

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

/// What a response needs to know about its request.
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

    /// Returns the body, or the error response.
    pub(super) fn answer<T: Serialize>(&self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(body) => self.ok(&body),
            Err(failure) => self.fail(&failure),
        }
    }
}

/// An error.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorDocument<'a> {
    /// The error code, for programs. Stable.
    #[schema(example = "validation_failed")]
    error: &'static str,
    /// The error message, for people.
    #[schema(example = "The to field is required.")]
    message: &'a str,
    /// What a program can do about the error.
    #[schema(example = "fix_request")]
    action: &'static str,
    /// The page that documents the error.
    #[schema(example = "https://mintfax.com/docs/errors/validation-failed")]
    docs: String,
    /// The id of the request, as in the header `X-Request-Id`.
    #[schema(example = "req_01KB2T7Q3NF8S9W4X5Y6Z7A8BC", pattern = "^req_[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: &'a str,
    /// Further details. For a request that is not valid, `errors` has the messages by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    context: Option<&'a Value>,
}

pub(super) const DOCS: &str = "https://mintfax.com/docs/errors/";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
/// The maximum length of a key, in characters.
const MAX_KEY: usize = 255;

/// Echoes the idempotency key in every response, including those that the idempotency layer did not
/// see.
pub(super) async fn echo_key(request: Request, next: Next) -> Response {
    let key = echoed(request.method(), request.headers());
    let mut response = next.run(request).await;
    if let Some(key) = key {
        response.headers_mut().entry(X_IDEMPOTENCY_KEY).or_insert(key);
    }
    response
}

/// Returns the request's key, if the method takes one and the key is valid.
fn echoed(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(key), None) = (values.next(), values.next()) else { return None };
    let length = std::str::from_utf8(key.as_bytes()).map_or(key.len(), |text| text.chars().count());
    (method == Method::POST && (1..=MAX_KEY).contains(&length)).then(|| key.clone())
}
