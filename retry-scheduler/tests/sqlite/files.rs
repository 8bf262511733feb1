//! What is in the file, and who else has it open.

use std::time::Duration;

use retry_scheduler::{
    Finished, Namespaces, RetryScheduler, SqliteScheduler, State, TransactionalScheduler, Verdict,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, SqliteConnection};

use crate::File;
use crate::known_faults::{ask, key, new, report};

#[tokio::test]
async fn cycles_outlive_the_process() {
    let file = File::new();
    let before = file.open().await;
    before.schedule(new("kept", "tenant")).await.unwrap();
    let claim = before.claim_due(ask(1, 1)).await.unwrap().remove(0);
    let Finished::Recorded(cycle) = before.finish(&claim, report(Verdict::Failure, "no")).await.unwrap()
    else {
        panic!("a report of a claim that holds")
    };
    before.pool().close().await;

    let after = file.open().await;
    assert_eq!(after.get(&key("kept")).await.unwrap(), Some(cycle));
    assert_eq!(after.attempts(&key("kept"), 0, 10).await.unwrap().len(), 1);
    // Without an injected clock, time is SQLite's, and the attempt ended a moment ago.
    let wait = after.next_wake(&Namespaces::All).await.unwrap().unwrap();
    assert!(wait > Duration::from_mins(4) && wait <= Duration::from_mins(5), "{wait:?}");
}

#[tokio::test]
async fn another_process_that_writes_is_waited_for() {
    let file = File::new();
    let scheduler = file.open().await;
    scheduler.schedule(new("waits", "tenant")).await.unwrap();
    let options = SqliteConnectOptions::new().filename(file.folder.join("cycles.db"));
    let mut foreign = SqliteConnection::connect_with(&options).await.unwrap();
    let transaction = foreign.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let verbs = tokio::spawn(async move {
        let claim = scheduler.claim_due(ask(1, 1)).await.unwrap().remove(0);
        scheduler.finish(&claim, report(Verdict::Success, "")).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!verbs.is_finished());
    transaction.commit().await.unwrap();
    let Finished::Recorded(cycle) = verbs.await.unwrap() else { panic!("the claim holds") };
    assert!(matches!(cycle.state, State::Ended { .. }));
}

#[tokio::test]
async fn processes_that_open_a_new_file_at_once_all_find_the_tables() {
    for _ in 0..10 {
        let file = File::new();
        let (one, two, three) = tokio::join!(file.open(), file.open(), file.open());
        for scheduler in [one, two, three] {
            scheduler.schedule(new("any", "tenant")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn it_works_in_memory_and_through_the_applications_own_pool() {
    let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.connect("sqlite::memory:").await.unwrap();
    sqlx::query("CREATE TABLE payments (id TEXT)").execute(&pool).await.unwrap();
    let scheduler = SqliteScheduler::new(pool.clone());
    scheduler.migrate().await.unwrap();
    scheduler.migrate().await.unwrap();
    for commits in [false, true] {
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO payments VALUES ('payment')").execute(&mut *transaction).await.unwrap();
        scheduler.schedule_in(&mut transaction, new("payment", "tenant")).await.unwrap();
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        let payments: i64 =
            sqlx::query_scalar("SELECT count(*) FROM payments").fetch_one(&pool).await.unwrap();
        assert_eq!(payments, i64::from(commits));
        assert_eq!(scheduler.get(&key("payment")).await.unwrap().is_some(), commits);
    }
}
