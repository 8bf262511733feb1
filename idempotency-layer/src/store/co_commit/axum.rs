//! The transaction as an extractor, and its errors as responses.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::{CoCommit, CoCommitDatabase, CoCommitError};
use crate::context::Idempotency;
use crate::handler_error::HandlerError;
use crate::rejection::RejectionKind;

/// The transaction of the request.
///
/// # Errors
///
/// [`NoCoCommit`] if the route is not behind a layer whose store is of this database.
impl<DB: CoCommitDatabase, S: Sync> FromRequestParts<S> for CoCommit<DB> {
    type Rejection = NoCoCommit;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoCoCommit> {
        let is_keyed = parts.extensions.get::<Idempotency>().is_some();
        parts.extensions.get().cloned().ok_or(NoCoCommit { database: DB::NAME, is_keyed })
    }
}

/// A handler takes a [`CoCommit`], but no layer offers a transaction of its database.
/// [`Display`](std::fmt::Display) says what is missing.
///
/// As a response, it is [`Misconfigured`](RejectionKind::Misconfigured) (500), rendered by the
/// layer's contract.
#[derive(Clone, Copy, Debug)]
pub struct NoCoCommit {
    database: &'static str,
    /// Whether there is a layer, then: its store lends nothing.
    is_keyed: bool,
}

impl std::fmt::Display for NoCoCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { database, is_keyed } = self;
        write!(f, "the handler takes a `CoCommit` of {database}, and ")?;
        if *is_keyed {
            write!(f, "the store of the `IdempotencyLayer` around its route is no store of {database}")
        } else {
            write!(
                f,
                "no `IdempotencyLayer` with a store of {database} is around its route: add one with \
                 `Router::route_layer`"
            )
        }
    }
}

impl std::error::Error for NoCoCommit {}

impl IntoResponse for NoCoCommit {
    fn into_response(self) -> Response {
        HandlerError {
            kind: RejectionKind::Misconfigured,
            needs_claim: false,
            needs_layer: true,
            source: Arc::new(self),
        }
        .into_response()
    }
}

/// The response, rendered by the layer's contract: 503 if the database failed, after which a retry
/// runs, or 500 if the handler used the transaction wrongly.
impl IntoResponse for CoCommitError {
    fn into_response(self) -> Response {
        let kind = match self {
            Self::Database(_) => RejectionKind::RolledBack,
            Self::InUse | Self::Over => RejectionKind::Misconfigured,
        };
        HandlerError { kind, needs_claim: false, needs_layer: false, source: Arc::new(self) }.into_response()
    }
}
