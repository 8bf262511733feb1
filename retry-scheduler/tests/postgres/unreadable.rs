//! Rows that another version wrote, and claims that nobody received.

use std::time::Duration;

use private_postgres::psql;
use retry_scheduler::conformance::Harness;
use retry_scheduler::{Activity, ClaimDue, CycleAdmin, RetryScheduler, SchedulerErrorKind, State};

use crate::OnServer;
use crate::known_faults::{ask, key, new};
use crate::statement_lock::StatementLock;

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
    let lock = StatementLock::new(pool).await;
    // A small claim may share its transaction with others.
    for (round, limit) in [10, 100, 10, 100].into_iter().enumerate() {
        let held = lock.hold().await;
        let claimer = harness.scheduler().await;
        let claim = tokio::spawn(async move { claimer.claim_due(ask(limit, limit)).await });
        lock.is_waited_for().await;
        claim.abort();
        assert!(claim.await.unwrap_err().is_cancelled());
        held.release().await;
        let cycle = scheduler.get(&key("1")).await.unwrap().unwrap();
        assert_eq!((cycle.epoch, cycle.lapses, cycle.attempts), (0, 0, 0), "in round {round}");
        assert!(matches!(cycle.state, State::Pending(Activity::Idle { .. })), "{cycle:?}");
    }
}

/// A claim that is dropped at any await is given again soon, whole, and nothing of it hangs.
#[tokio::test]
async fn after_a_claim_was_dropped_at_any_await_the_next_one_is_given_the_cycle() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("1", "tenant")).await.unwrap();
    let mut answered_early = 0;
    // At each await, one after the other.
    for polls in 0..200_u32 {
        // So many that no other call shares its transaction: it is carried out by the future that is dropped.
        let mut claim = Box::pin(scheduler.claim_due(ClaimDue::new(100, Duration::from_millis(1))));
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
            let lapses = answer.unwrap()[0].cycle.lapses;
            if polls <= 3 {
                // While this process did not run, the server answered: the claim hardly waited. Its lease lapses.
                answered_early += 1;
                continue;
            }
            // Whether a claim that is dropped during its COMMIT was made, nobody knows. The others were not.
            assert!(lapses < polls / 2 + answered_early, "{lapses} lapses after {polls} polls");
            return;
        }
        // The server may still be busy with it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a claim is never answered");
}
