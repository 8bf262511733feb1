//! The transaction as an extractor.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::{CoCommit, CoCommitDatabase};

/// The transaction of the request.
///
/// # Errors
///
/// 500 where there is none: the route is not behind a layer whose store is of this database.
impl<DB: CoCommitDatabase, S: Sync> FromRequestParts<S> for CoCommit<DB> {
    type Rejection = NoCoCommit;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoCoCommit> {
        parts.extensions.get().cloned().ok_or(NoCoCommit)
    }
}

/// A handler asked for a transaction that no layer lends.
#[derive(Clone, Copy, Debug)]
pub struct NoCoCommit;

impl IntoResponse for NoCoCommit {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
