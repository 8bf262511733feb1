//! What the caller and the plan make of a cycle: clauses 15, 19, 21 and 22.

use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, counts};
use crate::cycle::{EndReason, Ending, NewCycle, Reschedule, Verdict};
use crate::plan::Plan;
use crate::scheduler::{Cancelled, Finished, Rescheduled};

const ENDINGS: [Ending; 3] = [Ending::Resolved, Ending::Exhausted, Ending::Cancelled];

pub(super) async fn last_start<H: Harness>(probe: &Probe<'_, H>) {
    let until = |from_now: Duration| probe.plan(INTERVAL, 9).deadline(probe.now() + from_now);

    // Scheduled: due at the last moment, and one too late.
    let new = NewCycle { plan: until(INTERVAL), first_in: INTERVAL, ..probe.new_cycle() };
    probe.is_idle(&probe.schedule(&new).await, probe.now() + INTERVAL, "when it is due at its last start");
    let late = NewCycle { plan: until(INTERVAL), first_in: INTERVAL + MS, ..probe.new_cycle() };
    let cycle = probe.schedule(&late).await;
    probe.is_ended(&cycle, EndReason::TooLate, "when it was scheduled after its last start");
    probe.is(&cycle, "when it was scheduled after its last start").await;
    probe.advance(INTERVAL);
    let claim = probe.claim(&new.key, "at the last start").await;

    // Finished: an attempt that runs on past the last start counts, and is the last one.
    probe.advance(LEASE / 2);
    probe.held(probe.extend_by(&claim, LEASE).await, "extend after the last start");
    let cycle = probe.recorded(&claim, Verdict::Failure, "after the last start").await;
    probe.is_ended(&cycle, EndReason::TooLate, "when it failed after its last start");
    probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted when it failed after its last start");
    for (room, ends) in [(INTERVAL, false), (INTERVAL.saturating_sub(MS), true)] {
        let new = NewCycle { plan: until(room), ..probe.new_cycle() };
        let claim = probe.claimed(&new).await;
        let cycle = probe.recorded(&claim, Verdict::Failure, "before the last start").await;
        let when =
            format!("when it failed {room:?} before its last start, with {INTERVAL:?} between attempts");
        if ends {
            probe.is_ended(&cycle, EndReason::TooLate, &when);
        } else {
            probe.is_idle(&cycle, probe.now() + INTERVAL, &when);
        }
    }
    probe.clear().await;
    let new = NewCycle { plan: until(MS), ..probe.new_cycle() };
    let claim = probe.claimed(&new).await;
    probe.advance(INTERVAL);
    let cycle = probe.recorded(&claim, Verdict::Success, "after the last start").await;
    probe.is_ended(&cycle, EndReason::Succeeded, "when it succeeded after its last start");

    missed(probe).await;

    // Rescheduled, and begun anew.
    for (next_in, ends) in [(INTERVAL, false), (INTERVAL + MS, true)] {
        let new = probe.new_cycle();
        probe.schedule(&new).await;
        let change = Reschedule { plan: until(INTERVAL), next_in, reactivate: true };
        let changed = probe.changed(&new.key, &change, "of an idle cycle").await;
        let ended = probe.ended(Ending::Exhausted).await;
        let reactivated = probe.reactivated(&ended.key, &change, "of an exhausted cycle").await;
        for cycle in [changed, reactivated] {
            if ends {
                probe.is_ended(&cycle, EndReason::TooLate, "when it was rescheduled after its last start");
            } else {
                probe.is_idle(&cycle, probe.now() + INTERVAL, "when it was rescheduled to its last start");
            }
        }
        probe.clear().await;
    }
}

/// Nobody came in time: idle ones, and one whose lease ran out. Those in time are given all the same.
async fn missed<H: Harness>(probe: &Probe<'_, H>) {
    probe.clear().await;
    let until = probe.plan(INTERVAL, 9).deadline(probe.now() + INTERVAL);
    let crashed = NewCycle { plan: until.clone(), ..probe.new_cycle() };
    let claim = probe.claimed(&crashed).await;
    let mut keys = vec![crashed.key.clone()];
    for _ in 0..5 {
        let new = NewCycle { plan: until.clone(), ..probe.new_cycle() };
        probe.schedule(&new).await;
        keys.push(new.key);
    }
    let in_time = NewCycle { first_in: INTERVAL, ..probe.new_cycle() };
    probe.schedule(&in_time).await;
    probe.advance(INTERVAL + MS);
    let mut given = Vec::new();
    for _ in 0..10 {
        given.extend(probe.claims(2, LEASE).await);
    }
    let given: Vec<_> = given.into_iter().map(|claim| claim.cycle.key).collect();
    probe.same(
        &given,
        &vec![in_time.key],
        "what is given of seven due cycles, six of them after their last start,",
    );
    for key in &keys {
        probe.is_ended(&probe.known(key).await, EndReason::TooLate, "when its last start was missed");
        probe.same(
            &probe.attempts(key).await,
            &Vec::new(),
            "the list of attempts when the last start was missed",
        );
    }
    let late = probe.finish(&claim, Verdict::Success).await;
    probe.same(&late, &Finished::Stale, "the report on a cycle that is exhausted by then");
}

pub(super) async fn cancel<H: Harness>(probe: &Probe<'_, H>) {
    probe.same(
        &probe.cancel(&probe.new_cycle().key).await,
        &Cancelled::Unknown,
        "cancel of an unknown cycle",
    );

    let idle = NewCycle { first_in: INTERVAL, ..probe.new_cycle() };
    probe.schedule(&idle).await;
    let leased = probe.new_cycle();
    let claim = probe.claimed(&leased).await;
    let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
    probe.advance(INTERVAL);
    let claims = probe.all_due().await;
    let claim = claims.iter().find(|claim| claim.cycle.key == leased.key);
    let Some(claim) = claim else { probe.fail("a due cycle was not given") };
    let other = claims.iter().find(|claim| claim.cycle.key == idle.key);
    let Some(other) = other else { probe.fail("a due cycle was not given") };
    probe.held(probe.defer_by(other, Duration::ZERO).await, "defer of a running attempt");

    let attempts = probe.attempts(&leased.key).await;
    for (key, counted) in [(&idle.key, (0, 0, 0, 0)), (&leased.key, (1, 1, 0, 0))] {
        let cycle = probe.cancelled(key, "of a pending cycle").await;
        probe.is_ended(&cycle, EndReason::Cancelled, "when it was cancelled");
        probe.same(&counts(&cycle), &counted, "what is counted of a cancelled cycle");
    }
    // Whatever the attempt found: it is over.
    let cycle = probe.known(&leased.key).await;
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Permanent] {
        let late = probe.finish(claim, verdict).await;
        probe.same(&late, &Finished::Stale, "the report on a cancelled cycle");
    }
    probe.advance(LEASE + INTERVAL);
    probe.none_due("when all cycles are cancelled").await;
    probe.is(&cycle, "long after it was cancelled").await;
    probe.same(&probe.attempts(&leased.key).await, &attempts, "the list of attempts of a cancelled cycle");

    for ending in ENDINGS {
        let cycle = probe.ended(ending).await;
        probe.advance(MS);
        let answer = probe.cancel(&cycle.key).await;
        probe.same(&answer, &Cancelled::Ended(ending), format_args!("cancel of a cycle that is {ending}"));
        probe.is(&cycle, "after cancel of what had ended").await;
    }
}

pub(super) async fn reschedule<H: Harness>(probe: &Probe<'_, H>) {
    let change = |delay, max_attempts, next_in| Reschedule {
        plan: probe.plan(delay, max_attempts),
        next_in,
        reactivate: false,
    };
    let answer = probe.reschedule(&probe.new_cycle().key, &change(MS, 1, MS)).await;
    probe.same(&answer, &Rescheduled::Unknown, "reschedule of an unknown cycle");

    for leased in [false, true] {
        for (next_in, reactivate) in [(Duration::ZERO, false), (INTERVAL, true), (Plan::MAX_DELAY, false)] {
            probe.clear().await;
            let new = probe.new_cycle();
            let claim = probe.claimed(&new).await;
            let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.advance(INTERVAL);
            let mut before = probe.claim(&new.key, "when the next attempt is due").await.cycle;
            probe.advance(LEASE);
            let heir = probe.claim(&new.key, "when the lease is over").await;
            if leased {
                before = heir.cycle;
            } else {
                probe.held(probe.defer_by(&heir, INTERVAL).await, "defer of a running attempt");
            }
            let change = Reschedule { reactivate, ..change(2 * INTERVAL, 5, next_in) };
            let cycle = probe.changed(&new.key, &change, "of a pending cycle").await;
            probe.is_idle(&cycle, probe.now() + next_in, "when it was rescheduled");
            probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted when it was rescheduled");
            probe.same(&cycle.plan, &change.plan, "the plan when it was rescheduled");
            probe.ensure(
                cycle.epoch > before.epoch,
                format_args!("the epoch was {} before reschedule, and {} after", before.epoch, cycle.epoch),
            );
            if !next_in.is_zero() {
                probe.none_due("when it was put off").await;
            }
            probe.advance(next_in);
            let claim = probe.claim(&new.key, "when it is due by the new plan").await;
            probe.same(&claim.attempt(), &2, "the number of the attempt when it was rescheduled");
            probe.same(&claim.payload, &new.payload, "the payload when it was rescheduled");
            let cycle = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.is_idle(&cycle, probe.now() + 2 * INTERVAL, "after a failure by the new plan");
        }
    }
    // As many attempts as were made already, or fewer: there is none left.
    for max_attempts in [1, 2, 3] {
        probe.clear().await;
        let new = probe.new_cycle();
        let claim = probe.claimed(&new).await;
        let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when the next attempt is due").await;
        let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        let cycle = probe.changed(&new.key, &change(MS, max_attempts, INTERVAL), "of an idle cycle").await;
        if max_attempts > 2 {
            probe.is_idle(&cycle, probe.now() + INTERVAL, "while the new plan has an attempt left");
        } else {
            probe.is_ended(&cycle, EndReason::AttemptsUsedUp, "when the new plan has no attempt left");
        }
        probe.same(&counts(&cycle), &(2, 2, 0, 0), "what is counted when it was rescheduled");
    }
}

pub(super) async fn reactivation<H: Harness>(probe: &Probe<'_, H>) {
    for ending in ENDINGS {
        for reactivate in [false, true] {
            if reactivate && ending != Ending::Resolved {
                continue;
            }
            let cycle = probe.ended(ending).await;
            let change = Reschedule { plan: probe.plan(MS, 9), next_in: Duration::ZERO, reactivate };
            let answer = probe.reschedule(&cycle.key, &change).await;
            let what = format!("reschedule of a cycle that is {ending}, with reactivate {reactivate}");
            probe.same(&answer, &Rescheduled::Ended(ending), what);
            probe.is(&cycle, "after reschedule of what had ended").await;
            probe.none_due("after reschedule of what had ended").await;
        }
    }
    for ending in [Ending::Exhausted, Ending::Cancelled] {
        probe.clear().await;
        let mut ended = probe.ended(ending).await;
        let attempts = ended.attempts;
        for times in 1..=2 {
            let change = Reschedule {
                plan: probe.delays([2 * INTERVAL, INTERVAL], 2),
                next_in: INTERVAL,
                reactivate: true,
            };
            probe.note(&ended.key);
            let cycle = probe.reactivated(&ended.key, &change, "of what had ended").await;
            probe.is_idle(&cycle, probe.now() + INTERVAL, "when it begins anew");
            let made = attempts + 2 * (times - 1);
            probe.same(&counts(&cycle), &(made, 0, 0, times), "what is counted when it begins anew");
            probe.ensure(
                cycle.epoch > ended.epoch,
                format_args!("the epoch was {} before reactivation, and {} after", ended.epoch, cycle.epoch),
            );
            // The whole of the new plan, from its first delay on.
            probe.advance(INTERVAL);
            let claim = probe.claim(&cycle.key, "when it is due again").await;
            probe.same(&claim.attempt(), &(made + 1), "the number of the attempt when it began anew");
            let cycle = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.is_idle(&cycle, probe.now() + 2 * INTERVAL, "after the first attempt of the new plan");
            probe.advance(2 * INTERVAL);
            let claim = probe.claim(&cycle.key, "when it is due again").await;
            ended = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.is_ended(&ended, EndReason::AttemptsUsedUp, "after the last attempt of the new plan");
        }
    }
}
