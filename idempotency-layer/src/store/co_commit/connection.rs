//! A connection of the application's pool on which the layer began a transaction.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Database, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::database::{CoCommitDatabase, CommitError, Mark};
use crate::error::StoreError;
use crate::store::ClaimRequest;
use crate::store::seen::Seen;

/// A connection with an open transaction of ours.
///
/// It goes back to the pool only after a statement ended its transaction and was answered. If it is
/// dropped before that, it is discarded with its transaction. sqlx's own guard trusts its counter
/// of open transactions. A `begin` or a savepoint that was dropped half way leaves that counter
/// wrong, and the pool would lend a connection that is inside a transaction.
pub(super) struct LentConnection<DB: CoCommitDatabase> {
    /// `None` only while it is dropped, and when a group has it.
    connection: Option<PoolConnection<DB>>,
    /// `None` only while it is dropped.
    guard: Option<DB::Guard>,
    mark: Mark,
    runtime: Handle,
}

/// The methods that take the connection out consume the whole value.
const THERE: &str = "a lent connection is there until it is dropped";

impl<DB: CoCommitDatabase> LentConnection<DB> {
    /// Begins a transaction with a mark of its own.
    pub(super) async fn begin(home: &DB::Home) -> Result<Self, sqlx::Error> {
        let mut lent = Self::acquire(home, Mark::new()).await?;
        // If this fails or is dropped, the connection is discarded, with whatever the database has
        // begun.
        let (connection, guard, mark) = lent.parts();
        DB::begin(home, connection, guard, mark).await?;
        Ok(lent)
    }

    /// Begins a transaction that is a claim, and reads its record. Returns `true` if it has the
    /// record's lock.
    pub(super) async fn begin_claim(
        home: &DB::Home,
        request: &ClaimRequest,
        transaction_time: Duration,
    ) -> Result<(Self, bool, Option<Seen>), sqlx::Error> {
        let mut lent = Self::acquire(home, Mark::of(request.token)).await?;
        // If this fails or is dropped, the connection is discarded, and its lock with it.
        let (connection, guard, mark) = lent.parts();
        let (gained, seen) =
            DB::begin_claim(home, connection, guard, mark, request, transaction_time).await?;
        Ok((lent, gained, seen))
    }

    async fn acquire(home: &DB::Home, mark: Mark) -> Result<Self, sqlx::Error> {
        let runtime = Handle::try_current().map_err(sqlx::Error::config)?;
        let (connection, guard) = DB::acquire(home, &mark).await?;
        Ok(Self { connection: Some(connection), guard: Some(guard), mark, runtime })
    }

    /// Returns the connection, its guard, and the mark of its transaction.
    pub(super) fn parts(&mut self) -> (&mut DB::Connection, &mut DB::Guard, &Mark) {
        let connection = self.connection.as_mut().expect(THERE);
        (&mut *connection, self.guard.as_mut().expect(THERE), &self.mark)
    }

    /// Returns whether the transaction may have read rows that are not committed yet. If so, no
    /// response leaves before its end.
    pub(super) fn reads_uncommitted(&self) -> bool {
        self.guard.as_ref().is_some_and(DB::reads_uncommitted)
    }

    /// Commits. If this is dropped, it is unknown whether it committed, and the connection is
    /// discarded.
    pub(super) async fn commit(mut self) -> Result<(), CommitError> {
        let committed = DB::commit(&mut self.connection, self.guard.as_mut().expect(THERE)).await;
        match &committed {
            Ok(()) => self.give_back(),
            // A transaction that is still open ends before the answer: the client's next try must
            // not meet its locks.
            Err(CommitError::RolledBack(_)) => drop(roll_back_in_time(self).await),
            Err(CommitError::Unknown(_)) => {}
        }
        committed
    }

    /// Rolls back. If that fails, the connection is discarded, which rolls back too.
    ///
    /// # Errors
    ///
    /// Also if rows that the handler may have read were never committed.
    pub(super) async fn roll_back(mut self) -> Result<(), sqlx::Error> {
        if DB::roll_back(&mut self.connection, self.guard.as_mut().expect(THERE)).await? {
            self.give_back();
        }
        Ok(())
    }

    /// Rolls back a claim that was answered without a run. The answer does not wait for that, if
    /// the database allows it.
    ///
    /// Dropped before the pool has sent the rollback, the connection is closed, which rolls back
    /// too.
    pub(super) async fn roll_back_answered(mut self) {
        let (connection, _, _) = self.parts();
        if DB::queue_roll_back(connection) {
            self.give_back();
        } else {
            let _ = roll_back_in_time(self).await;
        }
    }

    /// Undoes what the handler wrote in a transaction that is a claim. The claim stays.
    pub(super) async fn roll_back_handler(&mut self) -> Result<(), sqlx::Error> {
        let (connection, _, mark) = self.parts();
        DB::roll_back_handler(connection, mark).await
    }

    /// Gives the connection back to the pool after its transaction. The pool spawns a task for
    /// that, and panics without a runtime.
    fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            let _entered = self.runtime.enter();
            drop(connection);
        }
    }
}

impl<DB: CoCommitDatabase> Drop for LentConnection<DB> {
    fn drop(&mut self) {
        if let (Some(connection), Some(guard)) = (self.connection.take(), self.guard.take()) {
            DB::discard(connection, guard, &self.runtime);
        }
    }
}

impl<DB: CoCommitDatabase> Deref for LentConnection<DB> {
    type Target = <DB as Database>::Connection;

    fn deref(&self) -> &Self::Target {
        self.connection.as_ref().expect(THERE)
    }
}

impl<DB: CoCommitDatabase> DerefMut for LentConnection<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.parts().0
    }
}

/// Rolls back. If that fails or takes too long, closing the connection does.
///
/// # Errors
///
/// `RolledBack` if the handler may have read rows that are not known to be committed: its response
/// must not be given.
pub(super) async fn roll_back_in_time<DB: CoCommitDatabase>(
    connection: LentConnection<DB>,
) -> Result<(), StoreError> {
    const AT_MOST: Duration = Duration::from_secs(5);
    const UNCOMMITTED: &str = "the handler may have read rows that were not committed";
    let reads_uncommitted = connection.reads_uncommitted();
    match timeout(AT_MOST, connection.roll_back()).await {
        Ok(Err(error)) if reads_uncommitted => Err(StoreError::rolled_back(error)),
        Err(_) if reads_uncommitted => Err(StoreError::rolled_back(UNCOMMITTED)),
        _ => Ok(()),
    }
}

// The same as sqlx's guard, without the guard.

/// Begins a transaction with this text. sqlx counts it, so the handler's own `begin` is a
/// savepoint.
pub(super) async fn begin_with<DB: Database>(
    connection: &mut DB::Connection,
    text: String,
) -> Result<(), sqlx::Error> {
    DB::TransactionManager::begin(connection, Some(AssertSqlSafe(text).into_sql_str())).await
}

/// Returns how many transactions and savepoints sqlx believes to be open.
pub(super) fn depth<DB: Database>(connection: &DB::Connection) -> usize {
    DB::TransactionManager::get_transaction_depth(connection)
}

/// Sends COMMIT, if sqlx counts one transaction, and that is ours.
pub(super) async fn commit<DB: Database>(
    connection: &mut DB::Connection,
    is_rolled_back: impl FnOnce(&sqlx::Error) -> bool,
) -> Result<(), CommitError> {
    if depth::<DB>(connection) != 1 {
        // Nothing is sent. The connection is discarded, which rolls back what was written.
        return Err(CommitError::RolledBack(sqlx::Error::Protocol(SAVEPOINT_LEFT.into())));
    }
    match DB::TransactionManager::commit(connection).await {
        Ok(()) => Ok(()),
        Err(error) if is_rolled_back(&error) => Err(CommitError::RolledBack(error)),
        Err(error) => Err(CommitError::Unknown(error)),
    }
}

const SAVEPOINT_LEFT: &str = "a savepoint of the handler is open, or was dropped half way";

/// Sends ROLLBACK.
pub(super) async fn roll_back<DB: Database>(connection: &mut DB::Connection) -> Result<(), sqlx::Error> {
    DB::TransactionManager::rollback(connection).await
}
