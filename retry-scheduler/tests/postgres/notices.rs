//! What other processes hear of new cycles. Nothing here waits for a poll: none comes within the test.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use private_postgres::{psql, shared_database};
use retry_scheduler::{
    Attempt, CycleAdmin, CycleClass, CycleFilter, CycleKey, Done, NewCycle, Plan, PostgresScheduler, Report,
    Reschedule, RetryScheduler, TransactionalScheduler, Worker, handler_fn,
};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, query, query_scalar};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Database;
use crate::known_faults::{ask, key, new};

/// Longer than anything here takes, and shorter than any poll.
const GUARD: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_hours(24);
const LATER: Duration = Duration::from_hours(2);

async fn hears(scheduler: &PostgresScheduler, what: &str) {
    timeout(GUARD, scheduler.changed()).await.unwrap_or_else(|_| panic!("nobody was told of {what}"));
}

/// A handle that listens: it has reported that it may have missed something before.
async fn listening(database: &Database) -> PostgresScheduler {
    let scheduler = database.open();
    hears(&scheduler, "what came before").await;
    scheduler
}

fn is_ready(future: impl Future) -> bool {
    matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

/// Until the server answers this with true.
async fn until(pool: &PgPool, what: &str) {
    let asked = async {
        while !query_scalar::<_, bool>(AssertSqlSafe(what)).fetch_one(pool).await.unwrap() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(GUARD, asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Hears each notice, and which connection sent it.
async fn tap(database: &Database) -> PgListener {
    let channel: String = query_scalar("SELECT 'retry_scheduler_' || 'retry_cycles'::regclass::oid")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    let mut tap = PgListener::connect_with(&database.pool).await.unwrap();
    tap.listen(&channel).await.unwrap();
    tap
}

async fn next(tap: &mut PgListener) -> (i32, String) {
    let notice = timeout(GUARD, tap.recv()).await.expect("a notice").unwrap();
    (i32::try_from(notice.process_id()).unwrap(), notice.payload().to_owned())
}

/// Each attempt that a worker begins on this handle, which polls once a day.
fn work(scheduler: PostgresScheduler) -> (mpsc::UnboundedReceiver<CycleKey>, CancellationToken) {
    let (tell, attempts) = mpsc::unbounded_channel();
    let handler = handler_fn(move |attempt: Attempt| {
        let tell = tell.clone();
        async move {
            tell.send(attempt.cycle().key.clone()).unwrap();
            Done::Report(Report::success())
        }
    });
    let shutdown = CancellationToken::new();
    let worker = Worker::builder(Arc::new(scheduler), handler).poll(NEVER).build();
    tokio::spawn(worker.run(shutdown.clone()));
    (attempts, shutdown)
}

async fn attempted(attempts: &mut mpsc::UnboundedReceiver<CycleKey>) -> CycleKey {
    timeout(GUARD, attempts.recv()).await.expect("an attempt long before the next poll").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_process_begins_new_cycles_long_before_its_poll() {
    let database = Database::new().await;
    let (mut attempts, shutdown) = work(database.open());
    let scheduler = database.open();
    // Its first looks may find the first two.
    for subject in ["1", "2", "3", "4", "5"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
        assert_eq!(attempted(&mut attempts).await, key(subject));
    }
    let mut transaction = database.pool.begin().await.unwrap();
    scheduler.schedule_in(&mut transaction, new("6", "tenant")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(attempted(&mut attempts).await, key("6"));
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_before_the_next_poll_is_begun_when_it_is_due() {
    let database = Database::new().await;
    let (mut attempts, shutdown) = work(database.open());
    let scheduler = database.open();
    for (subject, first_in) in [("1", 0), ("2", 0), ("3", 0), ("4", 700), ("5", 300)] {
        let first_in = Duration::from_millis(first_in);
        scheduler.schedule(new(subject, "tenant").first_in(first_in)).await.unwrap();
        if first_in.is_zero() {
            assert_eq!(attempted(&mut attempts).await, key(subject));
        }
    }
    assert_eq!(attempted(&mut attempts).await, key("5"));
    assert_eq!(attempted(&mut attempts).await, key("4"));
    shutdown.cancel();
}

#[tokio::test]
async fn each_verb_that_makes_a_cycle_due_is_heard_by_other_handles_and_by_its_own() {
    let database = Database::new().await;
    let scheduler = database.open();
    for subject in ["changed", "changed in a transaction", "many", "now"] {
        scheduler.schedule(new(subject, "tenant").first_in(LATER)).await.unwrap();
    }
    scheduler.pause("paused").await.unwrap();
    let plan = Plan::every(LATER, 5).unwrap();
    scheduler.schedule(NewCycle::new(CycleKey::new("paused", "1"), plan.clone())).await.unwrap();
    let other = listening(&database).await;
    hears(&scheduler, "what came before").await;
    // What was sent of the cycle in the paused namespace.
    let mut tap = tap(&database).await;
    let change = Reschedule::new(plan);

    scheduler.schedule(new("one", "tenant")).await.unwrap();
    for handle in [&other, &scheduler] {
        hears(handle, "schedule").await;
    }
    next(&mut tap).await;
    scheduler.schedule_many(vec![new("two", ""), new("three", "").first_in(LATER)]).await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0", "schedule_many");
    scheduler.reschedule(&key("changed"), change.clone()).await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0", "reschedule");
    scheduler.run_now(&key("now")).await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0 overdue", "run_now");
    scheduler.resume("paused").await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0 overdue", "resume");
    let waiting = CycleFilter::new(CycleClass::Waiting);
    scheduler.reschedule_many(&waiting, change.clone(), 1).await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0", "reschedule_many");
    let mut transaction = database.pool.begin().await.unwrap();
    let changed = key("changed in a transaction");
    scheduler.reschedule_in(&mut transaction, &changed, change).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(next(&mut tap).await.1, "0", "reschedule_in");
    for handle in [&other, &scheduler] {
        hears(handle, "all these").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_of_a_resumed_namespace_are_begun_at_once() {
    let database = Database::new().await;
    let scheduler = database.open();
    scheduler.pause("paused").await.unwrap();
    let plan = Plan::every(LATER, 5).unwrap();
    let paused = CycleKey::new("paused", "1");
    scheduler.schedule(NewCycle::new(paused.clone(), plan)).await.unwrap();
    let (mut attempts, shutdown) = work(database.open());
    for subject in 0..10 {
        scheduler.schedule(new(&subject.to_string(), "tenant")).await.unwrap();
        assert_eq!(attempted(&mut attempts).await, key(&subject.to_string()));
    }
    scheduler.resume("paused").await.unwrap();
    assert_eq!(attempted(&mut attempts).await, paused);
    shutdown.cancel();
}

/// The statement that asks about open transactions began after this one.
const ASKED_AGAIN: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
     AND query LIKE '%pg_xact_status%' AND pid <> pg_backend_pid() AND query_start > ";

#[tokio::test]
async fn a_transaction_is_told_of_after_its_commit_and_neither_before_nor_after_a_rollback() {
    let database = Database::new().await;
    let (scheduler, other) = (database.open(), database.open());
    let mut tap = tap(&database).await;
    other.schedule(new("a marker", "tenant")).await.unwrap();
    let (others, _) = next(&mut tap).await;
    for n in 0..10 {
        let mut transaction = database.pool.begin().await.unwrap();
        scheduler.schedule_in(&mut transaction, new(&format!("{n}"), "tenant")).await.unwrap();
        for part in ["before", "while open"] {
            let now: String =
                query_scalar("SELECT clock_timestamp()::text").fetch_one(&database.pool).await.unwrap();
            until(&database.pool, &format!("{ASKED_AGAIN} '{now}')")).await;
            other.schedule(new(&format!("{part} {n}"), "tenant")).await.unwrap();
            assert_eq!(next(&mut tap).await.0, others, "told of an open transaction");
        }
        if n % 2 == 0 {
            transaction.commit().await.unwrap();
            assert_ne!(next(&mut tap).await.0, others);
        } else {
            transaction.rollback().await.unwrap();
            let now: String =
                query_scalar("SELECT clock_timestamp()::text").fetch_one(&database.pool).await.unwrap();
            until(&database.pool, &format!("{ASKED_AGAIN} '{now}')")).await;
            other.schedule(new(&format!("after the end of {n}"), "tenant")).await.unwrap();
            assert_eq!(next(&mut tap).await.0, others, "told of a transaction that was rolled back");
        }
    }
}

#[tokio::test]
async fn a_listener_whose_connection_is_terminated_listens_again_and_says_that_it_may_have_missed_something()
{
    let database = Database::new().await;
    let (scheduler, listener) = (database.open(), listening(&database).await);
    for subject in ["1", "2", "3"] {
        let ended: i64 = query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&database.pool)
        .await
        .unwrap();
        assert_eq!(ended, 1);
        hears(&listener, "what was missed").await;
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
        hears(&listener, "a cycle after the connection was lost").await;
    }
}

#[tokio::test]
async fn all_who_wait_on_a_handle_are_woken_and_who_gives_up_takes_nothing_from_them() {
    let database = Database::new().await;
    let (scheduler, listener) = (database.open(), listening(&database).await);
    let mut waiting = (0..3).map(|_| Box::pin(listener.changed())).collect::<Vec<_>>();
    for one in &mut waiting {
        assert!(!is_ready(one.as_mut()));
    }
    drop(waiting.pop());
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    for one in waiting {
        timeout(GUARD, one).await.expect("a wake-up");
    }
}

#[tokio::test]
async fn a_scheduler_in_another_schema_of_the_same_database_is_not_woken() {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    psql(&url, "CREATE SCHEMA one; CREATE SCHEMA two");
    let mut handles = Vec::new();
    for schema in ["one", "two"] {
        let pool = PgPoolOptions::new().max_connections(2).after_connect(move |connection, _| {
            Box::pin(async move {
                let path = format!("SET search_path = {schema}");
                query(AssertSqlSafe(path)).execute(connection).await.map(drop)
            })
        });
        let scheduler = PostgresScheduler::new(pool.connect_lazy(&url).unwrap());
        scheduler.migrate().await.unwrap();
        hears(&scheduler, "what came before").await;
        handles.push(scheduler);
    }
    let mut deaf = Box::pin(handles[1].changed());
    for n in 0..20 {
        handles[0].schedule(new(&n.to_string(), "tenant")).await.unwrap();
        hears(&handles[0], "its own cycle").await;
        assert!(!is_ready(deaf.as_mut()), "woken for a cycle of another schema");
    }
    handles[1].schedule(new("1", "tenant")).await.unwrap();
    timeout(GUARD, deaf).await.expect("a wake-up");
}

#[tokio::test]
async fn a_dropped_scheduler_leaves_no_connection_and_no_task() {
    let database = Database::new().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let url = format!("{}?application_name=dropped", database.url);
    let scheduler = PostgresScheduler::new(crate::pool(&url));
    hears(&scheduler, "what came before").await;
    let clone = scheduler.clone();
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    hears(&clone, "its own cycle").await;
    let mut transaction = scheduler.pool().begin().await.unwrap();
    scheduler.schedule_in(&mut transaction, new("2", "tenant")).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(tasks() > before);
    scheduler.pool().close().await;
    drop((scheduler, clone));
    let left = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'dropped'";
    until(&database.pool, left).await;
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, ended).await.expect("the end of its task");
}

/// Nobody waits for notices here: the cycle is claimed all the same.
#[tokio::test]
async fn a_scheduler_opens_one_connection_for_notices_and_only_if_it_needs_it() {
    let database = Database::new().await;
    let url = format!("{}?application_name=counted", database.url);
    let scheduler = PostgresScheduler::new(crate::pool(&url));
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'";
    assert!(scheduler.claim_due(ask(1, 1)).await.unwrap().is_empty());
    let of_pool = 1;
    let counted: i64 = query_scalar(count).fetch_one(&database.pool).await.unwrap();
    assert_eq!(counted, of_pool + 1);
    for n in 0..3 {
        scheduler.schedule(new(&n.to_string(), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
        hears(&scheduler, "its own cycle").await;
    }
    let counted: i64 = query_scalar(count).fetch_one(&database.pool).await.unwrap();
    assert_eq!(counted, of_pool + 2);
}
