//! Headers that keep responses from being kept, or taken for what they are not.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

/// Nothing of a response is a page, but where it says so itself (`/docs`).
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Adds the headers that a response does not have yet. What is answered to a request with credentials, secrets and personal
/// data included, is kept by no cache, unless its operation says how.
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
        *response.body_mut() = Body::new(OfUnknownLength);
    }
    response
}

/// The body of a 304. It is empty, and its length is said nowhere: the length of a 304 would be that of the 200 (RFC 9110,
/// section 8.6), and a router says of every body whose length it knows.
struct OfUnknownLength;

impl HttpBody for OfUnknownLength {
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
