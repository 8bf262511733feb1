//! The frame around every answer: its request id, and the form of failures.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use idempotency_layer::Rejection;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::errors::Failure;
use super::fax::base32;

/// What an answer must know of its request.
#[derive(Debug, Clone)]
pub(super) struct Context {
    request_id: String,
}

impl Context {
    /// A new request id, always of our making: an id sent by the client is the client's business.
    fn new() -> Self {
        Self { request_id: format!("req_{}", base32(Uuid::now_v7().as_u128())) }
    }

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
        let mut response = self.render(failure.status, &document);
        let headers = response.headers_mut();
        if let Some(seconds) = failure.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if failure.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The body, or why there is none.
    pub(super) fn answer<T: Serialize>(&self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(body) => self.ok(&body),
            Err(failure) => self.fail(&failure),
        }
    }

    fn render(&self, status: StatusCode, body: &impl Serialize) -> Response {
        // Our own structs with string keys: nothing in them can fail to serialise.
        let body = serde_json::to_vec(body).expect("a document of plain fields serialises");
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(JSON)), (X_REQUEST_ID, self.header())];
        (status, headers, body).into_response()
    }

    fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).expect("letters and digits make a header value")
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
    #[schema(example = "req_01KB2T7Q3NF8S9W4X5Y6Z7A8BC")]
    request_id: &'a str,
    /// More, where there is more to say: of a request that is not valid `errors`, the messages by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    context: Option<&'a Value>,
}

const DOCS: &str = "https://mintfax.com/docs/errors/";
const JSON: &str = "application/json";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// Gives the request its id, and sees to it that no answer leaves without the frame.
///
/// Handlers frame their own answers, because what the idempotency layer stores must already be the final bytes. What is
/// framed here was made outside of them: the layer's rejections, a caught panic, refusals of axum itself.
pub(super) async fn envelop(mut request: Request, next: Next) -> Response {
    let context = Context::new();
    tracing::Span::current().record("request_id", context.request_id.as_str());
    request.extensions_mut().insert(context.clone());
    let key = echoed(request.method(), request.headers());

    let mut response = next.run(request).await;
    if let Some(rejection) = response.extensions_mut().remove::<Rejection>() {
        metrics::counter!("idempotency_rejections_total", "kind" => rejection.code()).increment(1);
        response = reframe(&context, &Failure::of_rejection(&rejection), &response);
    } else if is_error(&response) && !is_json(&response) {
        response = reframe(&context, &Failure::of_bare(&response), &response);
    }
    let headers = response.headers_mut();
    // A replay has the id of the request it repeats, as its body does where it has one.
    headers.entry(X_REQUEST_ID).or_insert_with(|| context.header());
    // What is refused before the idempotency layer says which request it refuses, too.
    if let Some(key) = key {
        headers.entry(X_IDEMPOTENCY_KEY).or_insert(key);
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

/// The failure's status and body, with the headers of the answer it stands for, its own winning.
fn reframe(context: &Context, failure: &Failure, bare: &Response) -> Response {
    let mut response = context.fail(failure);
    for (name, value) in bare.headers() {
        if !response.headers().contains_key(name) && name != header::CONTENT_LENGTH {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn is_error(response: &Response) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

fn is_json(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}
