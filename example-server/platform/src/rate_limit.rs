//! Requests per minute, one bucket for each API key.
//!
//! A bucket belongs to an account that exists, so what is kept is bounded by the number of accounts: unknown keys are
//! refused before they could make one.
//!
//! The check and the headers are two middlewares on purpose. [`enforce`] stands inside the idempotency layer, so a replay
//! spends nothing. [`write_headers`] stands outside, so a replay still says how much is left now, and no record ever
//! holds old numbers.

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::clock;
use crate::rate_limit_headers::{RateLimitHeaders, Sent, insert_rate_limit_headers};
use crate::vendor::Caller;

/// Lets the request through and counts it, or answers 429.
pub async fn enforce<U: Caller>(Extension(user): Extension<U>, request: Request, next: Next) -> Response {
    match user.bucket().try_acquire() {
        Ok(()) => next.run(request).await,
        // Bare: each API's envelope puts it into its own words.
        Err(wait) => {
            let seconds = clock::whole_seconds(wait).max(1);
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, HeaderValue::from(seconds))])
                .into_response()
        }
    }
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
