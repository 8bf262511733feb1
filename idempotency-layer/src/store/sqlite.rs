//! A store of records in an SQLite file.

mod answers;
mod checkpoints;
pub(super) mod commit_hook;
pub(super) mod error;
mod lent;
mod packed;
pub(super) mod reader;
mod statements;
#[cfg(test)]
mod tests;
pub(super) mod transaction;
mod verbs;
mod writer;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool, query, query_scalar};
use tokio::time::sleep;

use self::checkpoints::{Checkpoints, LOG_PAGES};
use self::error::{is_busy, store_error};
use self::lent::Lent;
use self::statements::TEXTS;
use self::verbs::Verbs;
use super::batch::Op;
use super::co_commit::SqliteHome;
use super::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, ClaimsInTransaction, Fence, Fenced, Inspect, Outcome, Purge,
    RecordId, RequestTransaction, Store, TransactionClaim, co_commit,
};
use crate::clock::{after, now};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;

/// The column of that name.
mod state {
    use crate::error::StoreError;
    use crate::store::{Outcome, Tombstone};

    pub(super) const RUNNING: i32 = 0;
    pub(super) const RELEASED: i32 = 1;
    pub(super) const RESPONSE: i32 = 2;
    pub(super) const UNREPLAYABLE: i32 = 3;
    pub(super) const UNKNOWN: i32 = 4;

    pub(super) fn of(outcome: &Outcome) -> i32 {
        match outcome {
            Outcome::Response(_) => RESPONSE,
            Outcome::Tombstone(Tombstone::Unreplayable) => UNREPLAYABLE,
            Outcome::Tombstone(Tombstone::Unknown) => UNKNOWN,
        }
    }

    pub(super) fn tombstone(state: i32) -> Result<Tombstone, StoreError> {
        match state {
            UNREPLAYABLE => Ok(Tombstone::Unreplayable),
            UNKNOWN => Ok(Tombstone::Unknown),
            _ => Err(StoreError::invalid("a state of a later release")),
        }
    }
}

/// Records in an SQLite file, for one process, or for several processes of one machine.
///
/// A verb is answered after its commit has reached the disk (WAL, `synchronous = FULL`), so it
/// survives a crash of the process and of the machine. Verbs that arrive during a commit share the
/// next one. Handlers can write their rows in the transaction that stores the response; see
/// [`CoCommit`](crate::CoCommit).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotency_layer::{IdempotencyLayer, SqliteStore};
///
/// let store = SqliteStore::open("sqlite::memory:").await?; // or "sqlite:records.db"
/// sqlx::query("CREATE TABLE payments (amount INTEGER NOT NULL)").execute(store.pool()).await?;
/// let layer = IdempotencyLayer::builder(store).single_tenant().build();
/// # Ok(())
/// # }
/// ```
///
/// # One writer
///
/// SQLite allows one writer at a time. In a process, the writer is the single connection of
/// [`pool`](Self::pool). The application must write through it too. Store and application take
/// turns in the order of their requests. A second pool that writes to the file gets `SQLITE_BUSY`
/// errors; a second pool that only reads does not.
///
/// Transactions of the application hold up all other writes, so keep them short. The store waits
/// while another process holds the write lock.
///
/// # Shared commits
///
/// A commit waits for the disk. Transactions of handlers ([`CoCommit`](crate::CoCommit)) that wait
/// for the writer share one: when a handler has answered, the next one continues in the same SQLite
/// transaction, in a savepoint of its own. The transaction is committed when no handler waits,
/// after 64 handlers, or when it is 20 ms old. All of them are answered after that.
///
/// - A shared commit is all or nothing. If it fails, or if one of the handlers makes SQLite end the
///   transaction (`OR ROLLBACK`, `RAISE(ROLLBACK)`, no space, `COMMIT`), all of them are rolled
///   back and answered 503, and retries run. For the next second, each transaction commits alone.
/// - A handler sees the rows of those before it, although they are not committed. Its response, a
///   refusal too, is given only once they are. So a handler must not tell others what it read or
///   wrote before [`on_commit`](crate::CoCommit::on_commit).
/// - A slow handler holds up the answers of those that share its transaction. Nobody joins after
///   it. If your handlers keep their transactions open for long, switch sharing off with
///   [`share_commits`](Self::share_commits).
/// - A schema with a `DEFERRABLE` constraint, and a connection with an attached database, share no
///   commits.
///
/// # Time-outs
///
/// A verb fails as [`Unavailable`](crate::StoreErrorKind::Unavailable) after 20 s at most: 10 s
/// behind the application's transactions, and 10 s for the lock of another process.
///
/// # Time
///
/// Leases and times to live follow the machine's wall clock, in milliseconds. If it is set back,
/// they last longer; if it is set forward, they end early.
///
/// # Runtime
///
/// The store may be created outside a runtime, and used from several. Verbs run on the runtime that
/// used the store first. When it ends, its pending verbs fail as `Unavailable`, and the next
/// runtime takes over.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    home: SqliteHome,
    verbs: Arc<Verbs>,
}

/// How long a caller waits for the connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for the lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for a file that another process is opening.
const OPENED_WITHIN: Duration = Duration::from_secs(5);
/// The rows of an answer that are buffered. A batch has fewer, so SQLite's thread never waits for
/// the reader.
const ROWS: usize = 2048;
/// KiB of pages in memory. Record ids are random, so they touch every page of their index.
const CACHE_KIB: i32 = 16 * 1024;

impl SqliteStore {
    /// Opens the database at a URL (`sqlite:path` or `sqlite::memory:`), and creates the file and
    /// the tables if they are missing.
    ///
    /// The pool has one connection, with WAL and `synchronous = FULL`. WAL checkpoints run on
    /// another connection.
    ///
    /// # Errors
    ///
    /// - [`Unavailable`](crate::StoreErrorKind::Unavailable) if the database cannot be opened or
    ///   written.
    /// - [`Invalid`](crate::StoreErrorKind::Invalid) if its text encoding is not UTF-8.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url).map_err(store_error)?;
        Self::open_with(options.create_if_missing(true)).await
    }

    /// Opens the database with your options, such as the key of an encrypted database. The store
    /// sets journal mode, synchronisation, time-out and WAL checkpoints.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_with(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(ROWS)
            .pragma("wal_autocheckpoint", LOG_PAGES.to_string())
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .pragma("temp_store", "MEMORY");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // A database in memory is lost when its connection is closed.
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| Box::pin(is_sound(connection)))
            .connect_lazy_with(options.clone());
        let is_file = opened(&pool).await.map_err(store_error)?;
        let store = Self::with_checkpoints(pool, is_file.then_some(options));
        store.migrate().await?;
        Ok(store)
    }

    /// Creates a store on your pool.
    ///
    /// The pool must be the only one that writes to the database, with one connection that is never
    /// closed (`max_connections(1)`, `max_lifetime(None)`, `idle_timeout(None)`). Call
    /// [`migrate`](Self::migrate) before any verb.
    ///
    /// WAL checkpoints are those of the pool. By default, SQLite makes them within a commit, every
    /// 1000 pages.
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_checkpoints(pool, None)
    }

    fn with_checkpoints(pool: SqlitePool, options: Option<SqliteConnectOptions>) -> Self {
        let checkpoints = options.map(Checkpoints::new).map(Arc::new);
        let verbs = Arc::new(Verbs::new(pool.clone(), checkpoints));
        Self { verbs, home: SqliteHome::new(pool.clone()), pool }
    }

    /// Sets whether transactions of handlers that wait for the writer share a commit. The default
    /// is `true`.
    ///
    /// See [Shared commits](Self#shared-commits). It holds for every clone of the store.
    #[must_use]
    pub fn share_commits(self, shares: bool) -> Self {
        self.home.share_commits(shares);
        self
    }

    /// Creates the tables `idempotency_records` and `idempotency_fences`, or migrates them to this
    /// version of the crate.
    ///
    /// Several processes may do so at once. The store keeps its migrations in
    /// `idempotency_migrations`, apart from those of the application.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // Takes the write lock from the start, so that another process sees all of it or nothing.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        let encoding: String =
            query_scalar("PRAGMA encoding").fetch_one(&mut *transaction).await.map_err(store_error)?;
        if encoding != "UTF-8" {
            // The batch statements cut numbers out of blobs as text.
            return Err(StoreError::invalid("the encoding of the database is not UTF-8"));
        }
        migrations().run_direct(None, &mut *transaction, false).await.map_err(StoreError::unavailable)?;
        transaction.commit().await.map_err(store_error)
    }

    /// Returns the pool with the one connection that writes.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }
}

/// Returns whether a connection that was given back can be used again.
///
/// On some errors (no space, for example) SQLite ends a transaction by itself. sqlx cannot roll it
/// back then, still counts it, and begins no other one. Such a connection is closed, except in
/// memory, where the database would be lost with it.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // Waits for a rollback that a drop has started.
    connection.ping().await?;
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    let file: String = query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
        .fetch_one(connection)
        .await?;
    Ok(file.is_empty())
}

impl Store for SqliteStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.verbs.claim(request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.verbs.fenced(Op::Complete(record, fence, outcome)).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.verbs.fenced(Op::Release(record, fence)).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.verbs.fenced(Op::Extend(record, fence, lease)).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        self.verbs.fenced(Op::Checkpoint(record, fence, checkpoint)).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        Some(co_commit::offer::<Sqlite>(&self.home, extensions))
    }
}

impl ClaimsInTransaction for SqliteStore {
    const TRANSACTION_TIME: Duration = Duration::from_secs(5);

    async fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        transaction_time: Duration,
    ) -> Result<TransactionClaim, StoreError> {
        co_commit::claim::<Sqlite>(&self.home, request, transaction_time).await
    }
}

/// Reads beside the writer. In memory, on its connection.
impl Inspect for SqliteStore {
    async fn is_taken(&self, record: RecordId) -> Result<bool, StoreError> {
        // No fingerprint and a new token, which are those of no other request.
        let request =
            ClaimRequest::new(record, Fingerprint::NONE, ClaimToken::new(), Duration::ZERO, Duration::ZERO);
        if self.home.reader.look(&request).await?.is_some() {
            return Ok(true);
        }
        if !self.home.reader.is_in_memory().await {
            return Ok(false);
        }
        let mut connection = self.pool.acquire().await.map_err(store_error)?;
        Ok(reader::peek(&mut connection, &request).await?.is_some())
    }
}

/// Each call is one transaction, for which other writers wait. Use a limit of some hundreds.
impl Purge for SqliteStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let dropped =
            query(TEXTS.purge.as_str()).bind(limit).execute(&self.pool).await.map_err(store_error)?;
        Ok(usize::try_from(dropped.rows_affected()).unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// Completes a record as a part of the transaction that is open on this connection.
pub(crate) async fn complete_in(
    connection: &mut SqliteConnection,
    record: RecordId,
    fence: Fence,
    outcome: &Outcome,
) -> Result<Fenced, StoreError> {
    writer::complete(connection, record, fence, outcome).await.map_err(store_error)
}

/// Returns whether the record was completed under this fence. Waits for the end of every
/// transaction that is about to do so: its connection may be closed, and its COMMIT still on its
/// way to the disk.
pub(crate) async fn is_settled(
    pool: &SqlitePool,
    record: RecordId,
    fence: Fence,
) -> Result<bool, StoreError> {
    let mut lent = Lent::new(pool.acquire().await.map_err(StoreError::unavailable)?);
    let rows = lent.transaction(packed::held(&TEXTS.settled, record, fence)).await.map_err(store_error)?;
    Ok(!rows.is_empty())
}

/// Opens the pool's connection and returns whether its database is a file.
async fn opened(pool: &SqlitePool) -> Result<bool, sqlx::Error> {
    let deadline = after(now(), OPENED_WITHIN);
    loop {
        // SQLite does not wait for the lock that the switch to WAL takes.
        match query_scalar("SELECT file <> '' FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(pool)
            .await
        {
            Err(error) if is_busy(&error) && now() < deadline => sleep(Duration::from_millis(5)).await,
            is_file => return is_file,
        }
    }
}

fn migrations() -> Migrator {
    let first = include_str!("../../migrations/sqlite/1_idempotency_records.sql");
    let mut migrator = Migrator::with_migrations(vec![Migration::new(
        1,
        "idempotency records".into(),
        MigrationType::Simple,
        first.into_sql_str(),
        false,
    )]);
    migrator.dangerous_set_table_name("idempotency_migrations");
    migrator
}
