//! The `X-RateLimit-*` headers, in the variants of the APIs.

use axum::http::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::bucket::Bucket;
use crate::clock;

/// The variant of the rate limit headers that an API sends.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitHeaders {
    pub sent: Sent,
    pub reset: Reset,
    /// Whether to send `X-RateLimit-Window`, which is 60 seconds.
    pub window: bool,
}

/// Which responses have the headers. A 429 always has them.
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

/// Writes the `X-RateLimit-*` headers for the current state of the bucket.
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
