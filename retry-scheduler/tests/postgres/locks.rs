//! Verbs beside transactions that hold what they are about.

use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    Cancelled, Ending, Finished, PostgresScheduler, RetryScheduler, Scheduled, SchedulerErrorKind, State,
    TransactionalScheduler, Verdict,
};

use crate::OnServer;
use crate::known_faults::{ask, key, new, report};

async fn with_claims(scheduler: &PostgresScheduler, count: usize) -> Vec<retry_scheduler::Claimed> {
    for n in 0..count {
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
    }
    let mut claims = scheduler.claim_due(ask(count, count)).await.unwrap();
    claims.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
    assert_eq!(claims.len(), count);
    claims.claimed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_locked_cycle_holds_up_its_own_report_and_a_batch_answers_each_as_it_is() {
    for commits in [true, false] {
        let harness = OnServer::new().await;
        let (scheduler, other) = (harness.scheduler().await, harness.scheduler().await);
        let claims = with_claims(&scheduler, 5).await;
        let mut open = harness.database.pool.begin().await.unwrap();
        let cancelled = other.cancel_in(&mut open, &key("2")).await.unwrap();
        assert!(matches!(cancelled, Cancelled::Cancelled(_)));

        let reports = claims.iter().cloned().map(|claim| (claim, report(Verdict::Success, ""))).collect();
        let batch = tokio::spawn(async move { scheduler.finish_many(reports).await });
        // The others are recorded while that one waits.
        let recorded = async {
            for subject in ["0", "1", "3", "4"] {
                while !ended(&other, subject).await {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(4), recorded).await.expect("they wait for the locked one");
        assert!(!batch.is_finished());
        if commits {
            open.commit().await.unwrap();
        } else {
            open.rollback().await.unwrap();
        }
        let answers = batch.await.unwrap().unwrap();
        let stale = answers.iter().map(|answer| matches!(answer, Ok(Finished::Stale))).collect::<Vec<_>>();
        assert_eq!(stale, [false, false, commits, false, false]);
        assert_eq!(other.attempts(&key("2"), 0, 10).await.unwrap().len(), usize::from(!commits));
    }
}

async fn ended(scheduler: &PostgresScheduler, subject: &str) -> bool {
    matches!(scheduler.get(&key(subject)).await.unwrap().unwrap().state, State::Ended { .. })
}

#[tokio::test]
async fn of_reports_about_the_same_claim_in_one_batch_the_first_counts() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    let claims = with_claims(&scheduler, 3).await;
    harness.clock().advance(Duration::from_hours(1));
    let mut later = scheduler.claim_due(ask(3, 3)).await.unwrap();
    later.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
    let said = |claim: &retry_scheduler::Claimed, detail| (claim.clone(), report(Verdict::Failure, detail));
    let reports = vec![
        said(&claims[0], "stale"),
        said(&later[0], "first"),
        said(&later[0], "second"),
        said(&later[1], "alone"),
        said(&claims[1], "stale"),
    ];
    let answers = scheduler.finish_many(reports).await.unwrap();
    let stale = answers.iter().map(|answer| matches!(answer, Ok(Finished::Stale))).collect::<Vec<_>>();
    assert_eq!(stale, [true, false, true, false, true]);
    for (subject, kept) in [("0", "first"), ("1", "alone")] {
        let attempts = scheduler.attempts(&key(subject), 0, 10).await.unwrap();
        assert_eq!(attempts.iter().map(|attempt| &attempt.detail[..]).collect::<Vec<_>>(), [kept.as_bytes()]);
    }
}

/// Reports in opposite orders, in batches and in transactions: whoever waited for the other while holding what it wants
/// would be ended by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_in_opposite_orders_do_not_end_each_other() {
    let harness = OnServer::new().await;
    let schedulers = [harness.scheduler().await, harness.scheduler().await];
    for round in 0..30 {
        for n in 0..40 {
            schedulers[0].schedule(new(&format!("{round} {n}"), "tenant")).await.unwrap();
        }
        let claims = schedulers[0].claim_due(ask(40, 40)).await.unwrap();
        assert_eq!(claims.len(), 40);
        let batches = schedulers.clone().into_iter().enumerate().map(|(n, scheduler)| {
            let mut reports =
                claims.iter().cloned().map(|claim| (claim, report(Verdict::Success, ""))).collect::<Vec<_>>();
            if n == 1 {
                reports.reverse();
            }
            tokio::spawn(async move { scheduler.finish_many(reports).await.unwrap() })
        });
        let mut recorded = 0;
        for batch in batches.collect::<Vec<_>>() {
            let answers = batch.await.unwrap();
            recorded += answers.iter().filter(|answer| matches!(answer, Ok(Finished::Recorded(_)))).count();
        }
        assert_eq!(recorded, 40, "in round {round}");
    }
}

#[tokio::test]
async fn a_verb_does_not_wait_for_an_open_transaction_for_ever() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("held", "tenant")).await.unwrap();
    let mut open = harness.database.pool.begin().await.unwrap();
    scheduler.cancel_in(&mut open, &key("held")).await.unwrap();
    scheduler.schedule_in(&mut open, new("new", "tenant")).await.unwrap();
    let held = key("held");
    let (cancel, schedule) = tokio::join!(scheduler.cancel(&held), scheduler.schedule(new("new", "tenant")));
    assert_eq!(cancel.unwrap_err().kind(), SchedulerErrorKind::Unavailable);
    assert_eq!(schedule.unwrap_err().kind(), SchedulerErrorKind::Unavailable);
    // It is as good as ever afterwards.
    open.rollback().await.unwrap();
    assert!(matches!(scheduler.cancel(&key("held")).await.unwrap(), Cancelled::Cancelled(_)));
    assert!(matches!(scheduler.schedule(new("new", "tenant")).await.unwrap(), Scheduled::New(_)));
    assert_eq!(scheduler.cancel(&key("held")).await.unwrap(), Cancelled::Ended(Ending::Cancelled));
}
