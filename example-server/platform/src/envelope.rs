//! What the frames of all APIs have in common: every answer has the id of its request, and what is answered bare gets the
//! API's words.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use idempotency_layer::Rejection;
use serde::Serialize;
use uuid::Uuid;

use crate::host::Refused;

/// What frames the answers to one request, in the way of one API. Handlers find it in the request's extensions.
pub trait ErrorRenderer: Clone + Send + Sync + 'static {
    /// What its answers are, and what they are called.
    const JSON: &'static str = "application/json";

    /// For a request that has just come. Its id is of our making: an id sent by the client is the client's business.
    fn of(headers: &HeaderMap) -> Self;

    /// What the request is known by.
    fn request_id(&self) -> &str;

    /// What the idempotency layer refused.
    fn rejected(&self, rejection: &Rejection) -> Response;

    /// What was refused without words.
    fn refused(&self, bare: &Response) -> Response;

    /// An answer.
    fn render(&self, status: StatusCode, body: &impl Serialize) -> Response {
        // Our own structs with string keys: nothing in them can fail to serialise.
        self.render_json(status, serde_json::to_vec(body).expect("a body of plain fields serialises"))
    }

    /// An answer whose body is JSON already.
    fn render_json(&self, status: StatusCode, body: Vec<u8>) -> Response {
        let headers =
            [(header::CONTENT_TYPE, HeaderValue::from_static(Self::JSON)), (X_REQUEST_ID, id(self))];
        (status, headers, body).into_response()
    }

    /// An answer that says what is wrong.
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

/// Gives the request its id, and sees to it that no answer leaves without the frame.
///
/// Handlers frame their own answers, because what the idempotency layer stores must already be the final bytes. What is
/// framed here was made outside of them: the layer's rejections, a caught panic, refusals of the stack and of axum itself.
pub async fn apply_envelope<F: ErrorRenderer>(mut request: Request, next: Next) -> Response {
    let frame = F::of(request.headers());
    tracing::Span::current().record("request_id", frame.request_id());
    request.extensions_mut().insert(frame.clone());

    let mut response = match request.extensions_mut().remove::<Refused>() {
        Some(Refused(status)) => status.into_response(),
        None => next.run(request).await,
    };
    if let Some(rejection) = response.extensions_mut().remove::<Rejection>() {
        metrics::counter!("idempotency_rejections_total", "kind" => rejection.code()).increment(1);
        response = with_headers_of(frame.rejected(&rejection), &response);
    } else if is_error(&response) && !is_json(&response) {
        response = with_headers_of(frame.refused(&response), &response);
    }
    // A replay has the id of the request it repeats, as its body does where it has one.
    response.headers_mut().entry(X_REQUEST_ID).or_insert_with(|| id(&frame));
    response
}

/// Twelve hexadecimal digits, all of them random.
pub fn random_id() -> String {
    // The first 48 of a version 4 UUID's bits are.
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn id(frame: &impl ErrorRenderer) -> HeaderValue {
    HeaderValue::from_str(frame.request_id()).expect("letters, digits and lines make a header value")
}

/// With the headers of the answer it stands for, its own winning.
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

/// For faults of ours, an API has one failure: it is unavailable. What exactly is wrong is for the log.
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
