//! Begins and ends transactions on SQLite.

mod group;

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Error, Executor, Sqlite, SqliteConnection, SqlitePool};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::group::{Groups, Member};
use super::connection::{depth, roll_back};
use super::database::private::{ClaimStatements, Statements};
use super::database::{Claims, CommitError, CompletedClaim, Mark, Written};
use crate::error::StoreError;
use crate::store::seen::Seen;
use crate::store::sqlite::commit_hook::CommitGuard;
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::{self, transaction};
use crate::store::{Claim, ClaimRequest, Fence, Fenced, Outcome, RecordId};

/// What the requests of one store share.
#[derive(Clone, Debug)]
pub struct SqliteHome {
    pool: SqlitePool,
    /// Reads records while a handler holds the writer.
    pub(crate) reader: Reader,
    claims: Claims,
    groups: Groups,
}

impl SqliteHome {
    pub(in crate::store) fn new(pool: SqlitePool) -> Self {
        let reader = Reader::new(SqliteConnectOptions::clone(&pool.connect_options()));
        // All of them wait in one queue for the one connection, so none of them needs a place
        // before that.
        let claims =
            Claims { places: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), ..Claims::new(&pool) };
        Self { claims, groups: Groups::new(), reader, pool }
    }

    pub(in crate::store) fn share_commits(&self, shares: bool) {
        self.groups.enable(shares);
    }
}

impl Statements for Sqlite {
    type Home = SqliteHome;
    /// Its place in the group of those that share a commit.
    type Guard = Member;

    async fn acquire(home: &SqliteHome, mark: &Mark) -> Result<(PoolConnection<Self>, Member), Error> {
        home.groups.acquire(&home.pool, mark).await
    }

    /// The mark is a savepoint.
    async fn begin(
        _: &SqliteHome,
        connection: &mut SqliteConnection,
        member: &mut Member,
        _: &Mark,
    ) -> Result<(), Error> {
        member.begin(connection).await
    }

    /// SQLite rolls a whole transaction back by itself on some errors (no space, input or output);
    /// the savepoint is gone with it. Released, it can no longer be rolled back apart from its
    /// group.
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
        match sqlite::complete_in(connection, record, fence, outcome).await? {
            Fenced::Held => within(connection, mark).await,
            Fenced::Stale => Ok(Written::Stale),
        }
    }

    async fn commit(
        connection: &mut Option<PoolConnection<Self>>,
        member: &mut Member,
    ) -> Result<(), CommitError> {
        member.commit(connection).await
    }

    async fn roll_back(
        connection: &mut Option<PoolConnection<Self>>,
        member: &mut Member,
    ) -> Result<bool, Error> {
        member.roll_back(connection).await.map(|()| true)
    }

    fn reads_uncommitted(member: &Member) -> bool {
        member.reads_uncommitted()
    }

    fn discard(connection: PoolConnection<Self>, member: Member, runtime: &Handle) {
        group::discard(connection, member, runtime);
    }

    /// The commit hook lets only the layer commit.
    const ELSEWHERE_IS_ROLLED_BACK: bool = true;

    async fn is_completed(home: &SqliteHome, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        sqlite::is_settled(&home.pool, record, fence).await
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
        member: &mut Member,
        mark: &Mark,
        request: &ClaimRequest,
        _: Duration,
    ) -> Result<(bool, Option<Seen>), Error> {
        Self::begin(home, connection, member, mark).await?;
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
        match transaction::write_completed(connection, completed).await? {
            Written::Held => within(connection, mark).await,
            other => Ok(other),
        }
    }

    async fn look_up(home: &SqliteHome, request: &ClaimRequest) -> Result<Option<Seen>, StoreError> {
        transaction::read_settled(&home.pool, request.record).await.map_err(StoreError::unavailable)
    }
}

/// Looks at the mark after the record was written, because a member that has released its savepoint
/// cannot be undone. Outside of the transaction the commit hook has refused that write.
async fn within(connection: &mut SqliteConnection, mark: &Mark) -> Result<Written, StoreError> {
    Ok(if Sqlite::check(connection, mark).await? { Written::Held } else { Written::Elsewhere })
}

/// Ends the open transaction, if any, sets sqlx's counter to zero, and lets the connection commit
/// again.
async fn end(connection: &mut SqliteConnection, commits: &mut Option<CommitGuard>) -> Result<(), Error> {
    // Fails if SQLite has ended the transaction by itself. Every statement that was sent before is
    // done when this is answered.
    let _ = connection.execute("ROLLBACK").await;
    let counted = depth::<Sqlite>(connection);
    if counted > 0 {
        // sqlx counts down only for its own rollbacks.
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
