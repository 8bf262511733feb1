//! Faults that other job queues have had, one test for each: on any scheduler, with two handles as two processes.

use std::collections::HashMap;
use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    Cancelled, ClaimDue, Claimed, CycleKey, Ending, Fenced, Finished, Namespaces, NewCycle, Plan, Report,
    RetryScheduler, State, Verdict,
};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_mins(5);

/// Writes a test for each of them.
#[macro_export]
macro_rules! known_faults {
    ($harness:expr) => {
        $crate::known_faults! { @each [$harness]
            the_first_runner_of_a_rescued_attempt_does_not_overwrite_the_second_ones_result
            after_a_cancellation_was_answered_no_success_is_recorded
            a_crashed_workers_cycle_is_taken_over_when_its_lease_ends_and_not_later
            a_failed_cycle_is_not_claimed_again_before_its_delay_is_over
            one_tenants_many_due_cycles_do_not_starve_the_rest
        }
    };
    (@each $harness:tt $($name:ident)+) => { $($crate::known_faults! { @one $harness $name })+ };
    (@one [$harness:expr] $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            $crate::known_faults::$name(&$harness).await;
        }
    };
}

pub(crate) async fn the_first_runner_of_a_rescued_attempt_does_not_overwrite_the_second_ones_result(
    harness: &impl Harness,
) {
    let [slow, quick] = [harness.scheduler().await, harness.scheduler().await];
    slow.schedule(new("invoice", "tenant")).await.unwrap();
    let first = claim_one(&slow).await;
    harness.clock().advance(LEASE);
    let second = claim_one(&quick).await;
    assert_eq!((first.attempt(), second.attempt(), second.cycle.lapses), (1, 1, 1));
    nothing_comes_of_it(&slow, &first).await;
    let recorded = quick.finish(&second, report(Verdict::Success, "by the second")).await.unwrap();
    assert!(matches!(recorded, Finished::Recorded(_)));
    nothing_comes_of_it(&slow, &first).await;
    assert_eq!(ending(&slow, "invoice").await, Some(Ending::Resolved));
    let attempts = slow.attempts(&key("invoice"), 0, 10).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| &attempt.detail[..]).collect::<Vec<_>>(), [b"by the second"]);
}

/// Of whatever the claim says, alone or in a batch.
async fn nothing_comes_of_it(scheduler: &impl RetryScheduler, claim: &Claimed) {
    let late = report(Verdict::Failure, "too late");
    assert_eq!(scheduler.finish(claim, late.clone()).await.unwrap(), Finished::Stale);
    let batch = vec![(claim.clone(), late.clone()), (claim.clone(), late)];
    for answer in scheduler.finish_many(batch).await.unwrap() {
        assert_eq!(answer.unwrap(), Finished::Stale);
    }
    assert_eq!(scheduler.extend(claim, LEASE).await.unwrap(), Fenced::Stale);
    assert_eq!(scheduler.defer(claim, LEASE).await.unwrap(), Fenced::Stale);
}

pub(crate) async fn after_a_cancellation_was_answered_no_success_is_recorded(harness: &impl Harness) {
    let [worker, caller] = [harness.scheduler().await, harness.scheduler().await];
    worker.schedule(new("invoice", "tenant")).await.unwrap();
    let claim = claim_one(&worker).await;
    assert!(matches!(caller.cancel(&key("invoice")).await.unwrap(), Cancelled::Cancelled(_)));
    let late = worker.finish(&claim, report(Verdict::Success, "too late")).await.unwrap();
    assert_eq!(late, Finished::Stale);
    assert_eq!(ending(&caller, "invoice").await, Some(Ending::Cancelled));
    assert!(caller.attempts(&key("invoice"), 0, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_crashed_workers_cycle_is_taken_over_when_its_lease_ends_and_not_later(
    harness: &impl Harness,
) {
    let [crashed, other] = [harness.scheduler().await, harness.scheduler().await];
    crashed.schedule(new("invoice", "tenant")).await.unwrap();
    drop((claim_one(&crashed).await, crashed));
    harness.clock().advance(LEASE.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(other.claim_due(ask(10, 10)).await.unwrap().is_empty());
    harness.clock().advance(Duration::from_millis(1));
    assert_eq!(other.next_wake(&Namespaces::All).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(claim_one(&other).await.cycle.lapses, 1);
}

pub(crate) async fn a_failed_cycle_is_not_claimed_again_before_its_delay_is_over(harness: &impl Harness) {
    let [one, two] = [harness.scheduler().await, harness.scheduler().await];
    one.schedule(new("invoice", "tenant")).await.unwrap();
    let claim = claim_one(&one).await;
    harness.clock().advance(Duration::from_secs(7));
    let _ = one.finish(&claim, report(Verdict::Failure, "no")).await.unwrap();
    for handle in [&one, &two] {
        assert!(handle.claim_due(ask(10, 10)).await.unwrap().is_empty());
        assert_eq!(handle.next_wake(&Namespaces::All).await.unwrap(), Some(INTERVAL));
    }
    harness.clock().advance(INTERVAL.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(two.claim_due(ask(10, 10)).await.unwrap().is_empty());
    harness.clock().advance(Duration::from_millis(1));
    assert_eq!(claim_one(&two).await.attempt(), 2);
}

pub(crate) async fn one_tenants_many_due_cycles_do_not_starve_the_rest(harness: &impl Harness) {
    let scheduler = harness.scheduler().await;
    for n in 0..2_000 {
        scheduler.schedule(new(&format!("flood {n}"), "flood")).await.unwrap();
    }
    harness.clock().advance(Duration::from_secs(1));
    for n in 0..7 {
        scheduler.schedule(new(&format!("drop {n}"), &format!("drop {}", n % 3))).await.unwrap();
    }
    let mut running = HashMap::<String, usize>::new();
    let mut claimed = Vec::new();
    for _ in 0..4 {
        let request = ClaimDue::new(5, LEASE).per_tenant(3).running(running.clone());
        let claims = scheduler.claim_due(request).await.unwrap();
        assert!(claims.len() <= 5);
        for claim in &claims {
            *running.entry(claim.cycle.tenant.clone()).or_default() += 1;
        }
        claimed.extend(claims);
    }
    let of = |tenant: &str| claimed.iter().filter(|claim| claim.cycle.tenant == tenant).count();
    assert_eq!([of("drop 0"), of("drop 1"), of("drop 2")], [3, 2, 2]);
}

pub(crate) fn key(subject: &str) -> CycleKey {
    CycleKey::new("test", subject)
}

pub(crate) fn new(subject: &str, tenant: &str) -> NewCycle {
    let plan = Plan::every(INTERVAL, 1_000).unwrap();
    NewCycle::new(key(subject), plan).tenant(tenant).payload("payload")
}

pub(crate) fn ask(limit: usize, per_tenant: usize) -> ClaimDue {
    ClaimDue::new(limit, LEASE).per_tenant(per_tenant)
}

pub(crate) fn report(verdict: Verdict, detail: &'static str) -> Report {
    Report::new(verdict).detail(detail)
}

/// The one cycle that is due.
pub(crate) async fn claim_one(scheduler: &impl RetryScheduler) -> Claimed {
    let mut claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!(claims.len(), 1, "{claims:?}");
    claims.remove(0)
}

async fn ending(scheduler: &impl RetryScheduler, subject: &str) -> Option<Ending> {
    match scheduler.get(&key(subject)).await.unwrap().unwrap().state {
        State::Ended { ending, .. } => Some(ending),
        State::Pending(_) => None,
    }
}
