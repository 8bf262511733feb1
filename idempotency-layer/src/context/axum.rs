//! The context as an extractor.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::Idempotency;
use crate::handler_error::HandlerError;
use crate::rejection::RejectionKind;

/// The context of a request with a key.
///
/// # Errors
///
/// [`NoIdempotency`] if the request has none. Extract an `Option<Idempotency>` if a key is
/// optional.
impl<S: Sync> FromRequestParts<S> for Idempotency {
    type Rejection = NoIdempotency;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoIdempotency> {
        parts.extensions.get().cloned().ok_or(NoIdempotency)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Idempotency {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get().cloned())
    }
}

/// A handler takes [`Idempotency`], but its request runs without a claim.
///
/// As a response, it is rendered by the layer's contract:
///
/// | the request runs without a claim because | answer |
/// |---|---|
/// | it has no key | [`KeyMissing`](RejectionKind::KeyMissing), 400 |
/// | the store was not reached ([`PassThrough`](crate::OnStoreFailure::PassThrough)) | [`StoreUnavailable`](RejectionKind::StoreUnavailable), 503 |
/// | [`Contract::methods`](crate::Contract::methods) or [`Builder::when`](crate::Builder::when) leaves it out | [`Misconfigured`](RejectionKind::Misconfigured), 500 |
/// | no layer is around its route | the same, as problem details |
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the handler takes `Idempotency`, and no `IdempotencyLayer` is around its route: add one with `Router::route_layer`"
)]
#[non_exhaustive]
pub struct NoIdempotency;

impl IntoResponse for NoIdempotency {
    fn into_response(self) -> Response {
        HandlerError {
            kind: RejectionKind::Misconfigured,
            needs_claim: true,
            needs_layer: true,
            source: Arc::new(self),
        }
        .into_response()
    }
}
