//! Rows that another version wrote, and claims that nobody received.

use std::time::Duration;

use private_postgres::psql;
use retry_scheduler::conformance::Harness;
use retry_scheduler::{Activity, ClaimDue, CycleAdmin, RetryScheduler, SchedulerErrorKind, State};
use sqlx::PgPool;

use crate::OnServer;
use crate::known_faults::{ask, key, new};

const ASIDE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_unreadable_row_is_set_aside_and_its_neighbours_are_claimed_without_a_lapse() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    for subject in ["0", "bad", "1", "2"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
    }
    psql(
        &harness.database.url,
        "UPDATE retry_cycles SET delays = 'later' WHERE id = (SELECT id FROM retry_subjects WHERE subject = 'bad')",
    );
    let claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!(claims.len(), 3);
    assert!(claims.iter().all(|claim| (claim.cycle.epoch, claim.cycle.lapses) == (1, 0)));
    let [unreadable] = &claims.unreadable[..] else { panic!("{claims:?}") };
    assert_eq!(unreadable.key, Some(key("bad")));
    assert_eq!(unreadable.error.kind(), SchedulerErrorKind::Invalid);
    assert!(scheduler.claim_due(ask(10, 10)).await.unwrap().unreadable.is_empty());

    // A worker that can read it has it as if nothing had happened.
    harness.clock().advance(ASIDE);
    psql(&harness.database.url, "UPDATE retry_cycles SET delays = '1000' WHERE delays = 'later'");
    let claims = harness.scheduler().await.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].cycle.epoch, claims[0].cycle.lapses), (1, 0));
}

#[tokio::test]
async fn more_unreadable_rows_than_a_claim_takes_do_not_stop_what_is_behind_them() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule_many((0..60).map(|n| new(&format!("bad {n}"), "tenant")).collect()).await.unwrap();
    psql(&harness.database.url, "UPDATE retry_cycles SET delays = 'later'");
    harness.clock().advance(Duration::from_millis(1));
    scheduler.schedule(new("good", "tenant")).await.unwrap();
    let mut unreadable = 0;
    for _ in 0..5 {
        let claims = scheduler.claim_due(ask(2, 2)).await.unwrap();
        unreadable += claims.unreadable.len();
        if !claims.is_empty() {
            assert_eq!((&claims[0].cycle.key, unreadable), (&key("good"), 60));
            return;
        }
    }
    panic!("not found; {unreadable} were set aside");
}

#[tokio::test]
async fn a_verb_that_fails_because_its_cycle_cannot_be_read_has_changed_nothing() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("1", "tenant").first_in(ASIDE)).await.unwrap();
    let before = scheduler.get(&key("1")).await.unwrap();
    psql(&harness.database.url, "UPDATE retry_cycles SET delays = delays || ',later'");
    assert_eq!(scheduler.run_now(&key("1")).await.unwrap_err().kind(), SchedulerErrorKind::Invalid);
    assert_eq!(scheduler.cancel(&key("1")).await.unwrap_err().kind(), SchedulerErrorKind::Invalid);
    psql(&harness.database.url, "UPDATE retry_cycles SET delays = replace(delays, ',later', '')");
    assert_eq!(scheduler.get(&key("1")).await.unwrap(), before);
}

/// The server carries the statement out, although its caller has gone. It is not committed.
#[tokio::test]
async fn a_claim_that_is_dropped_during_its_statement_was_never_made() {
    let harness = OnServer::new().await;
    let (scheduler, pool) = (harness.scheduler().await, &harness.database.pool);
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    let waits = "CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN PERFORM pg_advisory_xact_lock(17); RETURN new; END $$; \
         CREATE TRIGGER waits BEFORE UPDATE ON retry_cycles FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()";
    sqlx::raw_sql(waits).execute(pool).await.unwrap();
    for round in 0..5 {
        let mut test = pool.acquire().await.unwrap();
        sqlx::query("SELECT pg_advisory_lock(17)").execute(&mut *test).await.unwrap();
        let claimer = harness.scheduler().await;
        let claim = tokio::spawn(async move { claimer.claim_due(ask(10, 10)).await });
        waiting_claims(pool, 1).await;
        claim.abort();
        assert!(claim.await.unwrap_err().is_cancelled());
        sqlx::query("SELECT pg_advisory_unlock(17)").execute(&mut *test).await.unwrap();
        waiting_claims(pool, 0).await;
        let cycle = scheduler.get(&key("1")).await.unwrap().unwrap();
        assert_eq!((cycle.epoch, cycle.lapses, cycle.attempts), (0, 0, 0), "in round {round}");
        assert!(matches!(cycle.state, State::Pending(Activity::Idle { .. })), "{cycle:?}");
    }
}

/// Waits until this many other connections of the database are in a transaction or a statement.
async fn waiting_claims(pool: &PgPool, wanted: i64) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
         AND query NOT LIKE '%pg_stat_activity%' AND ($1 = 0 OR wait_event = 'advisory')";
    for _ in 0..2_000 {
        let busy: i64 = sqlx::query_scalar(busy).bind(wanted).fetch_one(pool).await.unwrap();
        if busy == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("there are not {wanted} claims under way");
}

/// A claim that is dropped at any await is given again soon, whole, and nothing of it hangs.
#[tokio::test]
async fn after_a_claim_was_dropped_at_any_await_the_next_one_is_given_the_cycle() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    // At each await, one after the other.
    for polls in 0..200_u32 {
        let mut claim = Box::pin(scheduler.claim_due(ClaimDue::new(10, Duration::from_millis(1))));
        let mut polled = 0;
        let answer = std::future::poll_fn(|context| {
            if polled == polls {
                return std::task::Poll::Ready(None);
            }
            polled += 1;
            claim.as_mut().poll(context).map(Some)
        });
        let answer = answer.await;
        drop(claim);
        harness.clock().advance(Duration::from_secs(4));
        if let Some(answer) = answer {
            // Whether a claim that is dropped during its COMMIT was made, nobody knows. The others were not.
            let lapses = answer.unwrap()[0].cycle.lapses;
            assert!(lapses < polls / 2, "{lapses} lapses after {polls} polls");
            assert!(polls > 3);
            return;
        }
        // The server may still be busy with it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a claim is never answered");
}
