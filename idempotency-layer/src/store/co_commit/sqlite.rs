//! Beginning and ending a transaction on SQLite.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Error, Executor, Sqlite, SqliteConnection, SqlitePool};
use tokio::runtime::Handle;

use super::connection::{begin_with, commit, depth, roll_back};
use super::database::private::Statements;
use super::database::{CommitError, Mark, Written};
use crate::error::StoreError;
use crate::store::{Fence, Fenced, Outcome, RecordId, sqlite};

impl Statements for Sqlite {
    type Home = SqlitePool;
    type Guard = ();

    fn pool(home: &SqlitePool) -> &SqlitePool {
        home
    }

    fn guard() {}

    /// The mark is a savepoint. Its name is nobody else's: a savepoint of the handler would pass for it.
    async fn begin(
        _: &SqlitePool,
        connection: &mut SqliteConnection,
        (): &mut (),
        mark: &Mark,
    ) -> Result<(), Error> {
        let mark = mark.as_str();
        begin_with::<Self>(connection, format!("BEGIN IMMEDIATE; SAVEPOINT co_commit_{mark}")).await
    }

    /// SQLite rolls a whole transaction back by itself on some errors (no space, input or output); the savepoint is gone
    /// with it.
    async fn check(connection: &mut SqliteConnection, mark: &Mark) -> Result<bool, StoreError> {
        let mark = mark.as_str();
        let released = connection.execute(AssertSqlSafe(format!("RELEASE co_commit_{mark}"))).await;
        Ok(released.is_ok())
    }

    async fn complete(
        _: &SqlitePool,
        connection: &mut SqliteConnection,
        mark: &Mark,
        record: RecordId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<Written, StoreError> {
        if !Self::check(connection, mark).await? {
            return Ok(Written::Elsewhere);
        }
        Ok(match sqlite::complete_in(connection, record, fence, outcome).await? {
            Fenced::Held => Written::Held,
            Fenced::Stale => Written::Stale,
        })
    }

    async fn commit(connection: &mut SqliteConnection, (): &mut ()) -> Result<(), CommitError> {
        commit::<Self>(connection, is_rolled_back).await
    }

    async fn roll_back(connection: &mut SqliteConnection, (): &mut ()) -> Result<bool, Error> {
        end(connection).await.map(|()| true)
    }

    /// It is repaired rather than closed: a database in memory would go with its connection.
    fn discard(mut connection: PoolConnection<Self>, (): (), runtime: &Handle) {
        runtime.spawn(async move {
            if end(&mut connection).await.is_err() {
                drop(connection.detach());
            }
        });
    }

    /// Nobody but the layer can commit it.
    const ELSEWHERE_IS_ROLLED_BACK: bool = true;

    async fn is_completed(home: &SqlitePool, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        let mut connection = home.acquire().await.map_err(StoreError::unavailable)?;
        sqlite::settled_in(&mut connection, record, fence).await
    }
}

/// Ends whatever transaction there is, and brings sqlx's counter to zero.
async fn end(connection: &mut SqliteConnection) -> Result<(), Error> {
    // Fails where SQLite ended the transaction by itself. Whatever was sent before is carried out by then.
    let _ = connection.execute("ROLLBACK").await;
    let counted = depth::<Sqlite>(connection);
    if counted > 0 {
        // sqlx counts down only what it rolls back itself.
        let savepoints = (1..counted).map(|n| format!("; SAVEPOINT _sqlx_savepoint_{n}"));
        let as_counted = savepoints.fold("BEGIN".to_owned(), |text, savepoint| text + &savepoint);
        connection.execute(AssertSqlSafe(as_counted)).await?;
        for _ in 0..counted {
            roll_back::<Sqlite>(connection).await?;
        }
    }
    Ok(())
}

/// Whether this answer to COMMIT says for certain that nothing was committed: the database was locked, or a constraint
/// failed. The transaction is open then, and is rolled back when the connection is discarded.
fn is_rolled_back(error: &Error) -> bool {
    const BUSY: i32 = 5;
    const CONSTRAINT: i32 = 19;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, BUSY | CONSTRAINT))
}
