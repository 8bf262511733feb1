//! Claims of several processes, and of transactions that commit late.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    ClaimDue, CycleKey, Namespaces, NewCycle, Plan, RetryScheduler, TransactionalScheduler,
};
use tokio::sync::Barrier;

use crate::known_faults::{ask, key, new};
use crate::{Database, OnServer};

/// As long as a handle may overlook what was committed late.
const SWEEP: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_cycle_is_given_to_two_of_many_claimers() {
    const CLAIMERS: usize = 6;
    const CYCLES: usize = 60;
    let database = Database::new().await;
    let schedulers = (0..CLAIMERS).map(|_| Arc::new(database.open())).collect::<Vec<_>>();
    for round in 0..40 {
        for n in 0..CYCLES {
            let new = new(&format!("{round} {n}"), &format!("tenant {}", n % 3));
            schedulers[n % CLAIMERS].schedule(new).await.unwrap();
        }
        let start = Arc::new(Barrier::new(CLAIMERS));
        let claimers = schedulers.iter().enumerate().map(|(n, scheduler)| {
            let (scheduler, start) = (scheduler.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                let mut given = Vec::new();
                // Half of them look with shares, which are another statement. What others hold locked at the moment is
                // left out, so nothing found is not the end before it is found again.
                for empty in 0..3 {
                    loop {
                        let per_tenant = if n % 2 == 0 { usize::MAX } else { 5 };
                        let claims = scheduler.claim_due(ask(7, per_tenant)).await.unwrap();
                        if claims.is_empty() {
                            break;
                        }
                        given.extend(claims.into_iter().map(|claim| claim.cycle.key.subject));
                    }
                    if empty < 2 {
                        tokio::task::yield_now().await;
                    }
                }
                given
            })
        });
        let mut given = Vec::new();
        for claimer in claimers.collect::<Vec<_>>() {
            given.extend(claimer.await.unwrap());
        }
        let different = given.iter().collect::<HashSet<_>>().len();
        assert_eq!((given.len(), different), (CYCLES, CYCLES), "in round {round}");
    }
}

/// A handle looks from where its last claims were, and from the start only every few seconds.
#[tokio::test]
async fn a_transaction_that_commits_late_with_an_early_time_is_found_by_the_sweep() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    let mut late = harness.database.pool.begin().await.unwrap();
    scheduler.schedule_in(&mut late, new("late", "tenant")).await.unwrap();
    for n in 0..20 {
        harness.clock().advance(Duration::from_millis(1));
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    late.commit().await.unwrap();

    let given = async || scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert!(given().await.is_empty(), "the floor does not spare anything");
    harness.clock().advance(SWEEP);
    let claims = given().await;
    assert_eq!(claims.iter().map(|claim| &claim.cycle.key).collect::<Vec<_>>(), [&key("late")]);
}

/// Whoever asks when to come back is told of what lies below the floor, and then given it.
#[tokio::test]
async fn a_lease_that_runs_out_below_the_floor_is_waited_for_and_taken_over() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("long", "tenant")).await.unwrap();
    let lease = Duration::from_millis(2_500);
    let long = scheduler.claim_due(ClaimDue::new(1, lease)).await.unwrap();
    for n in 0..20 {
        harness.clock().advance(Duration::from_millis(100));
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    let wait = scheduler.next_wake(&Namespaces::All).await.unwrap();
    assert_eq!(wait, Some(Duration::from_millis(500)));
    harness.clock().advance(Duration::from_millis(500));
    assert_eq!(scheduler.next_wake(&Namespaces::All).await.unwrap(), Some(Duration::ZERO));
    let claims = scheduler.claim_due(ask(1, 1)).await.unwrap();
    assert_eq!(claims[0].cycle.key, long[0].cycle.key);
}

/// A little late is every transaction of several statements: those are not left to the sweep.
#[tokio::test]
async fn a_transaction_that_commits_a_few_claims_late_is_found_at_once() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    for n in 0..20 {
        harness.clock().advance(Duration::from_millis(1));
        scheduler.schedule(new(&format!("before {n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    let mut late = harness.database.pool.begin().await.unwrap();
    scheduler.schedule_in(&mut late, new("late", "tenant")).await.unwrap();
    for n in 0..4 {
        harness.clock().advance(Duration::from_millis(1));
        scheduler.schedule(new(&format!("after {n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    late.commit().await.unwrap();
    assert_eq!(scheduler.claim_due(ask(10, 10)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_its_tenant_had_no_room_for_is_not_lost_below_the_floor() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    for n in 0..3 {
        scheduler.schedule(new(&format!("waits {n}"), "busy")).await.unwrap();
    }
    let mut running = ask(1, 1);
    running.running.insert("busy".to_owned(), 1);
    for n in 0..20 {
        harness.clock().advance(Duration::from_millis(1));
        scheduler.schedule(new(&format!("{n}"), &format!("tenant {n}"))).await.unwrap();
        assert_eq!(scheduler.claim_due(running.clone()).await.unwrap().len(), 1);
    }
    // There is room for all of them now, so that one look is all there is.
    assert_eq!(scheduler.claim_due(ask(4, 10)).await.unwrap().len(), 3);
}

/// A sweep that meets only what its tenants have no room for says where that is.
#[tokio::test]
async fn what_lapsed_below_the_floor_of_a_tenant_at_its_share_is_found_when_nobody_else_waits() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    scheduler.schedule(new("lapsed", "tenant")).await.unwrap();
    assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    for n in 0..20 {
        harness.clock().advance(Duration::from_millis(1));
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    harness.clock().advance(9 * SWEEP);
    for n in 20..30 {
        scheduler.schedule(new(&format!("{n}"), "tenant")).await.unwrap();
        assert_eq!(scheduler.claim_due(ask(1, 1)).await.unwrap().len(), 1);
    }
    harness.clock().advance(SWEEP);
    for shares in [0, 4] {
        harness.clock().advance(SWEEP);
        let request = ask(1, shares).running(HashMap::from([("tenant".to_owned(), 4)]));
        let claims = scheduler.claim_due(request).await.unwrap();
        let lapses = claims.iter().map(|claim| claim.cycle.lapses).collect::<Vec<_>>();
        assert_eq!(lapses, [1], "with a share of {shares}");
    }
}

#[tokio::test]
async fn tenants_are_gone_through_in_turn_however_many_there_are() {
    const TENANTS: usize = 700;
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    for n in 0..30 {
        scheduler.schedule(new(&format!("flood {n}"), "flood")).await.unwrap();
    }
    harness.clock().advance(Duration::from_millis(1));
    for n in 0..TENANTS {
        scheduler.schedule(new(&format!("{n}"), &format!("tenant {n}"))).await.unwrap();
    }
    let mut request = ask(10, 1);
    request.running.insert("flood".to_owned(), 1);
    let mut given = HashSet::new();
    for _ in 0..TENANTS / 10 {
        let claims = scheduler.claim_due(request.clone()).await.unwrap();
        assert_eq!(claims.len(), 10);
        given.extend(claims.into_iter().map(|claim| claim.cycle.tenant));
    }
    assert_eq!(given.len(), TENANTS);
    // Nobody else waits.
    let claims = scheduler.claim_due(request).await.unwrap();
    assert!(claims.len() == 10 && claims.iter().all(|claim| claim.cycle.tenant == "flood"));
}

/// One statement looks at the fronts of 32.
#[tokio::test]
async fn of_many_namespaces_with_something_due_the_last_one_by_name_does_not_wait_behind_the_others() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    let cycles = |space: usize| {
        (0..5).map(move |n| {
            let key = CycleKey::new(format!("space {space:02}"), n.to_string());
            NewCycle::new(key, Plan::every(Duration::from_mins(5), 5).unwrap())
        })
    };
    scheduler.schedule_many(cycles(39).collect()).await.unwrap();
    harness.clock().advance(Duration::from_millis(1));
    scheduler.schedule_many((0..39).flat_map(cycles).collect()).await.unwrap();
    for handle in [scheduler, harness.scheduler().await] {
        // The first look of a handle is a sweep, the second one is not.
        for _ in 0..2 {
            let claims = handle.claim_due(ask(1, 1)).await.unwrap();
            assert_eq!(claims[0].cycle.key.namespace, "space 39");
        }
    }
    let mut given = 4;
    loop {
        let claims = harness.scheduler().await.claim_due(ask(60, 60)).await.unwrap();
        if claims.is_empty() {
            break;
        }
        given += claims.len();
    }
    assert_eq!(given, 200);
}
