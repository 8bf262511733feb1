//! The transaction of a request. The idempotency layer commits it together with its record.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use idempotency_layer::{CoCommit, CoCommitError, OpenTransaction};
use retry_scheduler::WorkerHandle;
use sqlx::{Postgres, Sqlite};
use tokio::sync::OnceCell;

use super::{Connection, Due};
use crate::places::{Place, Places};

/// An extractor of the request's transaction. The idempotency layer begins the transaction on first
/// use, and commits it if the response is a success.
#[derive(Debug, Clone)]
pub struct RequestTransaction {
    lent: Lent,
    turn: Turn,
    worker: WorkerHandle,
}

/// A permit for the transaction of one request. Only a limited number of an account's transactions are open at
/// a time.
///
/// A request waits for it before it waits for a connection, so that the requests of one account queue among
/// themselves.
#[derive(Debug, Clone)]
pub struct Turn {
    places: Arc<Places<String>>,
    account: String,
    /// Freed when every clone is dropped: with the response, or with the commit if the client has disconnected.
    held: Arc<OnceCell<Place<String>>>,
}

impl Turn {
    pub fn new(places: Arc<Places<String>>, account: String) -> Self {
        Self { places, account, held: Arc::default() }
    }

    /// Waits for the permit. Does nothing if the request already has it.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it takes no permit.
    pub async fn wait(&self) {
        self.held.get_or_init(|| self.places.wait_with(&self.account, 1)).await;
    }
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
        self.turn.wait().await;
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
        } else {
            self.on_commit(due.is_set());
        }
        done
    }

    async fn roll_back(&self) -> Result<(), CoCommitError> {
        match &self.lent {
            Lent::Sqlite(lent) => lent.roll_back().await,
            Lent::Postgres(lent) => lent.roll_back().await,
        }
    }

    /// Keeps the turn until the commit, and then wakes the worker if the transaction scheduled a due cycle.
    fn on_commit(&self, is_due: bool) {
        let (worker, turn) = (self.worker.clone(), self.turn.clone());
        let committed = move || {
            drop(turn);
            if is_due {
                worker.wake();
            }
        };
        match &self.lent {
            Lent::Sqlite(lent) => lent.on_commit(committed),
            Lent::Postgres(lent) => lent.on_commit(committed),
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
        let turn = parts.extensions.get().cloned().ok_or(NoTransaction)?;
        let worker = parts.extensions.get().cloned().ok_or(NoTransaction)?;
        Ok(Self { lent, turn, worker })
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
