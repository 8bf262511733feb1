//! Settings of the database, the session and the handler, none of which affects the record.

use std::collections::BTreeSet;
use std::time::Duration;

use idempotency_layer::{PostgresStore, RejectionKind};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres};

use crate::database::Bench;
use crate::rig::{self, Count, Rig, builder, post, request, send};

const LEVELS: [&str; 4] = ["read uncommitted", "read committed", "repeatable read", "serializable"];

async fn count(pool: &PgPool, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(pool).await.unwrap()
}

/// A schema in front of the real one that has a table of the same name, and a temporary table in front of all schemas.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_of_the_handler_does_not_divert_the_record() {
    let rig = Rig::<Postgres>::new().await;
    let elsewhere = "CREATE SCHEMA elsewhere;
        CREATE TABLE elsewhere.idempotency_records (LIKE public.idempotency_records INCLUDING ALL);
        CREATE FUNCTION elsewhere.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'";
    rig.pool.execute(elsewhere).await.unwrap();
    let diversions = [
        "SET LOCAL search_path = elsewhere, public, pg_catalog",
        "SET search_path = elsewhere, public, pg_catalog",
        "CREATE TEMPORARY TABLE idempotency_records (LIKE public.idempotency_records) ON COMMIT DROP",
    ];
    for (number, diversion) in diversions.into_iter().enumerate() {
        for keyed in [true, false] {
            let key = format!("{number}-{keyed}");
            let row = key.clone();
            let service = rig.serve(&Count::default(), move |run, co_commit| {
                let row = row.clone();
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    transaction.execute(diversion).await.unwrap();
                    Postgres::insert(&mut transaction, &row).await.unwrap();
                    rig::answer(201, run)
                }
            });
            assert_eq!(send(&service, request(keyed, &key)).await.status, 201, "{diversion}");
            if keyed {
                assert!(send(&service, post(&key)).await.replay, "{diversion}");
            }
            assert!(Postgres::has_row(&mut Postgres::beside(&rig.pool).await, &key).await, "{diversion}");
        }
    }
    assert_eq!(count(&rig.pool, "elsewhere.idempotency_records").await, 0);
    assert_eq!(count(&rig.pool, "public.idempotency_records").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_on_the_record_rolls_back() {
    let (rig, runs) = (Rig::<Postgres>::new().await, Count::default());
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&rig.pool).await.unwrap();
    let role = format!("clerk_of_{database}"); // roles are the server's
    let grants = format!("CREATE ROLE {role}; GRANT ALL ON rows TO {role}");
    rig.pool.execute(AssertSqlSafe(grants)).await.unwrap();
    let service = rig.serve(&runs, move |run, co_commit| {
        let role = role.clone();
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            if run % 2 == 1 {
                transaction.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
            }
            Postgres::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            rig::answer(201, run)
        }
    });
    let answer = send(&service, post("key")).await;
    assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
    assert!(rig.rows().await.is_empty());
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
    rig.writes_are_visible("autocommit").await;
}

/// The defaults of the database affect neither the record nor the handler.
#[tokio::test(flavor = "multi_thread")]
async fn the_databases_defaults_are_not_inherited() {
    let ((), _, direct) = Postgres::open().await;
    let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&direct).await.unwrap();
    for (level, read_only) in LEVELS.into_iter().zip([false, true, true, true]) {
        let defaults = format!(
            "ALTER DATABASE {database} SET default_transaction_isolation = '{level}';
            ALTER DATABASE {database} SET default_transaction_read_only = {read_only}"
        );
        // This connection is read-only by now.
        let mut connection = Postgres::beside(&direct).await;
        connection.execute("SET default_transaction_read_only = off").await.unwrap();
        connection.execute(AssertSqlSafe(defaults)).await.unwrap();
        let options = (*direct.connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
        let layer = builder(PostgresStore::new(pool)).build();
        for keyed in [true, false] {
            let row = format!("{level} {keyed}");
            let key = row.replace(' ', "-");
            let written = row.clone();
            let service =
                rig::serve::<Postgres, _, _, _>(&layer, &Count::default(), move |run, co_commit| {
                    let row = written.clone();
                    async move {
                        let mut transaction = co_commit.begin().await.unwrap();
                        let level: String = sqlx::query_scalar("SHOW transaction_isolation")
                            .fetch_one(&mut *transaction)
                            .await
                            .unwrap();
                        assert_eq!(level, "read committed");
                        Postgres::insert(&mut transaction, &row).await.unwrap();
                        rig::answer(201, run)
                    }
                });
            let answer = send(&service, request(keyed, &key)).await;
            assert_eq!((answer.status, answer.kind), (201, None), "{row}");
            assert!(Postgres::has_row(&mut connection, &row).await, "{row}");
            if keyed {
                assert!(send(&service, post(&key)).await.replay);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_may_choose_its_isolation_level_first() {
    let rig = Rig::<Postgres>::new().await;
    for level in LEVELS {
        for keyed in [true, false] {
            let row = format!("{level} {keyed}");
            let key = row.replace(' ', "-");
            let written = row.clone();
            let service = rig.serve(&Count::default(), move |run, co_commit| {
                let row = written.clone();
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
                    transaction.execute(AssertSqlSafe(set)).await.unwrap();
                    let set: String = sqlx::query_scalar("SHOW transaction_isolation")
                        .fetch_one(&mut *transaction)
                        .await
                        .unwrap();
                    assert_eq!(set, level);
                    Postgres::insert(&mut transaction, &row).await.unwrap();
                    rig::answer(201, run)
                }
            });
            assert_eq!(send(&service, request(keyed, &key)).await.status, 201, "{row}");
            assert!(Postgres::has_row(&mut Postgres::beside(&rig.pool).await, &row).await, "{row}");
            if keyed {
                assert!(send(&service, post(&key)).await.replay);
            }
        }
    }
}

/// If a renewal wrote the row that the handler's transaction completes, the completion would fail at REPEATABLE READ and
/// SERIALIZABLE.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_outlasts_two_renewals_commits_at_every_level() {
    let levels = LEVELS.map(|level| {
        tokio::spawn(async move {
            let lease = Duration::from_millis(1500);
            let rig = Rig::<Postgres>::with(|builder| builder.lease(lease)).await;
            let pool = rig.pool.clone();
            let service = rig.serve(&Count::default(), move |run, co_commit| {
                let pool = pool.clone();
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
                    transaction.execute(AssertSqlSafe(set)).await.unwrap();
                    // The transaction has its snapshot now.
                    Postgres::insert(&mut transaction, &format!("run {run}")).await.unwrap();
                    renewals(&pool, 2).await;
                    rig::answer(201, run)
                }
            });
            let answer = send(&service, post("key")).await;
            assert_eq!((answer.status, &*answer.text, answer.kind), (201, "run 1", None), "{level}");
            assert!(send(&service, post("key")).await.replay, "{level}");
            assert_eq!(rig.rows().await, ["run 1"], "{level}");
        })
    });
    for level in levels {
        level.await.unwrap();
    }
}

/// Waits until the one lease of the database has been renewed this often.
async fn renewals(pool: &PgPool, count: usize) {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let leases = sqlx::query_scalar::<_, String>("SELECT lease_ends::text FROM idempotency_leases");
        seen.extend(leases.fetch_all(pool).await.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
