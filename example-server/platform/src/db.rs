//! The database: SQLite or PostgreSQL, with one SQL text for both.
//!
//! A query is written once, as a function on a [`Connection`], and [`on!`] runs it on whichever it is. What changes
//! something for a request runs in the transaction that the idempotency layer commits ([`Work`]); what the worker
//! changes, in one of its own ([`Database::begin`]).

pub mod accounts;
pub mod columns;
pub mod keys;
mod migrations;
mod storage;
mod work;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use idempotency_layer::{AnyStore, Layered, PostgresStore, PurgeTask, SqliteStore, StoreError};
use retry_scheduler::{PostgresScheduler, SchedulerError, SqliteScheduler};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

pub use self::accounts::NewKey;
pub use self::storage::Storage;
pub use self::work::Work;

/// Runs one query on whichever database it is; `$1`, `$2` … name the bound values to both.
#[macro_export]
macro_rules! on {
    ($connection:expr, $inner:ident => $query:expr) => {
        match $connection {
            $crate::db::Connection::Sqlite($inner) => $query,
            $crate::db::Connection::Postgres($inner) => $query,
        }
    };
}
pub use on;

/// Connections of a pool, most of them for reading.
const CONNECTIONS: u32 = 16;
/// What finished records may take in memory, for replays that ask no database.
const REPLAY_BYTES: u64 = 64 * 1024 * 1024;
/// How often expired records are dropped, and how many in one transaction.
const PURGE_EVERY: Duration = Duration::from_mins(1);
const PURGE_BATCH: usize = 1000;
/// How long anything waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where everything is kept.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite {
        records: SqliteStore,
        /// The one writer of this process, shared with the idempotency store and the scheduler.
        writer: SqlitePool,
        /// In memory, the same one.
        readers: SqlitePool,
    },
    Postgres {
        records: PostgresStore,
        pool: PgPool,
    },
}

/// A connection of either kind, borrowed.
#[derive(Debug)]
pub enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A connection for reading, given back when dropped. Whoever holds one asks for no other: in memory there is only one.
#[derive(Debug)]
pub enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A transaction of the server's own, rolled back unless committed.
#[derive(Debug)]
pub enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A database the server does not start with. The URL, which may hold a password, is not shown.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database URL must begin with sqlite: or postgres:")]
    Scheme,
    #[error("cannot open the database: {0}")]
    Open(#[from] sqlx::Error),
    #[error("cannot migrate the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("cannot prepare the database: {0}")]
    Records(#[from] StoreError),
    #[error("cannot prepare the database: {0}")]
    Cycles(#[from] SchedulerError),
}

impl Database {
    /// Opens the database, makes it if it is a file that is not there, and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let database = match url.split(':').next() {
            Some("sqlite") => Self::open_sqlite(url).await?,
            Some("postgres" | "postgresql") => Self::open_postgres(url).await?,
            _ => return Err(OpenError::Scheme),
        };
        database.migrate().await?;
        Ok(database)
    }

    async fn open_sqlite(url: &str) -> Result<Self, OpenError> {
        let records = SqliteStore::open(url).await?;
        let writer = records.pool().clone();
        let readers = if url.contains(":memory:") || url.contains("mode=memory") {
            writer.clone()
        } else {
            let options = SqliteConnectOptions::from_str(url)?;
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
            pool.test_before_acquire(false).connect_with(options.read_only(true)).await?
        };
        Ok(Self::Sqlite { records, writer, readers })
    }

    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        // A server that is gone without a word holds its locks no longer than this.
        let options =
            PgConnectOptions::from_str(url)?.options([("idle_in_transaction_session_timeout", "30s")]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = pool.test_before_acquire(false).connect_with(options).await?;
        Ok(Self::Postgres { records: PostgresStore::new(pool.clone()), pool })
    }

    /// The file that a database of this URL is in, if it is in one.
    pub fn file(url: &str) -> Option<PathBuf> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return None;
        }
        let options = SqliteConnectOptions::from_str(url).ok()?;
        Some(options.get_filename().to_owned())
    }

    async fn migrate(&self) -> Result<(), OpenError> {
        match self {
            Self::Sqlite { records, writer, .. } => {
                records.migrate().await?;
                SqliteScheduler::new(writer.clone()).migrate().await?;
                migrations::migrator().run(writer).await?;
            }
            Self::Postgres { records, pool } => {
                records.migrate().await?;
                PostgresScheduler::new(pool.clone()).migrate().await?;
                migrations::migrator().run(pool).await?;
            }
        }
        Ok(())
    }

    /// Where the idempotency layer keeps its records.
    pub fn records(&self) -> AnyStore {
        match self {
            Self::Sqlite { records, .. } => AnyStore::new(Layered::new(records.clone(), REPLAY_BYTES)),
            Self::Postgres { records, .. } => AnyStore::new(Layered::new(records.clone(), REPLAY_BYTES)),
        }
    }

    /// Drops expired records until what is returned is dropped.
    pub fn purge_records(&self) -> PurgeTask {
        match self {
            Self::Sqlite { records, .. } => PurgeTask::spawn(records.clone(), PURGE_EVERY, PURGE_BATCH),
            Self::Postgres { records, .. } => PurgeTask::spawn(records.clone(), PURGE_EVERY, PURGE_BATCH),
        }
    }

    /// A connection for reading.
    pub async fn read(&self) -> sqlx::Result<Reader> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Reader::Sqlite(readers.acquire().await?),
            Self::Postgres { pool, .. } => Reader::Postgres(pool.acquire().await?),
        })
    }

    /// A transaction that no request is behind.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres { pool, .. } => Transaction::Postgres(pool.begin().await?),
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> sqlx::Result<()> {
        let mut reader = self.read().await?;
        on!(reader.connection(), c => sqlx::query("SELECT 1").execute(c).await.map(drop))
    }

    /// Waits for what is on its way, and closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { pool, .. } => pool.close().await,
        }
    }
}

impl Connection<'_> {
    /// The same connection, for one more query.
    pub fn again(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }
}

impl Reader {
    pub fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }
}

impl Transaction {
    pub fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }

    /// Commits. On an error it is not known whether that took effect.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
