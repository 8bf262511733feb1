//! Rate limits: requests per minute, with one bucket for each API key.
//!
//! Only known keys have a bucket, so the number of keys bounds the memory: unknown keys are refused
//! earlier.
//!
//! The check and the headers are separate middleware. [`enforce`] is inside the idempotency layer,
//! so a replay takes nothing from the bucket. [`write_headers`] is outside, so a replay has current
//! headers, and records contain none.
//!
//! Replays and refusals use resources, too. So [`arrive`] comes before all shared resources, and counts
//! requests of any kind in a separate, larger bucket. A request that [`enforce`] refuses has already
//! claimed a key, which is then released. To avoid these writes, [`refuse_unclaimed`] checks the bucket
//! before the idempotency layer.

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

/// Returns the record that a request with this head would claim.
pub type RecordOf = Arc<dyn Fn(&Parts) -> Option<RecordId> + Send + Sync>;

/// The parts of an API that [`refuse_unclaimed`] needs.
#[derive(Clone)]
pub struct Claims {
    pub record_of: RecordOf,
    pub records: Records,
    pub kept_keys: Arc<KeptKeys>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

/// Middleware that responds with 429 before anything is written for a request that [`enforce`] or
/// [`keep_key`] would refuse: the bucket is empty, or the account has the maximum number of keys. A request
/// with an existing record passes, because its handler would not run.
///
/// The check takes nothing from the bucket. If another request takes the last one before [`enforce`], the
/// key is claimed and released after all.
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
            // The layer queries the store as well, and responds in the API's format if that fails.
            Err(error) => tracing::warn!(%error, "could not look up a key"),
        }
    }
    next.run(Request::from_parts(head, body)).await
}

/// Middleware that counts the stored keys of an account, and responds with 429 if there are too many. It is
/// inside the idempotency layer, where each request with a key has claimed a new one.
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
    // A server error or a 429 releases the key. If the client disconnects, the request continues in a task,
    // so this code still runs.
    if !response.status().is_server_error() && response.status() != StatusCode::TOO_MANY_REQUESTS {
        kept_keys.count(user.account());
    }
    response
}

/// Marks a 429 without a body: the account has the maximum number of stored keys. Set in the response's
/// extensions.
#[derive(Debug, Clone, Copy)]
pub struct TooManyKeys;

fn too_many_keys(wait: Duration) -> Response {
    let mut refusal = come_back_in(wait);
    refusal.extensions_mut().insert(TooManyKeys);
    refusal
}

/// Returns a 429 without a body. The API's envelope adds the API's error body.
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
