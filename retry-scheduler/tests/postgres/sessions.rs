//! Sessions of other settings than the scheduler's.

use std::time::Duration;

use private_postgres::{psql, shared_database};
use retry_scheduler::{
    ClaimDue, Finished, PostgresScheduler, Report, RetryScheduler, SchedulerErrorKind, TransactionalScheduler,
};
use sqlx::postgres::PgPoolOptions;

use crate::known_faults::{ask, new};
use crate::{Database, pool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_default_isolation_is_serializable_fails_no_verb() {
    let database = Database::new().await;
    let name = database.url.rsplit('/').next().unwrap();
    psql(
        &database.url,
        &format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'"),
    );
    let scheduler = PostgresScheduler::new(pool(&database.url));
    let plan = retry_scheduler::Plan::every(Duration::from_millis(1), 1_000_000).unwrap();
    let new = (0..200).map(|n| {
        retry_scheduler::NewCycle::new(crate::known_faults::key(&n.to_string()), plan.clone())
            .tenant("tenant")
    });
    scheduler.schedule_many(new.collect()).await.unwrap();
    let workers = (0..4).map(|_| {
        let scheduler = scheduler.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                let claims = scheduler.claim_due(ClaimDue::new(20, Duration::from_secs(30))).await.unwrap();
                let reports = claims.into_iter().map(|claim| (claim, Report::failure())).collect();
                for answer in scheduler.finish_many(reports).await.unwrap() {
                    assert!(matches!(answer.unwrap(), Finished::Recorded(_)));
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

/// `migrate` and the verbs in transactions go through the pool, the others do not.
#[tokio::test]
async fn a_pool_with_a_search_path_of_its_own_finds_the_same_tables_from_both_sides() {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    psql(&url, "CREATE SCHEMA app");
    let in_app = PgPoolOptions::new().max_connections(4).after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::query("SET search_path = app").execute(connection).await?;
            Ok(())
        })
    });
    let scheduler = PostgresScheduler::new(in_app.connect_lazy(&url).unwrap());
    let error = scheduler.schedule(new("0", "tenant")).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::NotMigrated);
    scheduler.migrate().await.unwrap();
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    // An older installation, or another service, has tables in `public`.
    let public = PostgresScheduler::new(pool(&url));
    public.migrate().await.unwrap();
    let mut transaction = scheduler.pool().begin().await.unwrap();
    scheduler.schedule_in(&mut transaction, new("2", "tenant")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(scheduler.claim_due(ask(10, 10)).await.unwrap().len(), 2);

    // A transaction of another pool writes where nobody of this scheduler looks.
    let mut transaction = public.pool().begin().await.unwrap();
    let error = scheduler.schedule_in(&mut transaction, new("3", "tenant")).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::Invalid);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("other tables"), "{error:?}");
}

#[tokio::test]
async fn a_verb_for_a_transaction_is_refused_outside_of_one() {
    let database = Database::new().await;
    let scheduler = database.open();
    let mut connection = database.pool.acquire().await.unwrap();
    let error = scheduler.schedule_in(&mut connection, new("1", "tenant")).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::Invalid);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no transaction"), "{error:?}");
    assert!(scheduler.claim_due(ask(1, 1)).await.unwrap().is_empty());
}

/// Whoever lends the last connection of the pool does not wait for himself.
#[tokio::test]
async fn the_first_verb_in_a_transaction_needs_no_other_connection_of_the_pool() {
    let database = Database::new().await;
    let one = PgPoolOptions::new().max_connections(1).connect_lazy(&database.url).unwrap();
    let scheduler = PostgresScheduler::new(one);
    let mut transaction = scheduler.pool().begin().await.unwrap();
    let schedule = scheduler.schedule_in(&mut transaction, new("1", "tenant"));
    tokio::time::timeout(Duration::from_secs(5), schedule).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_that_was_reached_and_has_no_tables_is_not_migrated() {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    let scheduler = PostgresScheduler::new(pool(&url));
    let error = scheduler.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::NotMigrated);
    let nowhere = PostgresScheduler::new(pool("postgres://postgres@127.0.0.1:1/nowhere"));
    let error = nowhere.claim_due(ask(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::Unavailable);
}
