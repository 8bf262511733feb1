//! The pool's connection while the store uses it.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Sqlite, SqliteConnection};
use tokio::runtime::Handle;

use super::packed::Call;

/// Returns to the pool when it is dropped, inside or outside a runtime.
///
/// sqlx does not know of a transaction that is part of a text. If one was left open, because its
/// future was dropped or it could not be undone, the connection is closed instead, and the
/// transaction ends with it.
pub(super) struct Lent {
    connection: Option<PoolConnection<Sqlite>>,
    in_transaction: bool,
    runtime: Option<Handle>,
}

impl Lent {
    pub(super) fn new(connection: PoolConnection<Sqlite>) -> Self {
        Self { connection: Some(connection), in_transaction: false, runtime: Handle::try_current().ok() }
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Runs a text that begins and ends a transaction.
    pub(super) async fn transaction(&mut self, call: Call) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.in_transaction = true;
        let rows = call.fetch_all(self.connection()?).await;
        if rows.is_err() {
            undo(self.connection()?).await?;
        }
        self.in_transaction = false;
        rows
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.in_transaction {
            drop(connection.detach());
        } else {
            // sqlx spawns a task that returns the connection, and panics outside a runtime.
            let _entered = self.runtime.as_ref().map(Handle::enter);
            drop(connection);
        }
    }
}

/// Ends the open transaction. It is no error if there is none.
pub(super) async fn undo(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    connection.execute("SAVEPOINT undone; ROLLBACK").await.map(drop)
}
