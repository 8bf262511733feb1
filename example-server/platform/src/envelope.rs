//! The envelope that all APIs share: every response has a request id, and an error response without
//! a body gets the API's error body.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use idempotency_layer::Rejection;
use serde::Serialize;
use uuid::Uuid;

use crate::host::Refused;

/// Renders the responses to one request in the format of one API. Handlers find it in the request's
/// extensions.
pub trait ErrorRenderer: Clone + Send + Sync + 'static {
    /// The `Content-Type` of its responses.
    const JSON: &'static str = "application/json";

    /// Creates the renderer of a new request, with a new request id. It does not use an id that the
    /// client sent.
    fn of(headers: &HeaderMap) -> Self;

    /// Returns the request id.
    fn request_id(&self) -> &str;

    /// Renders a rejection of the idempotency layer.
    fn rejected(&self, rejection: &Rejection) -> Response;

    /// Renders an error response that has no JSON body.
    fn refused(&self, bare: &Response) -> Response;

    /// Renders a response with this body.
    fn render(&self, status: StatusCode, body: &impl Serialize) -> Response {
        // The bodies are our own structs with string keys, which always serialise.
        self.render_json(status, serde_json::to_vec(body).expect("a body of plain fields serialises"))
    }

    /// Renders a response whose body is already JSON.
    fn render_json(&self, status: StatusCode, body: Vec<u8>) -> Response {
        let headers =
            [(header::CONTENT_TYPE, HeaderValue::from_static(Self::JSON)), (X_REQUEST_ID, id(self))];
        (status, headers, body).into_response()
    }

    /// Renders an error response. `retry_after` is in seconds.
    fn render_failure(
        &self,
        status: StatusCode,
        retry_after: Option<u64>,
        body: &impl Serialize,
    ) -> Response {
        let mut response = self.render(status, body);
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Middleware that assigns the request id and puts every response into the envelope.
///
/// Handlers render their own responses, because the idempotency layer must store the final bytes.
/// The envelope renders the responses that do not come from handlers: rejections of the idempotency
/// layer, a caught panic, and refusals of the middleware stack and of axum.
pub async fn apply_envelope<R: ErrorRenderer>(mut request: Request, next: Next) -> Response {
    let renderer = R::of(request.headers());
    tracing::Span::current().record("request_id", renderer.request_id());
    request.extensions_mut().insert(renderer.clone());

    let mut response = match request.extensions_mut().remove::<Refused>() {
        Some(Refused(status)) => status.into_response(),
        None => next.run(request).await,
    };
    if let Some(rejection) = response.extensions_mut().remove::<Rejection>() {
        metrics::counter!("idempotency_rejections_total", "kind" => rejection.code()).increment(1);
        response = with_headers_of(renderer.rejected(&rejection), &response);
    } else if is_error(&response) && !is_json(&response) {
        response = with_headers_of(renderer.refused(&response), &response);
    }
    // A replay keeps the id of the original request, which its body may contain, too.
    response.headers_mut().entry(X_REQUEST_ID).or_insert_with(|| id(&renderer));
    response
}

/// Returns twelve random hexadecimal digits.
pub fn random_id() -> String {
    // The first 48 bits of a version 4 UUID are random.
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn id(renderer: &impl ErrorRenderer) -> HeaderValue {
    HeaderValue::from_str(renderer.request_id()).expect("a request id is a valid header value")
}

/// Adds the headers of the response that this one replaces. Its own headers take precedence.
fn with_headers_of(mut response: Response, bare: &Response) -> Response {
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
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// Implements `From` for internal errors, all of which the API reports as unavailable. The log has
/// the details.
#[macro_export]
macro_rules! unavailable_after {
    ($failure:ty: $($error:ty),+ $(,)?) => { $(
        impl From<$error> for $failure {
            fn from(error: $error) -> Self {
                <$failure>::unavailable(&error)
            }
        }
    )+ };
}
pub use unavailable_after;
