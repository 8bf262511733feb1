//! Co-commit: the handler's rows and the stored response, in one transaction of the store's
//! database.

#[cfg(feature = "axum")]
mod axum;
mod claim;
mod connection;
mod database;
#[cfg(feature = "postgres")]
mod postgres;
mod request;
mod savepoint;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use self::claim::claim;
use self::connection::LentConnection;
pub use self::database::CoCommitDatabase;
pub(super) use self::database::{CompletedClaim, Written};
#[cfg(feature = "postgres")]
pub(super) use self::postgres::PostgresHome;
pub(super) use self::request::offer;
pub use self::savepoint::Savepoint;
#[cfg(feature = "sqlite")]
pub(super) use self::sqlite::SqliteHome;

#[cfg(feature = "axum")]
pub use self::axum::NoCoCommit;

/// The transaction of a request, for the handler to write its rows in.
///
/// If the store is a `PostgresStore` or a `SqliteStore`, every request that the layer looks at
/// carries a `CoCommit` as an extension. It is also an extractor of axum.
///
/// **It commits on success.** The layer stores the response in the same transaction, under the
/// fence of the claim, and commits both. If the process dies before the commit, nothing is left and
/// a retry runs. If the run lost its claim, both the response and the rows are refused.
///
/// # Which rows are committed
///
/// | response | rows | response stored |
/// |---|---|---|
/// | 2xx, 3xx | committed with it | yes |
/// | 4xx that the contract stores | rolled back | yes, alone |
/// | the same, after [`keep_on_error`](Self::keep_on_error) | committed with it | yes |
/// | one that the contract does not store, such as a 503 | rolled back | no |
/// | a panic, an error of the service | rolled back | no |
///
/// [`Builder::commits`](crate::Builder::commits) changes which responses commit. A request without
/// a key gets the same transaction and the same rules.
///
/// # Example
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
///     Ok(StatusCode::CREATED) // committed with the row; an Err would leave no row
/// }
/// ```
///
/// The transaction begins with the first call of [`begin`](Self::begin). Call slow services before
/// that, while the request holds no connection. (In a [claim in the
/// transaction](crate::Builder::claim_in_transaction) it has begun already.)
///
/// # Do not end it yourself
///
/// The layer ends the transaction. A handler must not send `COMMIT`, `ROLLBACK`,
/// `PREPARE TRANSACTION` or `RESET ALL` on it. If it does, the request is answered 503 and its
/// response is not stored. On PostgreSQL it is then unknown what was committed. On SQLite the
/// handler's `COMMIT` fails and rolls back.
///
/// # Statements that fail
///
/// PostgreSQL aborts a transaction in which a statement fails. If the handler answers 2xx
/// nevertheless, the client gets 503 and nothing is stored. Wrap a statement that may fail in a
/// [savepoint](OpenTransaction::begin), or call [`roll_back`](Self::roll_back).
///
/// If a call that begins or ends a savepoint is dropped half way, by a time-out for example, it is
/// unknown which rows are left. The request is then answered 503, unless the handler calls
/// [`roll_back`](Self::roll_back). This holds for [`OpenTransaction::begin`]. The layer does not
/// see a savepoint that is begun on the connection itself (`sqlx::Connection::begin`).
///
/// # Isolation
///
/// On PostgreSQL the level is READ COMMITTED, regardless of the database's default. The handler may
/// set another level in its first statement (`SET TRANSACTION ISOLATION LEVEL …`), except in a
/// [claim in the transaction](crate::Builder::claim_in_transaction).
///
/// # One writer on SQLite
///
/// On SQLite the transaction is the only writer of the process until the response. All other claims
/// wait for it. Handlers that wait for the writer share a commit, and are answered after it; see
/// `SqliteStore`. A [`checkpoint`](crate::Idempotency::checkpoint) of the handler itself would wait
/// for it too and fail as unavailable, so set none while the transaction is open.
pub struct CoCommit<DB: CoCommitDatabase> {
    shared: Arc<Shared<DB>>,
}

/// The open transaction of a request, while the handler uses it.
///
/// It dereferences to the connection of the database. Drop it before the handler answers. If a task
/// keeps it longer, the request is answered 503 and its rows are rolled back. The connection, and
/// on SQLite the only writer, is free again when that task drops it.
pub struct OpenTransaction<DB: CoCommitDatabase> {
    shared: Arc<Shared<DB>>,
    /// `None` only while it is dropped.
    connection: Option<LentConnection<DB>>,
}

/// An error of [`CoCommit::begin`] or [`CoCommit::roll_back`].
///
/// With the feature `axum` it is a response: 503 for [`Database`](Self::Database), after which a
/// retry runs, and 500 for the others, which are mistakes in the handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoCommitError {
    /// The database did not begin the transaction, or did not roll it back.
    #[error("the transaction could not be begun, or rolled back")]
    Database(#[from] sqlx::Error),
    /// Another [`OpenTransaction`] of the request exists.
    #[error("the transaction of this request is in use already")]
    InUse,
    /// The request was answered, or its client disconnected.
    #[error("the transaction of this request is over")]
    Over,
}

/// The state that all handles of one request share.
struct Shared<DB: CoCommitDatabase> {
    home: DB::Home,
    /// Whether the transaction is the claim. The layer began it then, and a rollback by the handler
    /// keeps it.
    is_claim: bool,
    state: Mutex<State<DB>>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct State<DB: CoCommitDatabase> {
    stage: Stage<DB>,
    keeps_on_error: bool,
    /// A call that begins or ends a savepoint was dropped half way, so it is unknown which rows are
    /// left.
    is_torn: bool,
    /// Whether somebody else ended the transaction, so that it cannot be rolled back.
    is_elsewhere: bool,
    /// Whether the handler may have read rows that were not committed then. No response is given
    /// before they are.
    reads_uncommitted: bool,
    on_commit: Vec<Callback>,
}

type Callback = Box<dyn FnOnce() + Send>;

/// The state of the transaction.
///
/// | from \ event | `begin` | it is there | `OpenTransaction` dropped | `roll_back` | the layer ends it |
/// |---|---|---|---|---|---|
/// | `Unbegun` | `Beginning` | | | `Unbegun` | `Over` |
/// | `Beginning` | in use | `InUse` | | in use | `Over`; the connection is closed |
/// | `InUse` | in use | | `Idle` | in use | `Over`; the connection is closed when it is dropped |
/// | `Idle` | `InUse` | | | `Unbegun` | `Over`; the layer has the connection |
/// | `Over` | over | over | closed | over | |
enum Stage<DB: CoCommitDatabase> {
    Unbegun,
    Beginning,
    InUse,
    Idle(LentConnection<DB>),
    Over,
}

impl<DB: CoCommitDatabase> CoCommit<DB> {
    /// A transaction that the handler begins.
    fn new(home: DB::Home) -> Self {
        Self::at(Stage::Unbegun, home, false)
    }

    /// A transaction that is the claim.
    fn claimed(home: DB::Home, connection: LentConnection<DB>) -> Self {
        Self::at(Stage::Idle(connection), home, true)
    }

    fn at(stage: Stage<DB>, home: DB::Home, is_claim: bool) -> Self {
        let reads_uncommitted = matches!(&stage, Stage::Idle(connection) if connection.reads_uncommitted());
        let shared = Mutex::new(State {
            stage,
            reads_uncommitted,
            keeps_on_error: false,
            is_torn: false,
            is_elsewhere: false,
            on_commit: Vec::new(),
        });
        Self { shared: Arc::new(Shared { home, is_claim, state: shared }) }
    }

    /// Begins the transaction of this request, or continues it.
    ///
    /// The first call begins it; every later call returns the same transaction.
    ///
    /// # Errors
    ///
    /// - [`Database`](CoCommitError::Database) if the database does not begin it,
    /// - [`InUse`](CoCommitError::InUse) if the [`OpenTransaction`] of an earlier call still
    ///   exists,
    /// - [`Over`](CoCommitError::Over) after the request was answered.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped while the database begins the transaction, its connection is closed.
    /// The next call begins a new one.
    pub async fn begin(&self) -> Result<OpenTransaction<DB>, CoCommitError> {
        let mut connection = self.shared.take(Stage::InUse, Stage::Beginning)?;
        if connection.is_none() {
            let unbegun = BackToUnbegun(&self.shared);
            // If this is dropped, whatever the database has begun ends with its connection.
            let begun = LentConnection::begin(&self.shared.home).await?;
            mem::forget(unbegun);
            connection = Some(self.shared.begun(begun)?);
        }
        Ok(OpenTransaction { shared: self.shared.clone(), connection })
    }

    /// Undoes what the request has written so far, and forgets its [`on_commit`](Self::on_commit)
    /// functions.
    ///
    /// The response is then stored alone. After another [`begin`](Self::begin), it is stored with
    /// the rows that are written from then on.
    ///
    /// # Errors
    ///
    /// The same as those of [`begin`](Self::begin). After an error, no row is committed, with one
    /// exception on PostgreSQL. A [`Savepoint`] that was dropped half way may have ended the
    /// transaction, so that later rows are committed at once. The call then fails with
    /// [`Over`](CoCommitError::Over), and the request is answered 503
    /// ([`NotRecorded`](crate::RejectionKind::NotRecorded)).
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped, the connection is closed and every row is undone, with the same
    /// exception.
    pub async fn roll_back(&self) -> Result<(), CoCommitError> {
        let Some(mut connection) = self.shared.take(Stage::Beginning, Stage::Unbegun)? else {
            return Ok(());
        };
        let was_torn = {
            let mut state = self.shared.lock();
            state.on_commit.clear();
            mem::take(&mut state.is_torn)
        };
        let unbegun = BackToUnbegun(&self.shared);
        if was_torn && !DB::ELSEWHERE_IS_ROLLED_BACK {
            // sqlx may have ended the transaction. What was written since is committed then, and
            // the request must not be answered as rolled back until the transaction is known to be
            // open.
            self.shared.lock().is_elsewhere = true;
            let (within, _, mark) = connection.parts();
            if let Ok(false) = DB::check(within, mark).await {
                self.shared.lock().stage = Stage::Over;
                return Err(CoCommitError::Over);
            }
            self.shared.lock().is_elsewhere = false;
        }
        let reads_uncommitted = connection.reads_uncommitted();
        if !self.shared.is_claim && !reads_uncommitted {
            return Ok(connection.roll_back().await?);
        }
        // If this fails or is dropped, the claim ends with its connection, or what the handler has
        // read may never be committed. Then the request is answered 503.
        if reads_uncommitted {
            self.shared.lock().is_elsewhere = true;
        }
        connection.roll_back_handler().await?;
        if reads_uncommitted {
            self.shared.lock().is_elsewhere = false;
        }
        mem::forget(unbegun);
        self.shared.continued(connection)
    }

    /// Commits the rows of this request with any response that is stored, such as a 4xx.
    ///
    /// A response that is not stored still rolls them back, because a retry runs the handler again.
    pub fn keep_on_error(&self) {
        self.shared.lock().keeps_on_error = true;
    }

    /// Runs `f` after the transaction was committed, and never otherwise.
    ///
    /// Use it for actions that must wait until the rows are visible: waking a worker, counting,
    /// logging. The functions run in the order of the calls, before the response is sent. They must
    /// not block. A panic in one of them is caught and reported; the others still run.
    ///
    /// `f` runs at most once. It does not run if the process dies right after the commit, or if it
    /// is unknown whether the commit took effect. For an action that must happen, write a row in
    /// the transaction.
    pub fn on_commit(&self, f: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if !matches!(state.stage, Stage::Over) {
            state.on_commit.push(Box::new(f));
        }
    }
}

impl<DB: CoCommitDatabase> Shared<DB> {
    fn lock(&self) -> MutexGuard<'_, State<DB>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection if the transaction was begun. The stage becomes `begun` then, and
    /// `unbegun` otherwise.
    fn take(
        &self,
        begun: Stage<DB>,
        unbegun: Stage<DB>,
    ) -> Result<Option<LentConnection<DB>>, CoCommitError> {
        let mut state = self.lock();
        match mem::replace(&mut state.stage, Stage::Over) {
            Stage::Idle(connection) => {
                state.stage = begun;
                Ok(Some(connection))
            }
            Stage::Unbegun => {
                state.stage = unbegun;
                Ok(None)
            }
            busy @ (Stage::Beginning | Stage::InUse) => {
                state.stage = busy;
                Err(CoCommitError::InUse)
            }
            Stage::Over => Err(CoCommitError::Over),
        }
    }

    /// Marks the transaction as begun, unless the request ended meanwhile.
    fn begun(&self, connection: LentConnection<DB>) -> Result<LentConnection<DB>, CoCommitError> {
        let mut state = self.lock();
        if let Stage::Over = state.stage {
            drop(state);
            drop(connection); // closed, and rolled back with that
            return Err(CoCommitError::Over);
        }
        state.stage = Stage::InUse;
        state.reads_uncommitted |= connection.reads_uncommitted();
        Ok(connection)
    }

    /// Gives the transaction back, unless the request ended meanwhile. Checks and changes the stage
    /// under one lock: the request could end between two, and its transaction would be open again.
    fn continued(&self, connection: LentConnection<DB>) -> Result<(), CoCommitError> {
        let mut state = self.lock();
        if let Stage::Over = state.stage {
            drop(state);
            drop(connection); // closed, and rolled back with that
            return Err(CoCommitError::Over);
        }
        state.stage = Stage::Idle(connection);
        Ok(())
    }

    /// Ends the handler's use of the transaction, for good.
    ///
    /// # Errors
    ///
    /// If a task that outlived the handler still uses it. It is rolled back when that task drops
    /// it.
    fn end(&self) -> Result<Option<LentConnection<DB>>, StillInUse> {
        match mem::replace(&mut self.lock().stage, Stage::Over) {
            Stage::Idle(connection) => Ok(Some(connection)),
            Stage::InUse => Err(StillInUse),
            // A `begin` that is still running finds that it is over.
            Stage::Unbegun | Stage::Beginning | Stage::Over => Ok(None),
        }
    }
}

/// A task that outlived the handler still uses the transaction.
struct StillInUse;

/// Restores the stage after a `begin` or `roll_back` that fails or is dropped.
struct BackToUnbegun<'a, DB: CoCommitDatabase>(&'a Shared<DB>);

impl<DB: CoCommitDatabase> Drop for BackToUnbegun<'_, DB> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Stage::Beginning = state.stage {
            state.stage = if self.0.is_claim { Stage::Over } else { Stage::Unbegun };
        }
    }
}

impl<DB: CoCommitDatabase> Clone for CoCommit<DB> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<DB: CoCommitDatabase> fmt::Debug for CoCommit<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoCommit").finish_non_exhaustive()
    }
}

impl<DB: CoCommitDatabase> OpenTransaction<DB> {
    fn parts(&mut self) -> (&Shared<DB>, &mut DB::Connection) {
        (&self.shared, self.connection.as_mut().expect(THERE))
    }
}

/// The connection is there until the drop.
const THERE: &str = "an open transaction has its connection until it is dropped";

impl<DB: CoCommitDatabase> Deref for OpenTransaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.connection.as_ref().expect(THERE)
    }
}

impl<DB: CoCommitDatabase> DerefMut for OpenTransaction<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.connection.as_mut().expect(THERE)
    }
}

impl<DB: CoCommitDatabase> Drop for OpenTransaction<DB> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Stage::InUse = state.stage
            && let Some(connection) = self.connection.take()
        {
            state.stage = Stage::Idle(connection);
        }
        // Otherwise the request is over: the connection is closed, and what was written is rolled
        // back.
    }
}

impl<DB: CoCommitDatabase> fmt::Debug for OpenTransaction<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction").finish_non_exhaustive()
    }
}
