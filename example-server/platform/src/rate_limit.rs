//! Rate limits: requests per minute, with one bucket for each API key.
//!
//! Only known keys have a bucket, so the number of keys bounds the memory: unknown keys are refused
//! earlier.
//!
//! The check and the headers are separate middleware. [`enforce`] is inside the idempotency layer,
//! so a replay takes nothing from the bucket. [`write_headers`] is outside, so a replay has current
//! headers, and records contain none.
//!
//! What spends nothing still costs something. So [`arrive`] stands before everything that is shared, and counts requests of
//! any kind in a bucket of their own, which holds many more.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::clock;
use crate::rate_limit_headers::{RateLimitHeaders, Sent, insert_rate_limit_headers};
use crate::vendor::Caller;

/// Middleware that takes a request from the caller's bucket, or responds with 429 if it is empty.
pub async fn enforce<U: Caller>(Extension(user): Extension<U>, request: Request, next: Next) -> Response {
    match user.bucket().try_acquire() {
        Ok(()) => next.run(request).await,
        Err(wait) => come_back_in(wait),
    }
}

/// Middleware that counts requests of any kind, and responds with 429 if there are far too many,
/// before the request takes a place for its body or writes a row for its key.
pub async fn arrive<U: Caller>(Extension(user): Extension<U>, request: Request, next: Next) -> Response {
    match user.bucket().try_arrive() {
        Ok(()) => next.run(request).await,
        Err(wait) => come_back_in(wait),
    }
}

/// Bare: each API's envelope puts it into its own words.
fn come_back_in(wait: Duration) -> Response {
    let seconds = clock::whole_seconds(wait).max(1);
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, HeaderValue::from(seconds))]).into_response()
}

/// Writes the `X-RateLimit-*` headers for the caller's bucket.
pub async fn write_headers<U: Caller>(
    State(form): State<RateLimitHeaders>,
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    if form.sent == Sent::Always || status.is_success() || status == StatusCode::TOO_MANY_REQUESTS {
        insert_rate_limit_headers(form, user.bucket(), response.headers_mut());
    }
    response
}
