//! The database: SQLite or PostgreSQL, with one SQL text for both.
//!
//! A query is written once, as a function on a [`Connection`], and [`dispatch!`] runs it on whichever it is. What changes
//! something for a request runs in the transaction that the idempotency layer commits ([`RequestTransaction`]); what the worker
//! changes, in one of its own ([`Database::begin`]).

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
pub use self::storage::Storage;

/// Connections of a pool, most of them for reading.
const CONNECTIONS: u32 = 16;
/// What finished records may take in memory, for replays that ask no database.
const REPLAY_BYTES: u64 = 64 * 1024 * 1024;
/// How often expired records are dropped, and how many in one transaction.
const PURGE_EVERY: Duration = Duration::from_mins(1);
const PURGE_BATCH: usize = 1000;
/// How long anything waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last connections and the last checkpoint may take when the program ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Where everything is kept.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite {
        records: SqliteStore,
        /// The one writer of this process, shared with the idempotency store and the scheduler.
        writer: SqlitePool,
        /// In memory, the same one.
        readers: SqlitePool,
        /// `None` in memory.
        file: Option<Arc<DatabaseFile>>,
        worker: WorkerHandle,
    },
    Postgres {
        records: PostgresStore,
        pool: PgPool,
        worker: WorkerHandle,
    },
}

/// Where the idempotency layer keeps its records: in the database, with those that are done in memory as well.
#[derive(Debug, Clone)]
pub enum Records {
    Sqlite(Arc<Layered<SqliteStore>>),
    Postgres(Arc<Layered<PostgresStore>>),
    /// In another store, whose claims cannot be in a transaction of the database.
    Elsewhere(AnyStore),
}

/// A connection for reading, given back when dropped. Whoever holds one asks for no other: in memory there is only one.
#[derive(Debug)]
pub enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A transaction of the server's own, rolled back unless committed.
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

/// A database the server does not start with. The URL, which may hold a password, is not shown.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database URL must begin with sqlite: or postgres:")]
    Scheme,
    #[error("cannot open the database file {}", path.display())]
    File { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("its folder must let SQLite create two more files")]
    Folder(#[source] Box<OpenError>),
    #[error("another file took its place while it was opened")]
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
    /// Opens the database, makes it if it is a file that is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// The error and its sources say which file could not be had, and why.
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

    /// Opens a database in a file, and adds to an error which one.
    async fn open_file(url: &str, path: PathBuf) -> Result<Self, OpenError> {
        let failed = |source: Box<dyn Error + Send + Sync>| OpenError::File { path: path.clone(), source };
        let file = DatabaseFile::find_or_create(path.clone()).map_err(|error| failed(error.into()))?;
        let file = Arc::new(file);
        match Self::open_sqlite(url, Some(Arc::clone(&file))).await {
            Ok(_) if !file.is_in_place() => Err(failed(OpenError::Replaced.into())),
            Ok(database) => Ok(database),
            // SQLite has given up, so nothing of it is open here.
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
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
            pool.test_before_acquire(false).connect_with(options.read_only(true)).await?
        };
        let worker = WorkerHandle::default();
        let database = Self::Sqlite { records, writer, readers, file, worker };
        database.migrate().await?;
        Ok(database)
    }

    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        // A server that is gone without a word holds its locks no longer than this.
        let options =
            PgConnectOptions::from_str(url)?.options([("idle_in_transaction_session_timeout", "30s")]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = match pool.test_before_acquire(false).connect_with(options.clone()).await {
            Ok(pool) => pool,
            // It tries until its time is up, and then says only that. One more try says what the others met.
            Err(sqlx::Error::PoolTimedOut) => {
                let reason = tokio::time::timeout(PATIENCE, options.connect()).await;
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
            Self::Postgres { records, pool, .. } => {
                records.migrate().await?;
                PostgresScheduler::new(pool.clone()).migrate().await?;
                migrations::migrator().run(pool).await?;
            }
        }
        Ok(())
    }

    /// Returns where the idempotency layer keeps its records.
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

    /// Begins a transaction that no request is behind.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        let begun = match self {
            Self::Sqlite { writer, .. } => Begun::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres { pool, .. } => Begun::Postgres(pool.begin().await?),
        };
        Ok(Transaction { begun, due: Due::default(), worker: self.worker().clone() })
    }

    /// The worker that is woken for what transactions have scheduled.
    pub fn worker(&self) -> &WorkerHandle {
        match self {
            Self::Sqlite { worker, .. } | Self::Postgres { worker, .. } => worker,
        }
    }

    /// Returns whether the database is still the file of that name, or no file at all.
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Sqlite { file: Some(file), .. } => file.is_in_place(),
            _ => true,
        }
    }

    /// Takes the one writer of a SQLite database, and so keeps everybody else in this process from writing. `None` for
    /// PostgreSQL.
    pub async fn hold_writer(&self) -> sqlx::Result<Option<PoolConnection<Sqlite>>> {
        match self {
            Self::Sqlite { writer, .. } => writer.acquire().await.map(Some),
            Self::Postgres { .. } => Ok(None),
        }
    }

    /// Moves the write-ahead log of a SQLite file into the file whenever it is idle. Runs for ever.
    pub async fn checkpoint_when_idle(&self) {
        match self {
            Self::Sqlite { writer, file: Some(file), .. } => {
                checkpoints::checkpoint_when_idle(writer, file).await;
            }
            _ => pending().await,
        }
    }

    /// Waits for what is on its way, and closes every connection. A SQLite file has all data then.
    ///
    /// Gives up after two seconds, since whatever holds a connection for longer ends with the process.
    pub async fn close(&self) {
        let closed = async {
            match self {
                Self::Sqlite { writer, readers, file, .. } => {
                    if file.is_some() {
                        readers.close().await;
                        if let Err(error) = checkpoints::checkpoint_at_exit(writer).await {
                            tracing::warn!(%error, "the write-ahead log stays beside the database file");
                        }
                    }
                    writer.close().await;
                }
                Self::Postgres { pool, .. } => pool.close().await,
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            tracing::warn!("the database was not closed in time");
        }
    }
}

impl OpenError {
    /// Whether SQLite could not open a file, or not create one of those that it keeps beside the database.
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
    /// Returns whether a claim of this record would be answered and not run. Writes nothing. `None`: this store cannot tell.
    ///
    /// # Errors
    /// The store was not reached.
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

    /// Commits, and wakes the worker if a cycle was scheduled that is due.
    ///
    /// # Errors
    /// Whether it took effect is not known.
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
