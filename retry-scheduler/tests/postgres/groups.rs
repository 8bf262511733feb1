//! Calls that come at the same time share a transaction.

use std::collections::HashSet;
use std::time::Duration;

use private_postgres::psql;
use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    Claimed, CycleAdmin, Fenced, Finished, PostgresScheduler, Report, RetryScheduler, SchedulerErrorKind,
    TransactionalScheduler,
};
use tokio::task::JoinSet;

use crate::OnServer;
use crate::known_faults::{ask, key, new};
use crate::statement_lock::StatementLock;

/// Less than the bound on calls that share a transaction.
const CALLERS: usize = 8;

async fn schedule(scheduler: &PostgresScheduler, cycles: usize) {
    let new = (0..cycles).map(|n| new(&format!("{n:04}"), &format!("tenant {n}")));
    scheduler.schedule_many(new.collect()).await.unwrap();
}

/// Claims of many callers at once, `limit` each.
async fn claims(scheduler: &PostgresScheduler, callers: usize, limit: usize) -> Vec<Vec<Claimed>> {
    let mut calls = JoinSet::new();
    for _ in 0..callers {
        let scheduler = scheduler.clone();
        calls.spawn(async move { scheduler.claim_due(ask(limit, usize::MAX)).await.unwrap().claimed });
    }
    calls.join_all().await
}

/// Transactions that wrote anything.
fn writes(url: &str) -> u64 {
    psql(url, "SELECT pg_snapshot_xmax(pg_current_snapshot())").parse().unwrap()
}

#[tokio::test]
async fn calls_at_the_same_time_share_transactions_and_each_is_given_its_own() {
    const ROUNDS: usize = 20;
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, 10 * CALLERS).await;
    // All first calls of a handle look from the start.
    assert_eq!(scheduler.claim_due(ask(1, usize::MAX)).await.unwrap().len(), 1);
    let before = writes(&harness.database.url);
    let mut reports: Vec<Option<(Claimed, Report)>> = vec![None; CALLERS];
    for round in 0..ROUNDS {
        let mut calls = JoinSet::new();
        for report in &mut reports {
            let (scheduler, report) = (scheduler.clone(), report.take());
            calls.spawn(async move {
                let sent = report.as_ref().map(|(claim, _)| claim.cycle.key.clone());
                let reports = report.into_iter().collect();
                let answer = scheduler.finish_and_claim(reports, ask(1, usize::MAX)).await.unwrap();
                let finished = answer.finished.into_iter().map(|finished| match finished.unwrap() {
                    Finished::Recorded(cycle) => cycle.key,
                    Finished::Stale => panic!("stale"),
                });
                assert_eq!(finished.collect::<Vec<_>>(), Vec::from_iter(sent));
                let [claim] = &answer.claims.unwrap().claimed[..] else { panic!("not one claim") };
                claim.clone()
            });
        }
        let claims = calls.join_all().await;
        let different: HashSet<_> = claims.iter().map(|claim| claim.cycle.key.clone()).collect();
        let nonces: HashSet<_> = claims.iter().map(|claim| claim.fence().nonce).collect();
        assert_eq!((different.len(), nonces.len()), (CALLERS, CALLERS), "in round {round}");
        for (report, claim) in reports.iter_mut().zip(claims) {
            *report = Some((claim, Report::failure().retry_in(Duration::ZERO)));
        }
    }
    // One of the first caller alone would be a second one.
    let transactions = writes(&harness.database.url) - before;
    assert!(transactions <= 2 * ROUNDS as u64, "{transactions} transactions for {ROUNDS} rounds");
}

#[tokio::test]
async fn what_many_callers_claim_together_is_no_more_than_each_asked_for_and_none_is_given_twice() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, 3 * CALLERS - 2).await;
    let mut given: Vec<usize> = Vec::new();
    let mut nonces = HashSet::new();
    let mut keys = HashSet::new();
    for claims in claims(&scheduler, CALLERS, 3).await {
        given.push(claims.len());
        keys.extend(claims.iter().map(|claim| claim.cycle.key.clone()));
        let of_call: HashSet<_> = claims.iter().map(|claim| claim.fence().nonce).collect();
        assert!(of_call.len() <= 1, "{of_call:?}");
        assert!(nonces.is_disjoint(&of_call));
        nonces.extend(of_call);
    }
    given.sort_unstable();
    assert_eq!((given.iter().sum::<usize>(), given.last()), (3 * CALLERS - 2, Some(&3)), "{given:?}");
    assert_eq!(keys.len(), 3 * CALLERS - 2);
}

/// Each caller has the answer that it would have alone, and waits for no locked row but its own.
#[tokio::test]
async fn a_locked_cycle_is_a_conflict_of_the_call_that_reports_it_and_delays_no_other() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, 2 * CALLERS).await;
    let first: Vec<Claimed> = claims(&scheduler, CALLERS, 1).await.into_iter().flatten().collect();
    let locked = first[3].cycle.key.clone();
    let mut open = harness.database.pool.begin().await.unwrap();
    scheduler.cancel_in(&mut open, &locked).await.unwrap();

    let mut calls = JoinSet::new();
    for claim in first {
        let scheduler = scheduler.clone();
        calls.spawn(async move {
            let key = claim.cycle.key.clone();
            let answer =
                scheduler.finish_and_claim(vec![(claim, Report::success())], ask(1, usize::MAX)).await;
            let mut answer = answer.unwrap();
            let finished = answer.finished.remove(0).map_err(|error| error.kind());
            (key, finished, answer.claims.unwrap().len())
        });
    }
    let mut order = Vec::new();
    while let Some(answer) = calls.join_next().await {
        let (key, finished, claims) = answer.unwrap();
        if key == locked {
            assert_eq!(finished.unwrap_err(), SchedulerErrorKind::Conflict);
        } else {
            assert!(matches!(finished, Ok(Finished::Recorded(_))), "{key:?}: {finished:?}");
        }
        assert_eq!(claims, 1);
        order.push(key);
    }
    assert_eq!(order.last(), Some(&locked), "somebody waited for it");
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn a_cycle_that_cannot_be_read_is_reported_once_and_each_caller_is_given_its_claim() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, CALLERS + 1).await;
    assert!(harness.spoil(&key("0002")).await);
    let mut calls = JoinSet::new();
    for _ in 0..CALLERS {
        let scheduler = scheduler.clone();
        calls.spawn(async move { scheduler.claim_due(ask(1, usize::MAX)).await.unwrap() });
    }
    let answers = calls.join_all().await;
    let unreadable: Vec<_> = answers.iter().flat_map(|answer| &answer.unreadable).collect();
    assert!(unreadable.iter().all(|unreadable| unreadable.key == Some(key("0002"))));
    // Those that met it at the same moment both did.
    assert!(!unreadable.is_empty());
    let keys: HashSet<_> = answers.iter().flatten().map(|claim| claim.cycle.key.clone()).collect();
    assert_eq!((answers.iter().map(|answer| answer.len()).sum::<usize>(), keys.len()), (CALLERS, CALLERS));
}

/// What is claimed for a caller that has gone is not committed, and the others are given theirs.
#[tokio::test]
async fn a_caller_that_goes_while_others_stay_has_claimed_nothing_and_costs_them_nothing() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, CALLERS).await;
    let lock = StatementLock::new(&harness.database.pool).await;
    for round in 0..10 {
        let held = lock.hold().await;
        let mut calls: Vec<_> = (0..CALLERS)
            .map(|_| {
                let scheduler = scheduler.clone();
                tokio::spawn(async move { scheduler.claim_due(ask(1, usize::MAX)).await.unwrap().claimed })
            })
            .collect();
        lock.is_waited_for().await;
        let gone = calls.remove(round % CALLERS);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        held.release().await;
        let mut given = Vec::new();
        for call in calls {
            given.append(&mut call.await.unwrap());
        }
        assert_eq!(given.len(), CALLERS - 1, "in round {round}");
        let counts = scheduler.counts().await.unwrap();
        assert_eq!((counts[0].leased, counts[0].due), (CALLERS - 1, 1), "in round {round}");
        for claim in &given {
            assert_eq!(claim.cycle.lapses, 0);
            assert_eq!(scheduler.defer(claim, Duration::ZERO).await.unwrap(), Fenced::Held);
        }
        harness.clock().advance(Duration::from_secs(4));
    }
}

/// A group that waits for a lock is not waited for.
#[tokio::test]
async fn a_call_does_not_wait_for_a_group_that_takes_long() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    schedule(&scheduler, 1).await;
    let lock = StatementLock::new(&harness.database.pool).await;
    let held = lock.hold().await;
    let slow = {
        let scheduler = scheduler.clone();
        tokio::spawn(async move { scheduler.claim_due(ask(1, usize::MAX)).await.unwrap() })
    };
    lock.is_waited_for().await;
    let group = lock.waiter().await;
    // It passes over the locked cycle. Had it waited for the group, the group would have been given up by now.
    assert!(scheduler.claim_due(ask(1, usize::MAX)).await.unwrap().is_empty());
    assert!(group.is_some());
    assert_eq!(lock.waiter().await, group);
    held.release().await;
    assert_eq!(slow.await.unwrap().len(), 1);
}
