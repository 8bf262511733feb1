//! Security headers: no caching of private responses, no content sniffing, no framing.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

/// The default policy. Responses are not pages, except `/docs`, which sets its own policy.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Middleware that adds the security headers that a response does not have yet.
///
/// The response to a request with credentials may contain secrets and personal data. It gets
/// `Cache-Control: no-store`, unless the operation sets its own `Cache-Control`.
pub async fn protect(request: Request, next: Next) -> Response {
    let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(NO_SNIFF);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.entry(header::REFERRER_POLICY).or_insert(NO_REFERRER);
    if has_credentials {
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::new(UnsizedEmptyBody);
    }
    response
}

/// The empty body of a 304, without a known size.
///
/// axum adds a `Content-Length` to every body of known size. In a 304, that header would have to be
/// the length of the 200 response (RFC 9110, section 8.6).
struct UnsizedEmptyBody;

impl HttpBody for UnsizedEmptyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
