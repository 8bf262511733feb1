//! Beginning and ending a transaction on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, Connection, Database, Error, Executor, PgConnection, PgPool, Postgres};
use sqlx_core::transaction::TransactionManager as _;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::connection::{begin_with, commit, depth, roll_back};
use super::database::private::{ClaimStatements, Statements};
use super::database::{Claims, CommitError, CompletedClaim, Mark, Written};
use crate::error::StoreError;
use crate::store::postgres::transaction::{self, Names};
use crate::store::seen::Seen;
use crate::store::{Claim, ClaimRequest, Fence, Outcome, RecordId};

/// The pool, and the store's statements. They name the schema, because a handler may set another
/// `search_path`.
#[derive(Clone, Debug)]
pub struct PostgresHome {
    pool: PgPool,
    names: Arc<OnceCell<Names>>,
    claims: Claims,
}

impl PostgresHome {
    pub(in crate::store) fn new(pool: PgPool) -> Self {
        Self { claims: Claims::new(&pool), pool, names: Arc::default() }
    }

    /// Finds the names, once for each store, before its first transaction.
    async fn names(&self, connection: &mut PgConnection) -> Result<&Names, Error> {
        self.names.get_or_try_init(|| Names::find(connection)).await
    }
}

impl Statements for Postgres {
    type Home = PostgresHome;
    type Guard = ();

    async fn acquire(home: &PostgresHome, _: &Mark) -> Result<(PoolConnection<Self>, ()), Error> {
        Ok((home.pool.acquire().await?, ()))
    }

    /// Sets the level, because the database's default may be another. The mark is set by
    /// `SET LOCAL`: after a SELECT or a savepoint, the handler could not choose another level.
    async fn begin(
        home: &PostgresHome,
        connection: &mut PgConnection,
        (): &mut (),
        mark: &Mark,
    ) -> Result<(), Error> {
        home.names(connection).await?;
        let mark = mark.as_str();
        let text = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idempotency_layer.claim = '{mark}'"
        );
        begin_with::<Self>(connection, text).await
    }

    async fn check(connection: &mut PgConnection, mark: &Mark) -> Result<bool, StoreError> {
        transaction::is_marked(connection, mark.as_str()).await
    }

    async fn complete(
        home: &PostgresHome,
        connection: &mut PgConnection,
        mark: &Mark,
        record: RecordId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<Written, StoreError> {
        let names = home.names(connection).await.map_err(StoreError::rolled_back)?;
        transaction::complete_leased(connection, names, mark.as_str(), record, fence, outcome).await
    }

    async fn commit(connection: &mut Option<PoolConnection<Self>>, (): &mut ()) -> Result<(), CommitError> {
        let Some(connection) = connection else { return Err(CommitError::RolledBack(Error::PoolClosed)) };
        commit::<Self>(connection, is_rolled_back).await
    }

    async fn roll_back(connection: &mut Option<PoolConnection<Self>>, (): &mut ()) -> Result<bool, Error> {
        let Some(connection) = connection else { return Ok(true) };
        if depth::<Self>(connection) == 1 {
            return roll_back::<Self>(connection).await.map(|()| true);
        }
        // sqlx has lost count, so the connection cannot go back to the pool. End its transaction
        // now, not some time later.
        connection.execute("ROLLBACK").await.map(|_| false)
    }

    /// The server rolls back when it finds the connection closed.
    fn discard(connection: PoolConnection<Self>, (): (), _: &Handle) {
        drop(connection.detach());
    }

    /// The handler or its driver may have committed it.
    const ELSEWHERE_IS_ROLLED_BACK: bool = false;

    /// Uses a connection of its own, because handlers may hold all of the pool's. The row's lock
    /// waits for the end of the transaction in question. A standby does not know how that ended,
    /// and refuses the lock.
    async fn is_completed(home: &PostgresHome, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        let options = home.pool.connect_options();
        let mut connection = PgConnection::connect_with(&options).await.map_err(StoreError::unavailable)?;
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '4s'";
        connection.execute(begin).await.map_err(StoreError::unavailable)?;
        let names = home.names(&mut connection).await.map_err(StoreError::unavailable)?;
        let settled = transaction::is_completed(&mut connection, names, record, fence).await?;
        end(connection).await;
        Ok(settled)
    }
}

impl ClaimStatements for Postgres {
    fn claims(home: &PostgresHome) -> &Claims {
        &home.claims
    }

    /// A read would cost a round trip of its own. The claim reads the record anyway.
    async fn peek(_: &PostgresHome, _: &ClaimRequest) -> Option<Claim> {
        None
    }

    async fn begin_claim(
        home: &PostgresHome,
        connection: &mut PgConnection,
        (): &mut (),
        mark: &Mark,
        request: &ClaimRequest,
        transaction_time: Duration,
    ) -> Result<(bool, Option<Seen>), Error> {
        let (names, mark) = (home.names(connection).await?, mark.as_str());
        begin_with::<Self>(connection, names.begin_claim(mark, request.record, transaction_time)).await?;
        transaction::read(connection, names, mark, request.record).await
    }

    /// Queues a ROLLBACK if sqlx counts one transaction, and that is ours. sqlx sends it with the
    /// ping that it makes before it puts the connection back into the pool.
    fn queue_roll_back(connection: &mut PgConnection) -> bool {
        let is_ours = depth::<Self>(connection) == 1;
        if is_ours {
            <Self as Database>::TransactionManager::start_rollback(connection);
        }
        is_ours
    }

    /// The lock and the mark stay, because they are older than the savepoint.
    async fn roll_back_handler(connection: &mut PgConnection, _: &Mark) -> Result<(), Error> {
        connection.execute("ROLLBACK TO SAVEPOINT idempotency_handler").await.map(drop)
    }

    async fn complete_claim(
        home: &PostgresHome,
        connection: &mut PgConnection,
        mark: &Mark,
        completed: &CompletedClaim<'_>,
    ) -> Result<Written, StoreError> {
        let names = home.names(connection).await.map_err(StoreError::rolled_back)?;
        transaction::write_completed(connection, names, mark.as_str(), completed).await
    }

    /// Uses a connection of its own, like `is_completed`. The lock waits for the end of the
    /// transaction in question.
    async fn look_up(home: &PostgresHome, request: &ClaimRequest) -> Result<Option<Seen>, StoreError> {
        let look = async {
            let mut connection = PgConnection::connect_with(&home.pool.connect_options()).await?;
            let names = home.names(&mut connection).await?;
            connection.execute(AssertSqlSafe(names.begin_look_up(request.record))).await?;
            let (_, seen) = transaction::read(&mut connection, names, "", request.record).await?;
            end(connection).await;
            Ok::<_, Error>(seen)
        };
        look.await.map_err(StoreError::unavailable)
    }
}

/// Ends a look-up, and waits until its locks are released. A server releases those of a closed
/// connection some time later, and the next try would meet them.
async fn end(mut connection: PgConnection) {
    if connection.execute("ROLLBACK").await.is_ok() {
        let _ = connection.close().await;
    }
}

/// Returns whether this answer to COMMIT says for certain that the transaction was rolled back.
///
/// Its severity is ERROR, which the server uses only for the statement itself. A pooler that loses
/// the server, a termination and a shutdown are FATAL. Class 08 is about connections, 40003 is
/// "completion unknown", 57P is an operator's intervention, 58 and XX are failures of the system.
/// (Source: PostgreSQL, appendix A, and the protocol's field `V`.)
fn is_rolled_back(error: &Error) -> bool {
    let Some(error) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        return false;
    };
    let code = error.code();
    matches!(error.severity(), PgSeverity::Error)
        && code != "40003"
        && !["08", "57P", "58", "XX"].iter().any(|class| code.starts_with(class))
}
