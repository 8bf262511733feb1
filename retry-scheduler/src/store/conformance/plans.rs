//! Nonces, delays and bounds: clauses 34 to 37.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Harness;
use super::fences::all_stale;
use super::probe::{INTERVAL, LEASE, MS, Probe, counts, report};
use crate::claim::{Claimed, Report};
use crate::cycle::{EndReason, NewCycle, State, Verdict};
use crate::plan::Plan;
use crate::scheduler::{Finished, RetryScheduler};

pub(super) async fn nonces<H: Harness>(probe: &Probe<'_, H>) {
    for _ in 0..4 {
        probe.schedule(&probe.new_cycle()).await;
    }
    let mut nonces = BTreeSet::new();
    for _ in 0..2 {
        let claims = probe.claims(2, LEASE).await;
        let of_call: BTreeSet<u64> = claims.iter().map(|claim| claim.fence().nonce).collect();
        probe.same(&of_call.len(), &1, "the number of nonces of one call");
        nonces.extend(of_call);
    }
    probe.same(&nonces.len(), &2, "the number of nonces of two calls");

    probe.clear().await;
    let new = probe.new_cycle();
    let before = probe.schedule(&new).await;
    let claim = probe.claim(&new.key, "of a new cycle").await;
    for nonce in [0, 1, claim.cycle.nonce ^ 1, claim.cycle.nonce.wrapping_add(1), u64::MAX] {
        if nonce == claim.cycle.nonce {
            continue;
        }
        let forged = Claimed { cycle: crate::Cycle { nonce, ..claim.cycle.clone() }, ..claim.clone() };
        all_stale(probe, &forged, &claim.cycle, &format!("with nonce {nonce} and the current epoch")).await;
    }
    // A failover that lost the claim.
    if !probe.harness.restore(&before).await {
        return;
    }
    let heir = probe.claim(&new.key, "when a claim was lost").await;
    probe.same(&heir.cycle.epoch, &claim.cycle.epoch, "the epoch when a claim was lost");
    all_stale(probe, &claim, &heir.cycle, "with a claim that was lost").await;
    let _ = probe.recorded(&heir, Verdict::Success, "by the one who claimed last").await;
}

pub(super) async fn own_delay<H: Harness>(probe: &Probe<'_, H>) {
    for (place, own) in [Duration::ZERO, MS, 7 * INTERVAL, 2 * Plan::MAX_DELAY].into_iter().enumerate() {
        for many in [false, true] {
            probe.clear().await;
            let claim = probe.claimed(&probe.new_cycle()).await;
            probe.advance(MS);
            let failed = Report::failure().retry_in(own).detail(format!("{place}"));
            let cycle = finished(probe, &claim, failed, many).await;
            let due = probe.now() + own.min(Plan::MAX_DELAY);
            probe.is_idle(&cycle, due, format_args!("after a failure with a delay of {own:?}"));
        }
    }
    // Only a failure has one, and only of its own attempt.
    probe.clear().await;
    let claim = probe.claimed(&probe.new_cycle()).await;
    let cycle = finished(probe, &claim, Report::crashed().retry_in(MS), false).await;
    probe.is_idle(&cycle, probe.now() + INTERVAL, "after a crashed attempt");
    probe.advance(INTERVAL);
    let claim = probe.claim(&claim.cycle.key, "when the next attempt is due").await;
    let cycle = finished(probe, &claim, Report::failure(), false).await;
    probe.is_idle(&cycle, probe.now() + INTERVAL, "after a failure without a delay of its own");
}

async fn finished<H: Harness>(
    probe: &Probe<'_, H>,
    claim: &Claimed,
    report: Report,
    many: bool,
) -> crate::Cycle {
    let answer = if many {
        probe.finish_many(vec![(claim.clone(), report)]).await.pop()
    } else {
        Some(probe.unfailing(probe.handle().finish(claim, report).await, "finish"))
    };
    let Some(Finished::Recorded(cycle)) = answer else {
        probe.fail(format_args!("finish of a running attempt was {answer:?}, not Recorded"))
    };
    probe.is(&cycle, "after finish").await;
    cycle
}

pub(super) async fn jitter<H: Harness>(probe: &Probe<'_, H>) {
    let plan = probe.plan(INTERVAL, 9);
    let plan = plan.jitter(60).unwrap_or_else(|error| probe.fail(error));
    let count = 40;
    for _ in 0..count {
        probe.schedule(&NewCycle { plan: plan.clone(), ..probe.new_cycle() }).await;
    }
    let claims = probe.all_due().await;
    probe.same(&claims.len(), &count, "the number of claims");
    let reports = claims.into_iter().map(|claim| (claim, report(Verdict::Failure))).collect();
    let mut delays = BTreeSet::new();
    for answer in probe.finish_many(reports).await {
        let Finished::Recorded(cycle) = answer else { probe.fail("finish_many was Stale, not Recorded") };
        let State::Pending(activity) = cycle.state else { probe.fail("a first failure ended a cycle") };
        let delay = activity.wake().duration_since(probe.now()).unwrap_or_default();
        probe.same(&delay, &cycle.delay(), "the delay after a failure");
        let shortest = INTERVAL * 40 / 100;
        let good = (shortest..=INTERVAL).contains(&delay);
        probe.ensure(good, format_args!("a delay of {INTERVAL:?} with 60 % of jitter was {delay:?}"));
        delays.insert(delay);
    }
    let different = delays.len();
    probe.ensure(different > count / 2, format_args!("of {count} delays only {different} differ"));
}

pub(super) async fn deferral_bound<H: Harness>(probe: &Probe<'_, H>) {
    let new = NewCycle { plan: probe.plan(INTERVAL, 3).max_deferrals(2), ..probe.new_cycle() };
    probe.schedule(&new).await;
    for attempt in 0..2 {
        for deferrals in 1..=2 {
            let claim = probe.claim(&new.key, "when it is due").await;
            probe.held(probe.defer_by(&claim, Duration::ZERO).await, "defer of a running attempt");
            let cycle = probe.known(&new.key).await;
            probe.same(&cycle.deferrals, &deferrals, "the number of deferrals");
            probe.is_idle(&cycle, probe.now(), "while it may be deferred");
        }
        if attempt == 0 {
            let claim = probe.claim(&new.key, "when it is due").await;
            let cycle = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.same(&cycle.deferrals, &0, "the number of deferrals after an attempt");
            probe.advance(INTERVAL);
        }
    }
    let claim = probe.claim(&new.key, "when it is due").await;
    probe.held(probe.defer_by(&claim, INTERVAL).await, "defer of a running attempt");
    let cycle = probe.known(&new.key).await;
    probe.is_ended(&cycle, EndReason::DeferredTooOften, "when it was deferred too often");
    probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted when it was deferred too often");
    probe.none_due("when the only cycle was deferred too often").await;
}
