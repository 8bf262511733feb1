//! Beginning and ending a transaction on SQLite.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Error, Executor, Sqlite, SqliteConnection, SqlitePool};
use tokio::runtime::Handle;

use super::connection::{begin_with, commit, depth, roll_back};
use super::database::private::{ClaimStatements, Statements};
use super::database::{Claims, CommitError, CompletedClaim, Mark, Written};
use crate::error::StoreError;
use crate::store::seen::Seen;
use crate::store::sqlite::commit_hook::{CommitGuard, guard};
use crate::store::sqlite::error::{FailedCommit, failed_commit};
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::{self, transaction};
use crate::store::{Claim, ClaimRequest, Fence, Fenced, Outcome, RecordId};

/// The pool, and what its claims share.
#[derive(Clone, Debug)]
pub struct SqliteHome {
    pool: SqlitePool,
    /// Beside the writer, which a handler may hold.
    reader: Reader,
    claims: Claims,
}

impl SqliteHome {
    pub(in crate::store) fn new(pool: SqlitePool) -> Self {
        let reader = Reader::new(SqliteConnectOptions::clone(&pool.connect_options()));
        Self { claims: Claims::new(&pool), reader, pool }
    }
}

impl Statements for Sqlite {
    type Home = SqliteHome;
    /// Turns every commit but the layer's into a rollback. `None` until it is in place.
    type Guard = Option<CommitGuard>;

    fn pool(home: &SqliteHome) -> &SqlitePool {
        &home.pool
    }

    fn guard() -> Self::Guard {
        None
    }

    /// The mark is a savepoint. Its name is nobody else's: a savepoint of the handler would pass for it.
    async fn begin(
        _: &SqliteHome,
        connection: &mut SqliteConnection,
        commits: &mut Self::Guard,
        mark: &Mark,
    ) -> Result<(), Error> {
        let mark = mark.as_str();
        begin_with::<Self>(connection, format!("BEGIN IMMEDIATE; SAVEPOINT co_commit_{mark}")).await?;
        *commits = Some(guard(connection).await?);
        Ok(())
    }

    /// SQLite rolls a whole transaction back by itself on some errors (no space, input or output); the savepoint is gone
    /// with it.
    async fn check(connection: &mut SqliteConnection, mark: &Mark) -> Result<bool, StoreError> {
        let mark = mark.as_str();
        let released = connection.execute(AssertSqlSafe(format!("RELEASE co_commit_{mark}"))).await;
        Ok(released.is_ok())
    }

    async fn complete(
        _: &SqliteHome,
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

    async fn commit(connection: &mut SqliteConnection, commits: &mut Self::Guard) -> Result<(), CommitError> {
        if let Some(commits) = commits {
            commits.allow_one();
        }
        commit::<Self>(connection, |error| failed_commit(error) == FailedCommit::RolledBack).await?;
        if let Some(commits) = commits.take() {
            commits.off();
        }
        Ok(())
    }

    async fn roll_back(connection: &mut SqliteConnection, commits: &mut Self::Guard) -> Result<bool, Error> {
        end(connection, commits).await.map(|()| true)
    }

    /// It is repaired rather than closed: a database in memory would go with its connection.
    fn discard(mut connection: PoolConnection<Self>, mut commits: Self::Guard, runtime: &Handle) {
        runtime.spawn(async move {
            if end(&mut connection, &mut commits).await.is_err() {
                drop(connection.detach());
            }
        });
    }

    /// The commit hook leaves nobody but the layer to commit it.
    const ELSEWHERE_IS_ROLLED_BACK: bool = true;

    async fn is_completed(home: &SqliteHome, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        let mut connection = home.pool.acquire().await.map_err(StoreError::unavailable)?;
        sqlite::settled_in(&mut connection, record, fence).await
    }
}

impl ClaimStatements for Sqlite {
    fn claims(home: &SqliteHome) -> &Claims {
        &home.claims
    }

    async fn peek(home: &SqliteHome, request: &ClaimRequest) -> Option<Claim> {
        home.reader.look(request).await.ok().flatten()
    }

    /// The writer is the lock: only its holder runs.
    async fn begin_claim(
        home: &SqliteHome,
        connection: &mut SqliteConnection,
        commits: &mut Self::Guard,
        mark: &Mark,
        request: &ClaimRequest,
        _: Duration,
    ) -> Result<(bool, Option<Seen>), Error> {
        Self::begin(home, connection, commits, mark).await?;
        Ok((true, transaction::read(connection, request.record).await?))
    }

    async fn roll_back_handler(connection: &mut SqliteConnection, mark: &Mark) -> Result<(), Error> {
        let mark = mark.as_str();
        connection.execute(AssertSqlSafe(format!("ROLLBACK TO co_commit_{mark}"))).await.map(drop)
    }

    async fn complete_claim(
        _: &SqliteHome,
        connection: &mut SqliteConnection,
        mark: &Mark,
        completed: &CompletedClaim<'_>,
    ) -> Result<Written, StoreError> {
        if !Self::check(connection, mark).await? {
            return Ok(Written::Elsewhere);
        }
        transaction::write_completed(connection, completed).await
    }

    /// By the writer, so after the end of every transaction of this process and, waiting for the lock, of others.
    async fn look_up(home: &SqliteHome, request: &ClaimRequest) -> Result<Option<Seen>, StoreError> {
        let mut connection = home.pool.acquire().await.map_err(StoreError::unavailable)?;
        transaction::read(&mut connection, request.record).await.map_err(StoreError::unavailable)
    }
}

/// Ends whatever transaction there is, brings sqlx's counter to zero, and lets the connection commit again.
async fn end(connection: &mut SqliteConnection, commits: &mut Option<CommitGuard>) -> Result<(), Error> {
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
    if let Some(commits) = commits.take() {
        commits.off();
    }
    Ok(())
}
