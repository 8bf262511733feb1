//! From the tables of the first version to those of this one.

use retry_scheduler::{RetryScheduler, SchedulerErrorKind, SqliteScheduler};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Executor};

use crate::File;
use crate::first_version::{Script, check, clock, migrator};
use crate::known_faults::ask;

const FIRST: &str = include_str!("../../migrations/sqlite/1_cycles.sql");

#[tokio::test]
async fn cycles_of_the_first_version_are_kept_and_go_on() {
    let file = File::new();
    let path = file.folder.join("cycles.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    migrator(FIRST).run(&pool).await.unwrap();
    pool.execute(AssertSqlSafe(Script::new(("x'", "'")).text)).await.unwrap();
    pool.close().await;

    let clock = clock();
    check(&file.open().await.with_clock(clock.clone()), &clock).await;
}

#[tokio::test]
async fn a_file_without_the_tables_is_told_from_one_that_is_not_reached() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let scheduler = SqliteScheduler::new(pool.clone());
    let missing = scheduler.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(missing.kind(), SchedulerErrorKind::NotMigrated);
    pool.close().await;
    let gone = scheduler.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(gone.kind(), SchedulerErrorKind::Unavailable);
}
