//! Refuses commits while a transaction is lent to a handler.
//!
//! SQLite ends a transaction by itself on some errors: no space, input or output, no memory,
//! `OR ROLLBACK`, `RAISE(ROLLBACK)`. Every later write then commits by itself. The layer would
//! notice the missing savepoint too late, when the rows are there. So this module installs a commit
//! hook. It allows the layer's commit and turns every other one into a rollback, including a
//! `COMMIT` of the handler.
//!
//! A connection has one commit hook. This one replaces a hook of the application on the connection
//! of the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sqlx::SqliteConnection;

/// Controls the commit hook of one connection.
///
/// Dropping it changes nothing, because statements may still be on their way to the connection's
/// thread, and their commits must be refused. Call [`off`](Self::off) only after the transaction
/// has ended.
#[derive(Debug)]
#[must_use = "until it is off, the connection commits nothing"]
pub(crate) struct CommitGuard(Arc<AtomicU8>);

const OFF: u8 = 0;
const REFUSE: u8 = 1;
const ALLOW_ONE: u8 = 2;

/// Makes the connection refuse every commit from now on.
///
/// This takes 8 µs, because the connection's thread lends its handle and waits for it. A commit
/// waits for the disk, so the hook is installed for each transaction. If it was installed once for
/// each connection, the layer would have to recognise the connection, and the application could
/// have replaced the hook since.
///
/// Call it after the connection's last statement was answered, for example the BEGIN. With a full
/// queue of statements, sqlx would wait for itself.
///
/// # Errors
///
/// When the thread of the connection has ended.
///
/// # Cancel safety
///
/// If it is dropped before it is done, it has changed nothing.
pub(crate) async fn guard(connection: &mut SqliteConnection) -> Result<CommitGuard, sqlx::Error> {
    let state = Arc::new(AtomicU8::new(REFUSE));
    let hook = state.clone();
    let is_allowed = move || match hook.load(Ordering::Acquire) {
        OFF => true,
        // One commit uses the permission up, even if it fails later.
        ALLOW_ONE => hook.compare_exchange(ALLOW_ONE, REFUSE, Ordering::AcqRel, Ordering::Acquire).is_ok(),
        _ => false,
    };
    connection.lock_handle().await?.set_commit_hook(is_allowed);
    Ok(CommitGuard(state))
}

impl CommitGuard {
    /// Allows the next commit, and refuses the ones after it.
    pub(crate) fn allow_one(&self) {
        self.0.store(ALLOW_ONE, Ordering::Release);
    }

    /// Allows every commit. No transaction must be open, and no statement of the handler may be on
    /// its way.
    pub(crate) fn off(self) {
        self.0.store(OFF, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use sqlx::{Connection, Error, Executor, Sqlite, SqlitePool, Transaction, query_scalar};
    use tempfile::TempDir;

    use super::super::lent::undo;
    use super::*;

    const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT co_commit";

    /// A pool of one connection, on a file and in memory.
    async fn pools() -> (TempDir, [SqlitePool; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("a.db")).create_if_missing(true);
        let pool = |options| async {
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(Duration::from_secs(20))
                .connect_with(options)
                .await
                .unwrap();
            pool.execute("CREATE TABLE payments (name TEXT UNIQUE ON CONFLICT ABORT) STRICT").await.unwrap();
            pool
        };
        (folder, [pool(file).await, pool(SqliteConnectOptions::new().in_memory(true)).await])
    }

    async fn lend(pool: &SqlitePool) -> (Transaction<'static, Sqlite>, CommitGuard) {
        let mut transaction = pool.begin_with(BEGIN).await.unwrap();
        let guard = guard(&mut transaction).await.unwrap();
        (transaction, guard)
    }

    /// Ends a lent transaction in any state, and lets the connection commit again.
    async fn unwind(
        mut transaction: Transaction<'static, Sqlite>,
        guard: CommitGuard,
    ) -> Result<(), sqlx::Error> {
        // Everything that was sent before is done when this is answered.
        undo(&mut transaction).await?;
        guard.off();
        // sqlx still counts one, and the ROLLBACK that ends its count must find one.
        if transaction.is_in_transaction() {
            transaction.execute("BEGIN").await?;
        }
        transaction.rollback().await
    }

    async fn names(pool: &SqlitePool) -> Vec<String> {
        query_scalar("SELECT name FROM payments ORDER BY name").fetch_all(pool).await.unwrap()
    }

    /// Writes as other users of the pool do: with autocommit, and in a transaction.
    async fn others_write(pool: &SqlitePool, name: &str) {
        sqlx::query("INSERT INTO payments VALUES ($1)").bind(name).execute(pool).await.unwrap();
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let second = format!("{name} too");
        sqlx::query("INSERT INTO payments VALUES ($1)")
            .bind(second)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Error>) {
        let error = answer.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "531", "{error:?}");
    }

    #[tokio::test]
    async fn what_is_written_after_sqlite_ended_the_transaction_is_not_there() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            others_write(pool, "before").await;
            let (mut transaction, guard) = lend(pool).await;
            transaction.execute("INSERT INTO payments VALUES ('a')").await.unwrap();
            transaction.execute("INSERT OR ROLLBACK INTO payments VALUES ('before')").await.unwrap_err();
            for _ in 0..2 {
                assert_refused(transaction.execute("INSERT INTO payments VALUES ('b')").await);
                assert_refused(transaction.execute("BEGIN; DELETE FROM payments; COMMIT").await);
            }
            unwind(transaction, guard).await.unwrap();
            assert_eq!(names(pool).await, ["before", "before too"]);
            others_write(pool, "other").await;
            assert_eq!(names(pool).await.len(), 4);
        }
    }

    #[tokio::test]
    async fn a_commit_of_the_handler_is_a_rollback() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            for commit in ["COMMIT", "END; BEGIN", "RELEASE co_commit; COMMIT"] {
                let (mut transaction, guard) = lend(pool).await;
                transaction.execute("INSERT INTO payments VALUES ('a')").await.unwrap();
                assert_refused(transaction.execute(commit).await);
                assert_refused(transaction.execute("INSERT INTO payments VALUES ('b')").await);
                unwind(transaction, guard).await.unwrap();
                assert!(names(pool).await.is_empty(), "{commit}");
            }
            others_write(pool, "other").await;
            assert_eq!(names(pool).await, ["other", "other too"]);
        }
    }

    #[tokio::test]
    async fn the_commit_that_is_allowed_is_the_only_one() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            let (mut transaction, guard) = lend(pool).await;
            transaction.execute("INSERT INTO payments VALUES ('a')").await.unwrap();
            transaction.execute("RELEASE co_commit").await.unwrap();
            guard.allow_one();
            transaction.execute("COMMIT").await.unwrap();
            assert_refused(transaction.execute("INSERT INTO payments VALUES ('b')").await);
            unwind(transaction, guard).await.unwrap();
            assert_eq!(names(pool).await, ["a"]);

            let (transaction, guard) = lend(pool).await;
            guard.allow_one();
            transaction.commit().await.unwrap();
            guard.off();
            others_write(pool, "other").await;
            assert_eq!(names(pool).await, ["a", "other", "other too"]);
        }
    }

    /// A COMMIT that fails before SQLite calls the hook does not use the permission up.
    #[tokio::test]
    async fn a_deferred_constraint_fails_before_the_hook_and_leaves_the_transaction_open() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            let tables = "CREATE TABLE a (id INTEGER PRIMARY KEY);
                CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED);";
            pool.execute(tables).await.unwrap();
            let (mut transaction, guard) = lend(pool).await;
            transaction.execute("INSERT INTO b VALUES (1); RELEASE co_commit").await.unwrap();
            guard.allow_one();
            let error = transaction.execute("COMMIT").await.unwrap_err();
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), "787", "{error:?}");
            unwind(transaction, guard).await.unwrap();
            assert_eq!(query_scalar::<_, i64>("SELECT count(*) FROM b").fetch_one(pool).await.unwrap(), 0);
        }
    }

    /// The statements of a dropped handler are still on their way when its transaction is taken
    /// away.
    #[tokio::test]
    async fn statements_on_their_way_are_refused_too() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            others_write(pool, "before").await;
            for _ in 0..200 {
                let (mut transaction, guard) = lend(pool).await;
                for statement in [
                    "INSERT OR ROLLBACK INTO payments VALUES ('before')",
                    "INSERT INTO payments VALUES ('b')",
                ] {
                    let mut call = Box::pin(transaction.execute(statement));
                    tokio::select! { biased; _ = &mut call => {}, () = std::future::ready(()) => {} }
                }
                unwind(transaction, guard).await.unwrap();
            }
            others_write(pool, "other").await;
            assert_eq!(names(pool).await, ["before", "before too", "other", "other too"]);
        }
    }

    #[tokio::test]
    async fn a_guard_that_is_dropped_still_refuses() {
        let (_folder, pools) = pools().await;
        for pool in &pools {
            let (mut transaction, dropped) = lend(pool).await;
            drop(dropped);
            assert_refused(transaction.execute("COMMIT").await);
            let guard = guard(&mut transaction).await.unwrap();
            unwind(transaction, guard).await.unwrap();
            others_write(pool, "other").await;
        }
    }

    /// The hook is gone with its connection.
    #[tokio::test]
    async fn the_next_connection_of_the_pool_commits() {
        let (_folder, [pool, _]) = pools().await;
        let (transaction, dropped) = lend(&pool).await;
        drop((transaction, dropped));
        pool.acquire().await.unwrap().close().await.unwrap();
        others_write(&pool, "other").await;
        assert_eq!(names(&pool).await, ["other", "other too"]);
    }
}
