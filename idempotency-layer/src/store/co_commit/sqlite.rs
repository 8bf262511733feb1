//! Ending a transaction on SQLite.

use sqlx::{Executor, Sqlite, SqliteConnection, SqlitePool};

use super::private::Statements;
use crate::error::StoreError;
use crate::store::{Fence, Fenced, Outcome, RecordId, sqlite};

impl Statements for Sqlite {
    /// The savepoint is a mark: see `check`.
    const BEGIN: &'static str = "BEGIN IMMEDIATE; SAVEPOINT co_commit";

    /// SQLite rolls a whole transaction back by itself on some errors (no space, input or output): what is written then is
    /// written outside of it. Its savepoint is gone with it.
    async fn check(connection: &mut SqliteConnection) -> Result<(), StoreError> {
        connection.execute("RELEASE co_commit").await.map(drop).map_err(StoreError::unavailable)
    }

    /// Where SQLite ended the transaction, a ROLLBACK fails, and the pool's connection would count as within one for ever.
    async fn prepare_rollback(connection: &mut SqliteConnection) {
        // Fails where one is open, which is well.
        let _ = connection.execute("BEGIN").await;
    }

    async fn complete(
        connection: &mut SqliteConnection,
        record: RecordId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<Fenced, StoreError> {
        Self::check(connection).await?;
        sqlite::complete_in(connection, record, fence, outcome).await
    }

    async fn is_completed(pool: &SqlitePool, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        let mut connection = pool.acquire().await.map_err(StoreError::unavailable)?;
        sqlite::settled_in(&mut connection, record, fence).await
    }
}
