//! Records in PostgreSQL.

mod answers;
mod calls;
mod error;
mod own;
mod statements;
#[cfg(test)]
mod tests;
pub(super) mod transaction;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, SqlSafeStr, query, query_scalar};

use self::error::store_error;
use self::own::OwnTransaction;
use self::writer::PostgresWriter;
use super::batch::Batcher;
use super::co_commit::PostgresHome;
use super::{
    Checkpoint, Claim, ClaimRequest, ClaimsInTransaction, Fence, Fenced, Inspect, Outcome, Purge, RecordId,
    RequestTransaction, Store, TransactionClaim, co_commit,
};
use crate::error::StoreError;

/// Records in PostgreSQL, version 13 or later.
///
/// Any number of processes share the records. Handlers can write their rows in the transaction that
/// stores the response; see [`CoCommit`](crate::CoCommit).
///
/// ```no_run
/// use std::time::Duration;
///
/// use idempotency_layer::{IdempotencyLayer, PostgresStore, PurgeTask};
/// use sqlx::postgres::PgPoolOptions;
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = PgPoolOptions::new().test_before_acquire(false).connect("postgres://localhost/payments").await?;
/// let store = PostgresStore::new(pool);
/// store.migrate().await?;
/// let purge = PurgeTask::spawn(store.clone(), Duration::from_mins(1), 1000);
/// let layer = IdempotencyLayer::builder(store).single_tenant().build();
/// # Ok(())
/// # }
/// ```
///
/// # Connections
///
/// The store has one connection for all verbs, in addition to the pool. Verbs that arrive while a
/// statement is running are sent together in the next one, so concurrent requests share a commit. A
/// claim or a completion is one round trip. The connection is opened with the pool's connect
/// options, on the first verb and after it was lost. It does not run the pool's `after_connect`;
/// use the connect options instead. The pool's connections serve the transactions of handlers, the
/// migration and the purge.
///
/// The verbs run on the tokio runtime of the first caller. When that runtime ends, its pending
/// verbs fail as [`Unavailable`](crate::StoreErrorKind::Unavailable), and the runtime of the next
/// caller takes over. Clones share the connection. It is closed with the last clone.
///
/// # Behind a pooler
///
/// Tested with PgBouncer 1.18, set to `ignore_startup_parameters = extra_float_digits`.
///
/// | `pool_mode` | what works |
/// |---|---|
/// | `session` | everything |
/// | `transaction` | requests without a key, whose rows the layer commits |
///
/// A keyed request needs a session, because the store's connection keeps settings and prepared
/// statements. With `pool_mode = session`, a process holds one session for each connection of its
/// pool, one for the verbs, and one more while it looks up whether a commit took effect. Set
/// `default_pool_size` accordingly.
///
/// With `pool_mode = transaction`, the prepared statements of two sqlx clients collide. Disable
/// them for each statement of a handler with `query(…).persistent(false)`. (An empty statement
/// cache is not enough: sqlx still names the statements.)
///
/// If the pooler loses the server during a COMMIT, the layer looks up the record. Without a key
/// there is no record, and the layer answers that the outcome is
/// [unknown](crate::RejectionKind::CommitUnknown).
///
/// # Time-outs
///
/// A verb fails as `Unavailable` after 8 s at most: 3 s for a connection and 5 s for a statement.
/// If another transaction has locked the row, as a handler's transaction does between completion
/// and commit, only the verb of that row waits, for up to 1 s. Then the claim is [in
/// flight](Claim::InFlight), or the verb fails as `Unavailable`.
///
/// # Time
///
/// Leases and expiry follow the database's clock. If it is set back, leases last longer; if it is
/// set forward, they end early. Run a time daemon that slews the clock.
///
/// # Space
///
/// A record is one row. With a response of 1 KiB it takes 1.5 KB if many claims share a commit,
/// and 2.7 KB if claims arrive one at a time. Claims fill half of each page, so that the response
/// fits on it later without a new index entry. If space matters more,
/// `ALTER TABLE idempotency_records SET (fillfactor = 100)` reduces it to 1.4 KB, for up to two
/// fifths more write-ahead log.
///
/// Expired rows stay until they are [purged](crate::PurgeTask). A record that is released without a
/// checkpoint leaves no row. A renewed lease has a row in `idempotency_leases`, which is deleted
/// with its record.
///
/// # Isolation levels
///
/// The store's own statements run READ COMMITTED and READ WRITE, regardless of the database's
/// defaults. A renewal does not write the record's row, so a handler's transaction may be
/// REPEATABLE READ or SERIALIZABLE and longer than a lease. A
/// [`checkpoint`](crate::Idempotency::checkpoint) does write that row: at these levels, set none
/// after the transaction's first statement, or the transaction cannot commit.
///
/// # Durability
///
/// A record is as durable as any row of the database. With `synchronous_commit = off`, a crash of
/// the server can lose the latest claims and responses.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    home: PostgresHome,
    batcher: Arc<Batcher<PostgresWriter>>,
}

/// For a verb, from its call to its answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest response or checkpoint. PostgreSQL ends the connection at a gigabyte, for everybody
/// in the batch.
const LONGEST: usize = 256 * 1024 * 1024;
/// Apart from the application's own.
const MIGRATIONS: &str = "idempotency_migrations";

/// The column of that name.
mod state {
    /// None of them, but the mark of a row that the statement wrote.
    pub(super) const WRITTEN: i16 = -1;
    pub(super) const RUNNING: i16 = 0;
    pub(super) const RELEASED: i16 = 1;
    pub(super) const RESPONSE: i16 = 2;
    pub(super) const UNREPLAYABLE: i16 = 3;
    pub(super) const UNKNOWN: i16 = 4;
}

impl PostgresStore {
    /// Creates a store in the database of the pool. It sends nothing before the first verb.
    ///
    /// The tables are found through the `search_path`. For another schema, set it in the pool's
    /// connect options.
    pub fn new(pool: PgPool) -> Self {
        let options = pool.clone();
        let batcher = Batcher::new(PATIENCE, move || PostgresWriter::new(options.clone()));
        Self { home: PostgresHome::new(pool.clone()), pool, batcher: Arc::new(batcher) }
    }

    /// Creates the store's tables and sequence, or migrates them to this version of the crate.
    ///
    /// Call it at each start. Many processes may do so at once. The store keeps its migrations in
    /// its own table, `idempotency_migrations`, apart from those of the application. To migrate by
    /// hand, use the SQL in this crate's folder `migrations/postgres`.
    ///
    /// # Errors
    ///
    /// If the database is not reached, if the user may not create tables, or if a later version has
    /// migrated the tables.
    ///
    /// # Cancel safety
    ///
    /// Each migration is carried out completely or not at all.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let steps = [
            ("idempotency records", include_str!("../../migrations/postgres/1_idempotency_records.sql")),
            ("idempotency leases", include_str!("../../migrations/postgres/2_idempotency_leases.sql")),
        ];
        let step = |(version, (name, sql)): (i64, (&'static str, &'static str))| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let mut migrator = Migrator::with_migrations((1..).zip(steps).map(step).collect());
        migrator.dangerous_set_table_name(MIGRATIONS);
        // A connection of its own: on an error, the migrator keeps the lock that lets others wait.
        let options = self.pool.connect_options();
        let mut connection = PgConnection::connect_with(&options).await.map_err(store_error)?;
        connection.execute(statements::DEFAULTS).await.map_err(store_error)?;
        migrator.run_direct(None, &mut connection, false).await.map_err(StoreError::unavailable)?;
        connection.close().await.map_err(store_error)
    }

    /// Returns the pool that the store was created with.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Store for PostgresStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.batcher.claim(request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        if let Outcome::Response(response) = &outcome {
            check_length(response.as_bytes().len())?;
        }
        self.batcher.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.batcher.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.batcher.extend(record, fence, lease).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        check_length(checkpoint.name.len() + checkpoint.data.len())?;
        self.batcher.checkpoint(record, fence, checkpoint).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        Some(co_commit::offer::<Postgres>(&self.home, extensions))
    }
}

impl ClaimsInTransaction for PostgresStore {
    const TRANSACTION_TIME: Duration = Duration::from_secs(30);

    async fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        transaction_time: Duration,
    ) -> Result<TransactionClaim, StoreError> {
        co_commit::claim::<Postgres>(&self.home, request, transaction_time).await
    }
}

/// Reads on a connection of the pool.
impl Inspect for PostgresStore {
    async fn is_taken(&self, record: RecordId) -> Result<bool, StoreError> {
        let taken = query_scalar(statements::TAKEN).bind(*record.as_bytes());
        taken.fetch_one(&self.pool).await.map_err(store_error)
    }
}

impl Purge for PostgresStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let mut transaction = OwnTransaction::begin(&self.pool).await.map_err(store_error)?;
        let dropped = purge_in(&mut transaction, limit).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        Ok(usize::try_from(dropped).unwrap_or(limit))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

async fn purge_in(connection: &mut PgConnection, limit: usize) -> sqlx::Result<u64> {
    // Planned anew each time: a plan from when the table was small would scan it when it is large.
    let expired = query_scalar(statements::EXPIRED).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let expired: Vec<Vec<u8>> = expired.persistent(false).fetch_all(&mut *connection).await?;
    let purge = query(statements::PURGE).bind(expired).persistent(false);
    Ok(purge.execute(connection).await?.rows_affected())
}

fn check_length(bytes: usize) -> Result<(), StoreError> {
    if bytes > LONGEST { Err(StoreError::invalid("more than 256 MiB to keep")) } else { Ok(()) }
}
