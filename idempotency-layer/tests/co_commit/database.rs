//! The databases of the scenarios: a table of unique rows, and a way to break a commit.

use std::sync::mpsc;
use std::time::Duration;

use idempotency_layer::{ClaimsInTransaction, CoCommitDatabase, PostgresStore, SqliteStore};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    Connection, Executor, PgConnection, PgPool, Pool, Postgres, Sqlite, SqliteConnection, SqlitePool,
};
use tokio::time::timeout;

use crate::rig::dropped_after;

/// A bound for events that should happen soon.
const LONG: Duration = Duration::from_secs(5);

pub(crate) trait Bench: CoCommitDatabase {
    type Records: ClaimsInTransaction + Clone;
    /// Deletes the database when it is dropped.
    type Place: Send + Sync;
    type Held: Send;

    /// Creates a database with the table and a store.
    fn open() -> impl Future<Output = (Self::Place, Self::Records, Pool<Self>)> + Send {
        Self::open_with(32)
    }

    /// The same with a pool of `connections`. SQLite always has one.
    fn open_with(connections: u32) -> impl Future<Output = (Self::Place, Self::Records, Pool<Self>)> + Send;

    /// Opens a store on the same database with its own pool, as another process would.
    fn open_again(pool: &Pool<Self>) -> impl Future<Output = Self::Records> + Send;

    /// Opens a connection beside the pool.
    fn beside(pool: &Pool<Self>) -> impl Future<Output = Self::Connection> + Send;

    fn has_row(connection: &mut Self::Connection, row: &str) -> impl Future<Output = bool> + Send;

    /// Waits until no connection of the database is inside a transaction, and panics if one stays there.
    fn nobody_is_in_a_transaction(beside: &mut Self::Connection) -> impl Future<Output = ()> + Send;

    fn insert(connection: &mut Self::Connection, row: &str) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Begins a savepoint and leaves it open.
    fn leave_savepoint_open(connection: &mut Self::Connection) -> impl Future<Output = ()> + Send;

    /// Executes a statement that takes very long.
    fn stall(connection: &mut Self::Connection) -> impl Future<Output = ()> + Send;

    /// Lets what is sent next wait until this value is dropped, behind a statement of which nobody reads the answer.
    fn hold(connection: &mut Self::Connection, pool: &Pool<Self>) -> impl Future<Output = Self::Held> + Send;

    /// Returns the URL for another process.
    fn url(pool: &Pool<Self>) -> impl Future<Output = String> + Send;

    /// Violates a constraint that is checked at the commit.
    fn break_at_commit(connection: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;

    fn rows(pool: &Pool<Self>) -> impl Future<Output = Vec<String>> + Send;

    fn records(pool: &Pool<Self>) -> impl Future<Output = i64> + Send;

    /// Ends the lease of every record, as if the process stood still.
    fn end_leases(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;
}

const TABLES: &str = "
    CREATE TABLE rows (id INTEGER PRIMARY KEY GENERATED_ID, row TEXT NOT NULL UNIQUE);
    CREATE TABLE parents (id INTEGER PRIMARY KEY);";
/// A violation of it is found when the transaction is committed. On SQLite, a schema that has it shares no commits.
const DEFERRED: &str = "CREATE TABLE IF NOT EXISTS children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)";

const ORPHAN: &str = "INSERT INTO children (parent) VALUES (1)";
const INSERT: &str = "INSERT INTO rows (row) VALUES ($1)";
const ROWS: &str = "SELECT row FROM rows ORDER BY id";
const HAS_ROW: &str = "SELECT EXISTS (SELECT 1 FROM rows WHERE row = $1)";
const RECORDS: &str = "SELECT count(*) FROM idempotency_records";

impl Bench for Postgres {
    type Records = PostgresStore;
    type Place = ();
    /// The connection that holds a lock.
    type Held = PgConnection;

    async fn open_with(connections: u32) -> ((), PostgresStore, PgPool) {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .connect(&private_postgres::shared_database())
            .await
            .unwrap();
        let store = PostgresStore::new(pool.clone());
        store.migrate().await.unwrap();
        let tables = TABLES.replace("GENERATED_ID", "GENERATED ALWAYS AS IDENTITY") + DEFERRED;
        sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&pool).await.unwrap();
        ((), store, pool)
    }

    async fn open_again(pool: &PgPool) -> PostgresStore {
        let options = PgPoolOptions::new().max_connections(32);
        PostgresStore::new(options.connect_with((*pool.connect_options()).clone()).await.unwrap())
    }

    async fn beside(pool: &PgPool) -> PgConnection {
        PgConnection::connect_with(&pool.connect_options()).await.unwrap()
    }

    async fn has_row(connection: &mut PgConnection, row: &str) -> bool {
        sqlx::query_scalar(HAS_ROW).bind(row).fetch_one(connection).await.unwrap()
    }

    async fn nobody_is_in_a_transaction(beside: &mut PgConnection) {
        let within = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
            AND datname = current_database() AND state LIKE 'idle in transaction%'";
        // A server notices that its client is gone when it reads from the connection.
        let ended = async {
            while sqlx::query_scalar::<_, i64>(within).fetch_one(&mut *beside).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, ended).await.expect("no connection is left inside a transaction");
    }

    async fn insert(connection: &mut PgConnection, row: &str) -> sqlx::Result<()> {
        sqlx::query(INSERT).bind(row).execute(connection).await.map(drop)
    }

    async fn leave_savepoint_open(connection: &mut PgConnection) {
        std::mem::forget(connection.begin().await.unwrap());
    }

    async fn stall(connection: &mut PgConnection) {
        let _ = connection.execute("SELECT pg_sleep(60)").await;
    }

    async fn hold(connection: &mut PgConnection, pool: &PgPool) -> PgConnection {
        let mut holder = Self::beside(pool).await;
        holder.execute("SELECT pg_advisory_lock(1)").await.unwrap();
        let waits = connection.execute("SELECT pg_advisory_xact_lock_shared(1)");
        assert!(dropped_after(1, waits).await.is_none());
        holder
    }

    async fn url(pool: &PgPool) -> String {
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(pool).await.unwrap();
        format!("postgres://postgres@127.0.0.1:{}/{name}", pool.connect_options().get_port())
    }

    async fn break_at_commit(connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(ORPHAN).execute(connection).await.map(drop)
    }

    async fn rows(pool: &PgPool) -> Vec<String> {
        sqlx::query_scalar(ROWS).fetch_all(pool).await.unwrap()
    }

    async fn records(pool: &PgPool) -> i64 {
        sqlx::query_scalar(RECORDS).fetch_one(pool).await.unwrap()
    }

    async fn end_leases(pool: &PgPool) {
        let end = "UPDATE idempotency_records SET lease_ends = clock_timestamp() - interval '1 second'";
        assert_eq!(sqlx::query(end).execute(pool).await.unwrap().rows_affected(), 1);
    }
}

pub(crate) async fn open_sqlite(url: &str) -> (SqliteStore, SqlitePool) {
    let store = SqliteStore::open(url).await.unwrap();
    let tables = TABLES.replace("GENERATED_ID", "AUTOINCREMENT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(store.pool()).await.unwrap();
    let pool = store.pool().clone();
    (store, pool)
}

impl Bench for Sqlite {
    type Records = SqliteStore;
    type Place = tempfile::TempDir;
    type Held = mpsc::Sender<()>;

    async fn open_with(_: u32) -> (tempfile::TempDir, SqliteStore, SqlitePool) {
        let place = tempfile::tempdir().unwrap();
        let (store, pool) = open_sqlite(&format!("sqlite://{}/test.db", place.path().display())).await;
        (place, store, pool)
    }

    async fn open_again(pool: &SqlitePool) -> SqliteStore {
        let options = SqliteConnectOptions::new().filename(pool.connect_options().get_filename());
        SqliteStore::open_with(options).await.unwrap()
    }

    async fn beside(pool: &SqlitePool) -> SqliteConnection {
        let pool = pool.connect_options();
        let options = SqliteConnectOptions::new().filename(pool.get_filename()).busy_timeout(LONG);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn has_row(connection: &mut SqliteConnection, row: &str) -> bool {
        sqlx::query_scalar(HAS_ROW).bind(row).fetch_one(connection).await.unwrap()
    }

    /// An open transaction of the layer holds the write lock.
    async fn nobody_is_in_a_transaction(beside: &mut SqliteConnection) {
        beside.execute("BEGIN IMMEDIATE; ROLLBACK").await.expect("the write lock within a few seconds");
    }

    async fn insert(connection: &mut SqliteConnection, row: &str) -> sqlx::Result<()> {
        sqlx::query(INSERT).bind(row).execute(connection).await.map(drop)
    }

    async fn leave_savepoint_open(connection: &mut SqliteConnection) {
        std::mem::forget(connection.begin().await.unwrap());
    }

    async fn stall(connection: &mut SqliteConnection) {
        let endless =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let _ = connection.execute(endless).await;
    }

    async fn hold(connection: &mut SqliteConnection, _: &SqlitePool) -> mpsc::Sender<()> {
        let (held, dropped) = mpsc::channel();
        connection.lock_handle().await.unwrap().set_progress_handler(1, move || {
            let _ = dropped.recv();
            true
        });
        let waits = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) SELECT count(*) FROM n";
        assert!(dropped_after(1, connection.execute(waits)).await.is_none());
        held
    }

    async fn url(pool: &SqlitePool) -> String {
        format!("sqlite:{}", pool.connect_options().get_filename().display())
    }

    async fn break_at_commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        connection.execute(DEFERRED).await?;
        sqlx::query(ORPHAN).execute(connection).await.map(drop)
    }

    async fn rows(pool: &SqlitePool) -> Vec<String> {
        sqlx::query_scalar(ROWS).fetch_all(pool).await.unwrap()
    }

    async fn records(pool: &SqlitePool) -> i64 {
        sqlx::query_scalar(RECORDS).fetch_one(pool).await.unwrap()
    }

    async fn end_leases(pool: &SqlitePool) {
        let end = "UPDATE idempotency_records SET lease_ends = 0";
        assert_eq!(sqlx::query(end).execute(pool).await.unwrap().rows_affected(), 1);
    }
}
