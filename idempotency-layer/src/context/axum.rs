//! The context as an extractor.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::Idempotency;

/// The context of a request with a key.
///
/// # Errors
///
/// 400 when the request has none: it came without a key, or the layer does not concern it. Take an
/// `Option<Idempotency>` where a key is optional.
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

/// A handler asked for the context of a request that has none.
#[derive(Clone, Copy, Debug)]
pub struct NoIdempotency;

impl IntoResponse for NoIdempotency {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, "This operation needs an Idempotency-Key header.").into_response()
    }
}
