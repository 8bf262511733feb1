//! The transaction of a request. The idempotency layer commits it together with its record.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use idempotency_layer::{CoCommit, CoCommitError, OpenTransaction};
use retry_scheduler::WorkerHandle;
use sqlx::{Postgres, Sqlite};

use super::{Connection, Due};

/// An extractor of the request's transaction. The idempotency layer begins the transaction on first
/// use, and commits it if the response is a success.
#[derive(Debug, Clone)]
pub struct RequestTransaction {
    lent: Lent,
    worker: WorkerHandle,
}

#[derive(Debug, Clone)]
enum Lent {
    Sqlite(CoCommit<Sqlite>),
    Postgres(CoCommit<Postgres>),
}

/// The open transaction of a request.
#[derive(Debug)]
pub struct OpenRequestTransaction {
    open: Open,
    due: Due,
}

#[derive(Debug)]
enum Open {
    Sqlite(OpenTransaction<Sqlite>),
    Postgres(OpenTransaction<Postgres>),
}

impl RequestTransaction {
    /// Runs `body` in the transaction.
    ///
    /// On `Ok`, the rows commit with the response, and the worker is woken after the commit if
    /// `body` scheduled a cycle that is due. On `Err`, the rows are rolled back.
    ///
    /// # Errors
    ///
    /// If `body` fails, or if the database cannot begin the transaction or roll it back.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped, the request ends without a response and the transaction rolls back.
    pub async fn run<T, E: From<CoCommitError>>(
        &self,
        body: impl AsyncFnOnce(&mut OpenRequestTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let open = match &self.lent {
            Lent::Sqlite(lent) => Open::Sqlite(lent.begin().await?),
            Lent::Postgres(lent) => Open::Postgres(lent.begin().await?),
        };
        let mut transaction = OpenRequestTransaction { open, due: Due::default() };
        let done = body(&mut transaction).await;
        let OpenRequestTransaction { open, due } = transaction;
        drop(open);
        if done.is_err() {
            self.roll_back().await?;
        } else if due.is_set() {
            self.wake_on_commit();
        }
        done
    }

    async fn roll_back(&self) -> Result<(), CoCommitError> {
        match &self.lent {
            Lent::Sqlite(lent) => lent.roll_back().await,
            Lent::Postgres(lent) => lent.roll_back().await,
        }
    }

    fn wake_on_commit(&self) {
        let worker = self.worker.clone();
        match &self.lent {
            Lent::Sqlite(lent) => lent.on_commit(move || worker.wake()),
            Lent::Postgres(lent) => lent.on_commit(move || worker.wake()),
        }
    }
}

impl OpenRequestTransaction {
    pub fn connection(&mut self) -> Connection<'_> {
        match &mut self.open {
            Open::Sqlite(transaction) => Connection::of_sqlite(transaction, Some(&self.due)),
            Open::Postgres(transaction) => Connection::of_postgres(transaction, Some(&self.due)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestTransaction {
    type Rejection = NoTransaction;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoTransaction> {
        let lent = match parts.extensions.get().cloned().map(Lent::Sqlite) {
            Some(lent) => lent,
            None => parts.extensions.get().cloned().map(Lent::Postgres).ok_or(NoTransaction)?,
        };
        let worker = parts.extensions.get().cloned().ok_or(NoTransaction)?;
        Ok(Self { lent, worker })
    }
}

/// The rejection of a request whose route is not behind the idempotency layer.
#[derive(Debug)]
pub struct NoTransaction;

impl IntoResponse for NoTransaction {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
