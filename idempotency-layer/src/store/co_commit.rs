//! Co-commit: the handler's rows and the stored response, in one transaction of the store's database.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use sqlx::{Database, Pool, Transaction};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::{sleep, timeout};

#[cfg(feature = "axum")]
pub use self::axum::NoCoCommit;
use super::{Ending, Fence, Fenced, Outcome, RecordId, RequestTransaction};
use crate::error::StoreError;

/// The pauses before the record is asked again what became of a commit.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];
/// How long one such question may take: it waits for the transaction whose end is not known.
const PATIENCE: Duration = Duration::from_secs(5);

/// The layer's transaction, for the handler to write its rows in: an extension of every request that passes a layer
/// whose store is a `PostgresStore` or a `SqliteStore`, and an extractor of axum.
///
/// The layer writes the response into the record in the same transaction, under the fence of the claim, and commits both.
/// A process that dies before leaves nothing, and a retry runs; a run that lost its claim is refused, and its rows with
/// it. What is not stored is not committed: after a 5xx, or any other response that the contract does not store, and after
/// a panic, it is rolled back. A request without a key gets the same transaction, committed on the same rule.
///
/// It begins when the handler first asks: calls to slow services before that hold no connection. Make them before.
///
#[cfg_attr(all(feature = "axum", feature = "postgres"), doc = "```")]
#[cfg_attr(not(all(feature = "axum", feature = "postgres")), doc = "```ignore")]
/// use axum::http::StatusCode;
/// use idempotency_layer::CoCommit;
/// use sqlx::Postgres;
///
/// async fn pay(co_commit: CoCommit<Postgres>) -> Result<StatusCode, StatusCode> {
///     let unavailable = |_| StatusCode::SERVICE_UNAVAILABLE;
///     let mut transaction = co_commit.begin().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
///     sqlx::query("INSERT INTO payments (amount) VALUES ($1)")
///         .bind(1200_i64)
///         .execute(&mut *transaction)
///         .await
///         .map_err(unavailable)?;
///     Ok(StatusCode::CREATED) // committed with the row, or not at all
/// }
/// ```
///
/// # Statements that fail
///
/// PostgreSQL aborts a transaction in which a statement fails. A handler that goes on all the same is answered 503, and
/// nothing is stored. Where a failure is expected, wrap the statement in a savepoint (`transaction.begin()` of
/// [`sqlx::Connection`]), or give up what was written with [`roll_back`](Self::roll_back) and answer: that answer is
/// stored alone.
///
/// # One writer on SQLite
///
/// There, the transaction is the one writer of the process until the answer: every other claim waits for it, and so do
/// [`checkpoint`](crate::Idempotency::checkpoint)s of the handler itself, which end as unavailable. Set no checkpoint while
/// it is open.
pub struct CoCommit<DB: Database> {
    pool: Pool<DB>,
    stage: Arc<Mutex<Stage<DB>>>,
}

/// The transaction while the handler uses it; drop it before the handler answers.
pub struct OpenTransaction<DB: Database>(OwnedMappedMutexGuard<Stage<DB>, Transaction<'static, DB>>);

/// Why there is no transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoCommitError {
    /// The database did not begin one.
    #[error("the transaction could not be begun, or rolled back")]
    Database(#[from] sqlx::Error),
    /// An [`OpenTransaction`] of the request is still there.
    #[error("the transaction of this request is in use already")]
    InUse,
    /// The request was answered.
    #[error("the transaction of this request is over")]
    Over,
}

/// How far a transaction has come.
enum Stage<DB: Database> {
    Unbegun,
    Open(Transaction<'static, DB>),
    Over,
}

/// The databases that co-commit: [`sqlx::Postgres`] and [`sqlx::Sqlite`].
pub trait CoCommitDatabase: Database + private::Statements {}

impl<DB: Database + private::Statements> CoCommitDatabase for DB {}

pub(super) mod private {
    use super::{Database, Fence, Fenced, Outcome, Pool, RecordId, StoreError};

    /// What ending a transaction takes on one database.
    pub trait Statements: Database {
        /// Begins a transaction.
        const BEGIN: &'static str;

        /// Fails unless the connection is within a transaction that can be committed.
        fn check(connection: &mut Self::Connection) -> impl Future<Output = Result<(), StoreError>> + Send;

        /// [`Store::complete`](crate::Store::complete) inside the transaction; fails, too, where that cannot be committed.
        fn complete(
            connection: &mut Self::Connection,
            record: RecordId,
            fence: Fence,
            outcome: &Outcome,
        ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

        /// Whether the record was completed under this fence, after the end of every transaction that is about to do so.
        fn is_completed(
            pool: &Pool<Self>,
            record: RecordId,
            fence: Fence,
        ) -> impl Future<Output = Result<bool, StoreError>> + Send;

        /// Sees to it that there is something to roll back: nothing, where a database ends no transaction by itself.
        fn prepare_rollback(_connection: &mut Self::Connection) -> impl Future<Output = ()> + Send {
            async {}
        }

        /// Whether this answer to COMMIT says that the transaction was rolled back, instead of leaving it open.
        fn is_final(error: &sqlx::Error) -> bool {
            matches!(error, sqlx::Error::Database(_))
        }
    }
}

/// The handler's end of a request's transaction goes into the extensions, the layer's end is returned.
pub(super) fn lend<DB: CoCommitDatabase>(
    pool: &Pool<DB>,
    extensions: &mut Extensions,
) -> Box<dyn RequestTransaction> {
    let co_commit = CoCommit { pool: pool.clone(), stage: Arc::new(Mutex::new(Stage::Unbegun)) };
    extensions.insert(co_commit.clone());
    Box::new(Unit(co_commit))
}

impl<DB: CoCommitDatabase> CoCommit<DB> {
    /// The transaction of this request: begun by the first call, the same in every later one.
    ///
    /// # Errors
    ///
    /// When the database does not begin it, when the one from an earlier call was not dropped yet (waiting for it would be
    /// waiting for oneself), and after the request was answered.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has begun it or not; the next one goes on from there.
    pub async fn begin(&self) -> Result<OpenTransaction<DB>, CoCommitError> {
        let mut stage = self.stage.clone().try_lock_owned().map_err(|_| CoCommitError::InUse)?;
        if let Stage::Unbegun = *stage {
            *stage = Stage::Open(self.pool.begin_with(DB::BEGIN).await?);
        }
        let open = OwnedMutexGuard::try_map(stage, |stage| match stage {
            Stage::Open(transaction) => Some(transaction),
            Stage::Unbegun | Stage::Over => None,
        });
        open.map(OpenTransaction).map_err(|_| CoCommitError::Over)
    }

    /// Undoes what the request wrote so far. Its answer is then stored by itself, or, after another
    /// [`begin`](Self::begin), with what is written from then on.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn roll_back(&self) -> Result<(), CoCommitError> {
        let mut stage = self.stage.try_lock().map_err(|_| CoCommitError::InUse)?;
        match std::mem::replace(&mut *stage, Stage::Unbegun) {
            Stage::Unbegun => Ok(()),
            Stage::Open(mut transaction) => {
                DB::prepare_rollback(&mut transaction).await;
                Ok(transaction.rollback().await?)
            }
            Stage::Over => {
                *stage = Stage::Over;
                Err(CoCommitError::Over)
            }
        }
    }

    /// Takes the transaction from the handler, for good. `None`: it is in use, by a task that outlived the handler; it is
    /// rolled back when that drops it.
    fn take(&self) -> Option<Transaction<'static, DB>> {
        let mut stage = self.stage.try_lock().ok()?;
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Open(transaction) => Some(transaction),
            Stage::Unbegun | Stage::Over => None,
        }
    }
}

impl<DB: Database> Clone for CoCommit<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), stage: self.stage.clone() }
    }
}

impl<DB: Database> fmt::Debug for CoCommit<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoCommit").finish_non_exhaustive()
    }
}

impl<DB: Database> Deref for OpenTransaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.0
    }
}

impl<DB: Database> DerefMut for OpenTransaction<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.0
    }
}

impl<DB: Database> fmt::Debug for OpenTransaction<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction").finish_non_exhaustive()
    }
}

/// The layer's end.
struct Unit<DB: Database>(CoCommit<DB>);

impl<DB: CoCommitDatabase> RequestTransaction for Unit<DB> {
    fn is_begun(&self) -> bool {
        // One that is in use was begun.
        self.0.stage.try_lock().map_or(true, |stage| matches!(*stage, Stage::Open(_)))
    }

    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced> {
        Box::pin(async move {
            let Some(mut transaction) = self.0.take() else { return Err(StoreError::rolled_back(IN_USE)) };
            match DB::complete(&mut transaction, record, fence, &outcome).await {
                Ok(Fenced::Held) => {}
                Ok(Fenced::Stale) => {
                    roll_back(transaction).await;
                    return Ok(Fenced::Stale);
                }
                Err(error) => {
                    roll_back(transaction).await;
                    return Err(StoreError::rolled_back(error));
                }
            }
            match transaction.commit().await {
                Ok(()) => Ok(Fenced::Held),
                Err(error) if DB::is_final(&error) => Err(StoreError::rolled_back(error)),
                Err(error) => find_out(&self.0.pool, record, fence, error).await,
            }
        })
    }

    fn commit(self: Box<Self>) -> Ending<()> {
        Box::pin(async move {
            let Some(mut transaction) = self.0.take() else { return Err(StoreError::rolled_back(IN_USE)) };
            if let Err(error) = DB::check(&mut transaction).await {
                roll_back(transaction).await;
                return Err(StoreError::rolled_back(error));
            }
            transaction.commit().await.map_err(|error| {
                if DB::is_final(&error) {
                    StoreError::rolled_back(error)
                } else {
                    StoreError::unavailable(error)
                }
            })
        })
    }

    fn roll_back(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if let Some(transaction) = self.0.take() {
                roll_back(transaction).await;
            }
        })
    }
}

/// Where it fails, the end of the connection rolls it back.
async fn roll_back<DB: CoCommitDatabase>(mut transaction: Transaction<'static, DB>) {
    DB::prepare_rollback(&mut transaction).await;
    let _ = transaction.rollback().await;
}

const IN_USE: &str = "a task that outlived the handler still uses the transaction";

/// The connection was lost during COMMIT: the record knows whether it took effect.
async fn find_out<DB: CoCommitDatabase>(
    pool: &Pool<DB>,
    record: RecordId,
    fence: Fence,
    lost: sqlx::Error,
) -> Result<Fenced, StoreError> {
    for pause in PAUSES {
        sleep(pause).await;
        match timeout(PATIENCE, DB::is_completed(pool, record, fence)).await {
            Ok(Ok(true)) => return Ok(Fenced::Held),
            Ok(Ok(false)) => return Err(StoreError::rolled_back(lost)),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(StoreError::unavailable(lost))
}
