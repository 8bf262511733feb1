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
//! any kind in a bucket of their own, which holds many more. What [`enforce`] would refuse has a key claimed and released
//! before it gets there, so [`refuse_unclaimed`] stands before the layer and refuses it after a look.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use idempotency_layer::{Idempotency, RecordId};

use crate::clock;
use crate::db::Records;
use crate::kept_keys::KeptKeys;
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

/// What [`refuse_unclaimed`] needs to know of an API.
#[derive(Clone)]
pub struct Claims {
    /// The record that a request would claim.
    pub record_of: Arc<dyn Fn(&Parts) -> Option<RecordId> + Send + Sync>,
    pub records: Records,
    pub kept_keys: Arc<KeptKeys>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

/// Answers 429 to a request that would run and then be refused, before anything is written for it: its account has no
/// request left, or as many keys as it can have. Who has a record, so that nothing would run, goes on.
///
/// This looks, and takes nothing. Where the last request is taken between this look and [`enforce`], a key is claimed and
/// released.
pub async fn refuse_unclaimed<U: Caller>(
    State(claims): State<Claims>,
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    let refusal = match user.bucket().empty_for() {
        Some(wait) => come_back_in(wait),
        None => match claims.kept_keys.is_full_for(user.account()) {
            Some(wait) => too_many_keys(wait),
            None => return next.run(request).await,
        },
    };
    let (head, body) = request.into_parts();
    // Without a key, nothing is written before the handler begins.
    if let Some(record) = (claims.record_of)(&head) {
        match claims.records.is_taken(record).await {
            Ok(Some(false)) => return refusal,
            Ok(Some(true) | None) => {}
            // The layer asks as well, and says so in the API's own words.
            Err(error) => tracing::warn!(%error, "cannot look a key up"),
        }
    }
    next.run(Request::from_parts(head, body)).await
}

/// Counts the keys that are kept for an account, or answers 429: inside the layer, where each request with a key has
/// claimed a new one.
pub async fn keep_key<U: Caller>(
    State(kept_keys): State<Arc<KeptKeys>>,
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    if request.extensions().get::<Idempotency>().is_none() {
        return next.run(request).await;
    }
    if let Some(wait) = kept_keys.is_full_for(user.account()) {
        return too_many_keys(wait);
    }
    let response = next.run(request).await;
    // These are released. Dropped before this, a request goes on without its client.
    if !response.status().is_server_error() && response.status() != StatusCode::TOO_MANY_REQUESTS {
        kept_keys.count(user.account());
    }
    response
}

/// Why there is a bare 429: as many keys as there can be are kept for the account. It stands in the extensions of the
/// answer.
#[derive(Debug, Clone, Copy)]
pub struct TooManyKeys;

fn too_many_keys(wait: Duration) -> Response {
    let mut refusal = come_back_in(wait);
    refusal.extensions_mut().insert(TooManyKeys);
    refusal
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
