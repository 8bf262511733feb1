//! The database: SQLite or PostgreSQL, with the same SQL for both.
//!
//! Each query is a function on a [`Connection`], and [`dispatch!`] runs it on either database. The
//! changes of a request run in the transaction that the idempotency layer commits
//! ([`RequestTransaction`]). The changes of the worker run in transactions of its own
//! ([`Database::begin`]).

pub mod accounts;
pub mod backup;
mod checkpoints;
pub mod columns;
mod connection;
mod file;
pub mod keys;
mod migrations;
mod readiness;
mod request;
mod row;
mod storage;

use std::error::Error;
use std::future::pending;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use idempotency_layer::{
    AnyStore, Inspect as _, Layered, PostgresStore, PurgeTask, RecordId, SqliteStore, StoreError,
};
use retry_scheduler::{PostgresScheduler, SchedulerError, SqliteScheduler, WorkerHandle};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, PgPool, Postgres, Sqlite, SqlitePool};

pub use self::accounts::NewKey;
pub use self::connection::{Connection, Due, Inner, dispatch};
pub use self::file::DatabaseFile;
pub use self::request::{OpenRequestTransaction, RequestTransaction, Turn};
pub use self::row::row;
pub use self::storage::Storage;

/// Maximum connections of a pool.
const CONNECTIONS: u32 = 16;
/// Memory for completed records, which replays read instead of the database.
const REPLAY_BYTES: u64 = 64 * 1024 * 1024;
/// The interval between purges of expired records.
const PURGE_EVERY: Duration = Duration::from_mins(1);
/// Maximum records that one purge transaction deletes.
const PURGE_BATCH: usize = 1000;
/// The time-out for getting a connection from a pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out for closing the connections and the last checkpoint when the program ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The database, with its connection pools.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite {
        records: SqliteStore,
        /// The pool of the only writer connection of this process. The idempotency store and the
        /// scheduler share it.
        writer: SqlitePool,
        /// For a database in memory, this is the pool of the writer.
        readers: SqlitePool,
        /// `None` for a database in memory.
        file: Option<Arc<DatabaseFile>>,
        worker: WorkerHandle,
    },
    Postgres {
        records: PostgresStore,
        pool: PgPool,
        worker: WorkerHandle,
    },
}

/// The store of the idempotency layer's records: the database, and a cache of completed records in
/// memory.
#[derive(Debug, Clone)]
pub enum Records {
    Sqlite(Arc<Layered<SqliteStore>>),
    Postgres(Arc<Layered<PostgresStore>>),
    /// Another store. Its claims cannot be part of a database transaction.
    Elsewhere(AnyStore),
}

/// A connection for reading. It returns to the pool when dropped.
///
/// Do not acquire a second one while you hold one: a database in memory has only one connection.
#[derive(Debug)]
pub enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A transaction outside of requests. It rolls back unless committed.
#[derive(Debug)]
pub struct Transaction {
    begun: Begun,
    due: Due,
    worker: WorkerHandle,
}

#[derive(Debug)]
enum Begun {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// An error of opening the database. It does not show the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database URL must begin with sqlite: or postgres:")]
    Scheme,
    #[error("cannot open the database file {}", path.display())]
    File { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("SQLite must be able to create two more files in its folder")]
    Folder(#[source] Box<OpenError>),
    #[error("another file replaced it while it was opened")]
    Replaced,
    #[error("cannot open the database")]
    Open(#[from] sqlx::Error),
    #[error("cannot migrate the database")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("cannot prepare the database")]
    Records(#[from] StoreError),
    #[error("cannot prepare the database")]
    Cycles(#[from] SchedulerError),
}

impl Database {
    /// Opens the database and migrates its tables. Creates a missing database file.
    ///
    /// # Errors
    ///
    /// If the database cannot be opened or migrated. The error and its sources name the file and
    /// the reason.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        match url.split(':').next() {
            Some("sqlite") => match Self::file(url) {
                Some(path) => Self::open_file(url, path).await,
                None => Self::open_sqlite(url, None).await,
            },
            Some("postgres" | "postgresql") => {
                let database = Self::open_postgres(url).await?;
                database.migrate().await?;
                Ok(database)
            }
            _ => Err(OpenError::Scheme),
        }
    }

    /// Opens a database file. Errors name the file.
    async fn open_file(url: &str, path: PathBuf) -> Result<Self, OpenError> {
        let failed = |source: Box<dyn Error + Send + Sync>| OpenError::File { path: path.clone(), source };
        let file = DatabaseFile::find_or_create(path.clone()).map_err(|error| failed(error.into()))?;
        let file = Arc::new(file);
        match Self::open_sqlite(url, Some(Arc::clone(&file))).await {
            Ok(_) if !file.is_in_place() => Err(failed(OpenError::Replaced.into())),
            Ok(database) => Ok(database),
            // SQLite has closed the file, so `open_error` may open it.
            Err(error) => Err(failed(match file::open_error(&path) {
                Some(reason) => reason.into(),
                None if error.is_unopened() => OpenError::Folder(Box::new(error)).into(),
                None => error.into(),
            })),
        }
    }

    async fn open_sqlite(url: &str, file: Option<Arc<DatabaseFile>>) -> Result<Self, OpenError> {
        let records = SqliteStore::open(url).await?;
        let writer = records.pool().clone();
        let readers = if file.is_none() {
            writer.clone()
        } else {
            let options = SqliteConnectOptions::from_str(url)?;
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
            pool.test_before_acquire(false).connect_with(options.read_only(true)).await?
        };
        let worker = WorkerHandle::default();
        let database = Self::Sqlite { records, writer, readers, file, worker };
        database.migrate().await?;
        Ok(database)
    }

    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        // If this server vanishes without closing its connections, PostgreSQL releases their locks
        // after this time.
        let options =
            PgConnectOptions::from_str(url)?.options([("idle_in_transaction_session_timeout", "30s")]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = match pool.test_before_acquire(false).connect_with(options.clone()).await {
            Ok(pool) => pool,
            // The pool retries until its time-out, and does not report the errors. Connect once
            // more to get the error.
            Err(sqlx::Error::PoolTimedOut) => {
                let reason = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
                return Err(reason.ok().and_then(Result::err).unwrap_or(sqlx::Error::PoolTimedOut).into());
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self::Postgres {
            records: PostgresStore::new(pool.clone()),
            pool,
            worker: WorkerHandle::default(),
        })
    }

    /// Returns the file of the database with this URL, or `None` if it is in memory or not SQLite.
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
            Self::Postgres { records, pool, .. } => {
                records.migrate().await?;
                PostgresScheduler::new(pool.clone()).migrate().await?;
                migrations::migrator().run(pool).await?;
            }
        }
        Ok(())
    }

    /// Returns the store of the idempotency layer's records.
    pub fn records(&self) -> Records {
        match self {
            Self::Sqlite { records, .. } => {
                Records::Sqlite(Arc::new(Layered::new(records.clone(), REPLAY_BYTES)))
            }
            Self::Postgres { records, .. } => {
                Records::Postgres(Arc::new(Layered::new(records.clone(), REPLAY_BYTES)))
            }
        }
    }

    /// Starts a task that deletes expired records. It ends when the returned handle is dropped.
    pub fn purge_records(&self) -> PurgeTask {
        match self {
            Self::Sqlite { records, .. } => PurgeTask::spawn(records.clone(), PURGE_EVERY, PURGE_BATCH),
            Self::Postgres { records, .. } => PurgeTask::spawn(records.clone(), PURGE_EVERY, PURGE_BATCH),
        }
    }

    /// Acquires a connection for reading.
    pub async fn read(&self) -> sqlx::Result<Reader> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Reader::Sqlite(readers.acquire().await?),
            Self::Postgres { pool, .. } => Reader::Postgres(pool.acquire().await?),
        })
    }

    /// Begins a transaction outside of a request.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        let begun = match self {
            Self::Sqlite { writer, .. } => Begun::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres { pool, .. } => Begun::Postgres(pool.begin().await?),
        };
        Ok(Transaction { begun, due: Due::default(), worker: self.worker().clone() })
    }

    /// Returns the worker that transactions wake when they have scheduled a due cycle.
    pub fn worker(&self) -> &WorkerHandle {
        match self {
            Self::Sqlite { worker, .. } | Self::Postgres { worker, .. } => worker,
        }
    }

    /// Returns whether the path still leads to the open database file. Returns `true` if the
    /// database is not in a file.
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Sqlite { file: Some(file), .. } => file.is_in_place(),
            _ => true,
        }
    }

    /// Acquires the only writer connection of a SQLite database, so that nothing else in this
    /// process can write. Returns `None` for PostgreSQL.
    pub async fn hold_writer(&self) -> sqlx::Result<Option<PoolConnection<Sqlite>>> {
        match self {
            Self::Sqlite { writer, .. } => writer.acquire().await.map(Some),
            Self::Postgres { .. } => Ok(None),
        }
    }

    /// Moves the write-ahead log of a SQLite file into the file whenever it is idle. Runs forever.
    pub async fn checkpoint_when_idle(&self) {
        match self {
            Self::Sqlite { writer, file: Some(file), .. } => {
                checkpoints::checkpoint_when_idle(writer, file).await;
            }
            _ => pending().await,
        }
    }

    /// Waits for running queries and closes every connection. A SQLite file then contains all data.
    ///
    /// Gives up after two seconds, because the end of the process closes the remaining connections.
    pub async fn close(&self) {
        let closed = async {
            match self {
                Self::Sqlite { writer, readers, file, .. } => {
                    if file.is_some() {
                        readers.close().await;
                        if let Err(error) = checkpoints::checkpoint_at_exit(writer).await {
                            tracing::warn!(
                                %error,
                                "could not move the write-ahead log into the database file; it stays beside it"
                            );
                        }
                    }
                    writer.close().await;
                }
                Self::Postgres { pool, .. } => pool.close().await,
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            tracing::warn!("could not close the database in time");
        }
    }
}

impl OpenError {
    /// Returns whether SQLite could not open the database file or create the files beside it.
    fn is_unopened(&self) -> bool {
        // https://www.sqlite.org/rescode.html
        const CANTOPEN: i32 = 14;
        const READONLY_DIRECTORY: i32 = 1544;
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let code =
                error.downcast_ref::<sqlx::Error>().and_then(|error| error.as_database_error()?.code());
            if let Some(code) = code {
                return code
                    .parse::<i32>()
                    .is_ok_and(|code| code & 0xff == CANTOPEN || code == READONLY_DIRECTORY);
            }
            cause = error.source();
        }
        false
    }
}

impl Records {
    /// Returns whether a claim of this record would be answered without running its handler, or `None` if this
    /// store cannot tell. Writes nothing.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    pub async fn is_taken(&self, record: RecordId) -> Result<Option<bool>, StoreError> {
        match self {
            Self::Sqlite(store) => store.is_taken(record).await.map(Some),
            Self::Postgres(store) => store.is_taken(record).await.map(Some),
            Self::Elsewhere(_) => Ok(None),
        }
    }
}

impl Reader {
    pub fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::of_sqlite(connection, None),
            Self::Postgres(connection) => Connection::of_postgres(connection, None),
        }
    }
}

impl Transaction {
    pub fn connection(&mut self) -> Connection<'_> {
        match &mut self.begun {
            Begun::Sqlite(transaction) => Connection::of_sqlite(transaction, Some(&self.due)),
            Begun::Postgres(transaction) => Connection::of_postgres(transaction, Some(&self.due)),
        }
    }

    /// Commits, and wakes the worker if the transaction scheduled a due cycle.
    ///
    /// # Errors
    ///
    /// If the database fails. The commit may have taken effect nevertheless.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self.begun {
            Begun::Sqlite(transaction) => transaction.commit().await?,
            Begun::Postgres(transaction) => transaction.commit().await?,
        }
        if self.due.is_set() {
            self.worker.wake();
        }
        Ok(())
    }
}
