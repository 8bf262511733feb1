//! A lock that the statements of a claim wait for.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

pub(crate) struct StatementLock<'a> {
    pool: &'a PgPool,
}

pub(crate) struct Held<'a> {
    lock: &'a StatementLock<'a>,
    connection: PoolConnection<Postgres>,
}

impl<'a> StatementLock<'a> {
    pub(crate) async fn new(pool: &'a PgPool) -> Self {
        let waits = "CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN PERFORM pg_advisory_xact_lock(17); RETURN new; END $$; \
             CREATE TRIGGER waits BEFORE UPDATE ON retry_cycles FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()";
        sqlx::raw_sql(waits).execute(pool).await.unwrap();
        Self { pool }
    }

    pub(crate) async fn hold(&self) -> Held<'_> {
        let mut connection = self.pool.acquire().await.unwrap();
        sqlx::query("SELECT pg_advisory_lock(17)").execute(&mut *connection).await.unwrap();
        Held { lock: self, connection }
    }

    pub(crate) async fn is_waited_for(&self) {
        self.busy(1).await;
    }

    /// Returns the transaction that waits: its process, and when it began.
    pub(crate) async fn waiter(&self) -> Option<(i32, String)> {
        let waiter = "SELECT pid, xact_start::text FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event = 'advisory'";
        sqlx::query_as(waiter).fetch_optional(self.pool).await.unwrap()
    }

    /// Waits until this many other connections of the database are in a transaction or a statement.
    async fn busy(&self, wanted: i64) {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
             AND query NOT LIKE '%pg_stat_activity%' AND ($1 = 0 OR wait_event = 'advisory')";
        for _ in 0..2_000 {
            let busy: i64 = sqlx::query_scalar(busy).bind(wanted).fetch_one(self.pool).await.unwrap();
            if busy == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("there are not {wanted} statements under way");
    }
}

impl Held<'_> {
    /// Returns when what waited has ended.
    pub(crate) async fn release(mut self) {
        sqlx::query("SELECT pg_advisory_unlock(17)").execute(&mut *self.connection).await.unwrap();
        self.lock.busy(0).await;
    }
}
