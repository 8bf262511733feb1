//! Claims that no longer hold: clause 10.

use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, report};
use crate::claim::Claimed;
use crate::cycle::{Cycle, CycleKey, NewCycle, Reschedule, Verdict};
use crate::scheduler::{Fenced, Finished};

/// The verbs of whoever holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Extend(Duration),
    Finish(Verdict),
    FinishMany(Verdict),
    Defer(Duration),
}

const VERBS: [Verb; 10] = [
    Verb::Extend(Duration::ZERO),
    Verb::Extend(INTERVAL),
    Verb::Finish(Verdict::Success),
    Verb::Finish(Verdict::Failure),
    Verb::Finish(Verdict::Permanent),
    Verb::FinishMany(Verdict::Success),
    Verb::FinishMany(Verdict::Failure),
    Verb::FinishMany(Verdict::Permanent),
    Verb::Defer(Duration::ZERO),
    Verb::Defer(INTERVAL),
];

/// How a claim can be lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    TakenOver,
    Failed,
    FailedAndClaimed,
    Succeeded,
    WasPermanent,
    Deferred,
    DeferredAndClaimed,
    Cancelled,
    CancelledAndReactivated,
    Rescheduled,
    RescheduledAndClaimed,
    RescheduledToExhaustion,
}

const LOSSES: [Loss; 12] = [
    Loss::TakenOver,
    Loss::Failed,
    Loss::FailedAndClaimed,
    Loss::Succeeded,
    Loss::WasPermanent,
    Loss::Deferred,
    Loss::DeferredAndClaimed,
    Loss::Cancelled,
    Loss::CancelledAndReactivated,
    Loss::Rescheduled,
    Loss::RescheduledAndClaimed,
    Loss::RescheduledToExhaustion,
];

pub(super) async fn fences<H: Harness>(probe: &Probe<'_, H>) {
    for loss in LOSSES {
        probe.clear().await;
        let new = NewCycle { plan: probe.plan(INTERVAL, 5), ..probe.new_cycle() };
        // Not the first attempt, so that there is a count to spoil.
        let first = probe.claimed(&new).await;
        let _ = probe.recorded(&first, Verdict::Failure, "of a running attempt").await;
        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when the next attempt is due").await;
        let heir = lose(probe, &claim, loss).await;
        let now = probe.known(&new.key).await;
        for (old, whose) in
            [(&claim, "the claim that was lost"), (&first, "a claim before the one that was lost")]
        {
            all_stale(probe, old, &now, &format!("with {whose}, {loss:?}")).await;
        }
        if let Some(heir) = heir {
            probe.held(probe.extend_by(&heir, LEASE).await, "extend by the one who holds the cycle");
            let _ = probe.recorded(&heir, Verdict::Success, "by the one who holds the cycle").await;
        }
    }
    never_given_out(probe).await;
}

/// Takes the claim away, and says who has it then.
async fn lose<H: Harness>(probe: &Probe<'_, H>, claim: &Claimed, loss: Loss) -> Option<Claimed> {
    let key = &claim.cycle.key;
    let change = |max_attempts| Reschedule {
        plan: probe.plan(INTERVAL, max_attempts),
        next_in: INTERVAL,
        reactivate: true,
    };
    match loss {
        Loss::TakenOver => probe.advance(LEASE),
        Loss::Failed | Loss::FailedAndClaimed => {
            let _ = probe.recorded(claim, Verdict::Failure, "of a running attempt").await;
        }
        Loss::Succeeded => {
            let _ = probe.recorded(claim, Verdict::Success, "of a running attempt").await;
        }
        Loss::WasPermanent => {
            let _ = probe.recorded(claim, Verdict::Permanent, "of a running attempt").await;
        }
        Loss::Deferred | Loss::DeferredAndClaimed => {
            probe.held(probe.defer_by(claim, INTERVAL).await, "defer of a running attempt");
        }
        Loss::Cancelled | Loss::CancelledAndReactivated => {
            probe.cancelled(key, "of a cycle that is being attempted").await;
            if let Loss::CancelledAndReactivated = loss {
                probe.reactivated(key, &change(5), "of a cancelled cycle").await;
            }
        }
        Loss::Rescheduled | Loss::RescheduledAndClaimed => {
            probe.changed(key, &change(5), "of a cycle that is being attempted").await;
        }
        Loss::RescheduledToExhaustion => {
            probe.changed(key, &change(1), "of a cycle that is being attempted").await;
        }
    }
    match loss {
        Loss::TakenOver => Some(probe.claim(key, "when the lease is over").await),
        Loss::FailedAndClaimed | Loss::DeferredAndClaimed | Loss::RescheduledAndClaimed => {
            probe.advance(INTERVAL);
            Some(probe.claim(key, "when the next attempt is due").await)
        }
        _ => None,
    }
}

/// No verb does anything with this claim.
pub(super) async fn all_stale<H: Harness>(probe: &Probe<'_, H>, claim: &Claimed, cycle: &Cycle, when: &str) {
    let key = &cycle.key;
    let (attempts, wake) = (probe.attempts(key).await, probe.next_wake().await);
    for verb in VERBS {
        let stale = apply(probe, claim, verb).await;
        probe.ensure(stale, format_args!("{verb:?} {when} was not Stale"));
        probe.is(cycle, format_args!("after {verb:?} {when}")).await;
        probe.same(
            &probe.attempts(key).await,
            &attempts,
            format_args!("the list of attempts after {verb:?} {when}"),
        );
        probe.same(&probe.next_wake().await, &wake, format_args!("next_wake after {verb:?} {when}"));
    }
}

/// True when it was stale.
async fn apply<H: Harness>(probe: &Probe<'_, H>, claim: &Claimed, verb: Verb) -> bool {
    match verb {
        Verb::Extend(lease) => probe.extend_by(claim, lease).await == Fenced::Stale,
        Verb::Finish(verdict) => probe.finish(claim, verdict).await == Finished::Stale,
        Verb::FinishMany(verdict) => {
            let reports = vec![(claim.clone(), report(verdict))];
            probe.finish_many(reports).await == [Finished::Stale]
        }
        Verb::Defer(delay) => probe.defer_by(claim, delay).await == Fenced::Stale,
    }
}

async fn never_given_out<H: Harness>(probe: &Probe<'_, H>) {
    probe.clear().await;
    let new = probe.new_cycle();
    let idle = probe.schedule(&new).await;
    let unclaimed = Claimed::new(idle.clone(), new.payload.clone(), probe.now());
    all_stale(probe, &unclaimed, &idle, "with the epoch of a cycle that nobody claimed").await;

    let claim = probe.claim(&new.key, "of a new cycle").await;
    let epoch = claim.cycle.epoch;
    let others = [0, 1, 2, 3, epoch.wrapping_sub(1), epoch + 1, i64::MAX.unsigned_abs(), 1 << 63, u64::MAX];
    for other in others.into_iter().filter(|other| *other != epoch) {
        let forged = Claimed { cycle: Cycle { epoch: other, ..claim.cycle.clone() }, ..claim.clone() };
        all_stale(
            probe,
            &forged,
            &claim.cycle,
            &format!("with epoch {other}, while {epoch} is the current one"),
        )
        .await;
    }
    // The epoch of one cycle is no claim on another, known or not.
    let neighbour = NewCycle { first_in: MS, ..probe.new_cycle() };
    let neighbour = probe.schedule(&neighbour).await;
    let forged =
        Claimed { cycle: Cycle { key: neighbour.key.clone(), ..claim.cycle.clone() }, ..claim.clone() };
    all_stale(probe, &forged, &neighbour, "with another cycle's claim").await;
    let nobody = CycleKey::new("check", "nobody");
    let forged = Claimed { cycle: Cycle { key: nobody.clone(), ..claim.cycle.clone() }, ..claim.clone() };
    for verb in VERBS {
        probe.ensure(
            apply(probe, &forged, verb).await,
            format_args!("{verb:?} of an unknown cycle was not Stale"),
        );
        probe.same(&probe.get(&nobody).await, &None, "an unknown cycle after a verb on it");
    }
    let _ = probe.recorded(&claim, Verdict::Success, "by the one who holds the cycle").await;
}
