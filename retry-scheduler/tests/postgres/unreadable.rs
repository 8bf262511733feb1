//! Rows that another version wrote, and claims that nobody received.

use std::time::Duration;

use private_postgres::psql;
use retry_scheduler::conformance::Harness;
use retry_scheduler::{ClaimDue, RetryScheduler, SchedulerErrorKind};

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

/// The answer was on its way, and nobody was there to take it.
#[tokio::test]
async fn a_claim_whose_caller_went_away_was_never_made() {
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
