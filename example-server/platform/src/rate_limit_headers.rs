//! The `X-RateLimit-*` headers, in the variants that the APIs have.

use axum::http::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::bucket::Bucket;
use crate::clock;

/// How an API tells clients about its rate limit.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitHeaders {
    pub sent: Sent,
    pub reset: Reset,
    /// Whether `X-RateLimit-Window` is sent: a minute.
    pub window: bool,
}

/// Which responses have the headers. On 429 they always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    OnSuccess,
    Always,
}

/// The form of `X-RateLimit-Reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    EpochSeconds,
    SecondsLeft,
}

/// Writes the `X-RateLimit-*` headers for what this bucket holds now.
pub fn insert_rate_limit_headers(form: RateLimitHeaders, bucket: &Bucket, headers: &mut HeaderMap) {
    let now = bucket.snapshot();
    headers.insert(LIMIT, now.limit.into());
    headers.insert(REMAINING, now.remaining.into());
    let reset = match form.reset {
        Reset::EpochSeconds => HeaderValue::from(clock::epoch_seconds_in(now.full_in)),
        Reset::SecondsLeft => HeaderValue::from(clock::whole_seconds(now.full_in)),
    };
    headers.insert(RESET, reset);
    if form.window {
        headers.insert(WINDOW, HeaderValue::from_static("60"));
    }
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");
