//! From the tables of the first version to those of this one.

use private_postgres::shared_database;
use retry_scheduler::PostgresScheduler;
use sqlx::{AssertSqlSafe, Executor};

use crate::first_version::{Script, check, clock, migrator};
use crate::pool;

const FIRST: &str = include_str!("../../migrations/postgres/1_cycles.sql");

#[tokio::test]
async fn cycles_of_the_first_version_are_kept_and_go_on() {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    let pool = pool(&url);
    migrator(FIRST).run(&pool).await.unwrap();
    pool.execute(AssertSqlSafe(Script::new(("'\\x", "'::bytea")).text)).await.unwrap();

    let clock = clock();
    let scheduler = PostgresScheduler::new(pool).with_clock(clock.clone());
    scheduler.migrate().await.unwrap();
    check(&scheduler, &clock).await;
}
