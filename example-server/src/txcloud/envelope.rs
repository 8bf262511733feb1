//! The frame around every answer: JSON, `X-Request-Id`, and an error document around whatever went wrong.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use idempotency_layer::Rejection;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::errors::{ErrorType, Failure};

/// What an answer must know of its request.
#[derive(Debug, Clone)]
pub(super) struct Context {
    request_id: String,
}

impl Context {
    /// A new request id, always of our making: an id sent by the client is the client's business.
    fn new() -> Self {
        // The first 48 of a version 4 UUID's bits are random, all of them.
        let mut request_id = format!("req_{}", Uuid::new_v4().simple());
        request_id.truncate("req_".len() + 12);
        Self { request_id }
    }

    /// A success.
    pub(super) fn answer(&self, status: StatusCode, body: &impl Serialize) -> Response {
        self.render(status, body)
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
        let mut response = self.render(failure.status, &ErrorEnvelope { error });
        let headers = response.headers_mut();
        if let Some(seconds) = failure.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if failure.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn render(&self, status: StatusCode, body: &impl Serialize) -> Response {
        // Our own structs with string keys: nothing in them can fail to serialise.
        let body = serde_json::to_vec(body).expect("a body of plain fields serialises");
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(JSON)), (X_REQUEST_ID, self.header())];
        (status, headers, body).into_response()
    }

    fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).expect("letters and digits make a header value")
    }
}

/// A failure.
#[derive(Serialize, ToSchema)]
#[schema(as = TxcloudError)]
pub(crate) struct ErrorEnvelope<'a> {
    error: ErrorBody<'a>,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = TxcloudErrorBody)]
struct ErrorBody<'a> {
    /// For programs. Stable.
    #[schema(example = "missing_parameter")]
    code: &'static str,
    /// For people.
    #[schema(example = "document_front is required")]
    message: &'a str,
    r#type: ErrorType,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "document_front")]
    param: Option<&'a str>,
    /// When to come back, in seconds; the same as the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, example = 30)]
    retry_after: Option<u64>,
    /// What the request is known by; the same as the header `X-Request-Id`.
    #[schema(example = "req_a1b2c3d4e5f6", pattern = "^req_[0-9a-f]{12}$")]
    request_id: &'a str,
}

const JSON: &str = "application/json";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, and sees to it that no answer leaves without the frame.
///
/// Handlers frame their own answers, because what the idempotency layer stores must already be the final bytes. What is
/// framed here was made outside of them: the layer's rejections, a caught panic, refusals of the stack and of axum itself.
pub(super) async fn envelop(mut request: Request, next: Next) -> Response {
    let context = Context::new();
    tracing::Span::current().record("request_id", context.request_id.as_str());
    request.extensions_mut().insert(context.clone());

    let mut response = next.run(request).await;
    if let Some(rejection) = response.extensions_mut().remove::<Rejection>() {
        metrics::counter!("idempotency_rejections_total", "kind" => rejection.code()).increment(1);
        response = reframe(&context, &Failure::of_rejection(&rejection), &response);
    } else if is_error(&response) && !is_json(&response) {
        response = reframe(&context, &Failure::of_bare(&response), &response);
    }
    // A replay has the id of the request it repeats, as the vendor promises.
    response.headers_mut().entry(X_REQUEST_ID).or_insert_with(|| context.header());
    response
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
    response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == JSON)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
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
            .layer(from_fn(envelop));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, Body::empty()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_bare_refusal_gets_words_and_keeps_its_headers() {
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
