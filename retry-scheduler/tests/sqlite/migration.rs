//! From the tables of the first version to those of this one.

use std::time::Duration;

use retry_scheduler::{CycleKey, EndReason, RetryScheduler, SqliteScheduler};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Executor, SqlSafeStr};

use crate::File;
use crate::known_faults::ask;

const FIRST: &str = include_str!("../../migrations/sqlite/1_cycles.sql");

#[tokio::test]
async fn cycles_of_the_first_version_are_kept() {
    let file = File::new();
    let path = file.folder.join("cycles.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let first = Migration::new(1, "cycles".into(), MigrationType::Simple, FIRST.into_sql_str(), false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.dangerous_set_table_name("retry_scheduler_migrations");
    migrator.run(&pool).await.unwrap();
    pool.execute(
        "INSERT INTO retry_subjects (id, namespace, subject, payload) VALUES (1, 'a', 'due', x'01'), \
         (2, 'b', 'leased', x'02'), (3, 'a', 'resolved', x''), (4, 'a', 'used up', x''), (5, 'a', 'hopeless', x''), \
         (6, 'a', 'late', x''), (7, 'a', 'cancelled', x''); \
         INSERT INTO retry_cycles (id, wake_at, claimed_at, ended_at, epoch, attempts, used, max_attempts, state, tenant, \
         delays) VALUES (1, 5, NULL, NULL, 2, 1, 1, 3, 0, 'tenant', '1000'), \
         (2, 99999999999999, 7, NULL, 1, 0, 0, 3, 0, 'tenant', '1000'), (3, 5, NULL, 9, 1, 1, 1, 3, 1, '', '1'), \
         (4, 5, NULL, 9, 1, 3, 3, 3, 2, '', '1'), (5, 5, NULL, 9, 1, 1, 1, 3, 2, '', '1'), \
         (6, 5, NULL, 9, 1, 1, 1, 3, 2, '', '1'), (7, 5, NULL, 9, 1, 0, 0, 3, 3, '', '1'); \
         INSERT INTO retry_attempts VALUES (1, 1, 3, 4, 1, x''), (3, 1, 3, 4, 0, x''), (4, 3, 3, 4, 1, x''), \
         (5, 1, 3, 4, 2, x''), (6, 1, 3, 4, 1, x'')",
    )
    .await
    .unwrap();
    pool.close().await;

    let scheduler = file.open().await;
    let claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!((claims.len(), claims.unreadable.len()), (1, 0));
    assert_eq!((claims[0].cycle.key.clone(), claims[0].attempt()), (CycleKey::new("a", "due"), 2));
    assert_eq!(&claims[0].payload[..], b"\x01");
    let leased = scheduler.get(&CycleKey::new("b", "leased")).await.unwrap().unwrap();
    assert_eq!((leased.epoch, leased.nonce, leased.ending()), (1, 0, None));
    for (subject, reason) in [
        ("resolved", EndReason::Succeeded),
        ("used up", EndReason::AttemptsUsedUp),
        ("hopeless", EndReason::PermanentFailure),
        ("late", EndReason::TooLate),
        ("cancelled", EndReason::Cancelled),
    ] {
        let cycle = scheduler.get(&CycleKey::new("a", subject)).await.unwrap().unwrap();
        assert_eq!(cycle.end_reason(), Some(reason), "{subject}");
    }
    assert_eq!(scheduler.purge_ended(Duration::ZERO, 10).await.unwrap(), 5);
    let _: &SqliteScheduler = &scheduler;
}

#[tokio::test]
async fn a_file_without_the_tables_is_told_from_one_that_is_not_reached() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let scheduler = SqliteScheduler::new(pool.clone());
    let missing = scheduler.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(missing.kind(), retry_scheduler::SchedulerErrorKind::NotMigrated);
    pool.close().await;
    let gone = scheduler.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(gone.kind(), retry_scheduler::SchedulerErrorKind::Unavailable);
}
