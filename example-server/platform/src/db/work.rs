//! The transaction of a request, which the idempotency layer commits together with its record.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use idempotency_layer::{CoCommit, CoCommitError, OpenTransaction};
use sqlx::{Postgres, Sqlite};

use super::Connection;

/// The transaction of this request, begun when first asked for. It is never committed here: the idempotency layer does
/// that, if it stores the answer.
#[derive(Debug, Clone)]
pub enum Work {
    Sqlite(CoCommit<Sqlite>),
    Postgres(CoCommit<Postgres>),
}

/// The transaction, open.
#[derive(Debug)]
pub enum WorkTransaction {
    Sqlite(OpenTransaction<Sqlite>),
    Postgres(OpenTransaction<Postgres>),
}

impl Work {
    /// Begins the transaction, or goes on with it.
    pub async fn begin(&self) -> Result<WorkTransaction, CoCommitError> {
        Ok(match self {
            Self::Sqlite(work) => WorkTransaction::Sqlite(work.begin().await?),
            Self::Postgres(work) => WorkTransaction::Postgres(work.begin().await?),
        })
    }

    /// Takes back what was written: the answer is stored without it.
    pub async fn roll_back(&self) -> Result<(), CoCommitError> {
        match self {
            Self::Sqlite(work) => work.roll_back().await,
            Self::Postgres(work) => work.roll_back().await,
        }
    }
}

impl WorkTransaction {
    pub fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Work {
    type Rejection = NoWork;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoWork> {
        let sqlite = parts.extensions.get().cloned().map(Self::Sqlite);
        sqlite.or_else(|| parts.extensions.get().cloned().map(Self::Postgres)).ok_or(NoWork)
    }
}

/// The route is not behind the idempotency layer.
#[derive(Debug)]
pub struct NoWork;

impl IntoResponse for NoWork {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
