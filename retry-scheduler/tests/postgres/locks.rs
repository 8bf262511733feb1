//! Verbs beside transactions that hold what they are about.

use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    Cancelled, Ending, Fenced, Finished, PostgresScheduler, RetryScheduler, Scheduled, SchedulerErrorKind,
    TransactionalScheduler, Verdict,
};

use crate::OnServer;
use crate::known_faults::{LEASE, ask, key, new, report};

async fn with_claims(scheduler: &PostgresScheduler, count: usize) -> Vec<retry_scheduler::Claimed> {
    for n in 0..count {
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
    }
    let mut claims = scheduler.claim_due(ask(count, count)).await.unwrap();
    claims.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
    assert_eq!(claims.len(), count);
    claims.claimed
}

/// The others wait neither for it nor for its transaction, and each report gets the answer it would get alone.
#[tokio::test]
async fn in_a_batch_a_locked_cycle_is_a_conflict_of_its_own_report_alone_and_answered_at_once() {
    let harness = OnServer::new().await;
    let (scheduler, other) = (harness.scheduler().await, harness.scheduler().await);
    for commits in [true, false] {
        let subjects = (0..5).map(|n| format!("{commits} {n}")).collect::<Vec<_>>();
        for subject in &subjects {
            scheduler.schedule(new(subject, "tenant")).await.unwrap();
        }
        let mut claims = scheduler.claim_due(ask(5, 5)).await.unwrap();
        claims.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
        let stale = key(&subjects[4]);
        assert!(matches!(other.cancel(&stale).await.unwrap(), Cancelled::Cancelled(_)));
        let locked = key(&subjects[2]);
        let mut open = harness.database.pool.begin().await.unwrap();
        assert!(matches!(other.cancel_in(&mut open, &locked).await.unwrap(), Cancelled::Cancelled(_)));

        let reports = claims.iter().cloned().map(|claim| (claim, report(Verdict::Success, ""))).collect();
        // The transaction stays open: were it waited for, this would not end.
        let answers = scheduler.finish_many(reports).await.unwrap();
        let answers = answers.into_iter().map(|answer| answer.map_err(|error| error.kind()));
        let answers = answers.map(|answer| answer.map(|finished| finished != Finished::Stale));
        let conflict = Err(SchedulerErrorKind::Conflict);
        assert_eq!(answers.collect::<Vec<_>>(), [Ok(true), Ok(true), conflict, Ok(true), Ok(false)]);
        assert!(other.get(&key(&subjects[0])).await.unwrap().unwrap().ending().is_some());

        if commits {
            open.commit().await.unwrap();
        } else {
            open.rollback().await.unwrap();
        }
        let again = vec![(claims[2].clone(), report(Verdict::Success, ""))];
        let answer = scheduler.finish_many(again).await.unwrap().remove(0).unwrap();
        assert_eq!(answer == Finished::Stale, commits);
        assert_eq!(other.attempts(&locked, 0, 9).await.unwrap().len(), usize::from(!commits));
    }
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

/// A worker has a third of its lease for a renewal, and must not lose all of them for one.
#[tokio::test]
async fn renewals_do_not_wait_for_a_locked_cycle_and_the_others_are_renewed() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    let claims = with_claims(&scheduler, 5).await;
    let mut open = harness.database.pool.begin().await.unwrap();
    scheduler.cancel_in(&mut open, &key("2")).await.unwrap();
    let soon = Duration::from_secs(3);
    let many = tokio::time::timeout(soon, scheduler.extend_many(&claims, 9 * LEASE)).await.unwrap();
    assert_eq!(many.unwrap_err().kind(), SchedulerErrorKind::Conflict);
    let alone = tokio::time::timeout(soon, scheduler.extend(&claims[2], 9 * LEASE)).await.unwrap();
    assert_eq!(alone.unwrap_err().kind(), SchedulerErrorKind::Conflict);
    open.rollback().await.unwrap();

    harness.clock().advance(LEASE);
    let taken = scheduler.claim_due(ask(5, 5)).await.unwrap();
    assert_eq!(taken.iter().map(|claim| &claim.cycle.key).collect::<Vec<_>>(), [&key("2")]);
    let twice = [&claims[..], &claims[..1]].concat();
    let answers = scheduler.extend_many(&twice, LEASE).await.unwrap();
    let held = answers.iter().map(|answer| *answer == Fenced::Held).collect::<Vec<_>>();
    assert_eq!(held, [true, true, false, true, true, true]);
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
    assert_eq!(cancel.unwrap_err().kind(), SchedulerErrorKind::Conflict);
    assert_eq!(schedule.unwrap_err().kind(), SchedulerErrorKind::Conflict);
    // It is as good as ever afterwards.
    open.rollback().await.unwrap();
    assert!(matches!(scheduler.cancel(&key("held")).await.unwrap(), Cancelled::Cancelled(_)));
    assert!(matches!(scheduler.schedule(new("new", "tenant")).await.unwrap(), Scheduled::New(_)));
    assert_eq!(scheduler.cancel(&key("held")).await.unwrap(), Cancelled::Ended(Ending::Cancelled));
}
