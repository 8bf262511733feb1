//! What is given away, and when: clauses 3, 4 and 23.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe};
use crate::claim::Claimed;
use crate::cycle::{Activity, Ending, NewCycle, State, Verdict};
use crate::plan::Plan;

pub(super) async fn due<H: Harness>(probe: &Probe<'_, H>) {
    probe.none_due("of a scheduler without cycles").await;
    let every_byte = (0..=u8::MAX).collect::<Bytes>();
    for (first_in, payload) in [(Duration::ZERO, every_byte), (MS, Bytes::new()), (INTERVAL, "ü".into())] {
        let new = NewCycle { first_in, payload, ..probe.new_cycle() };
        let cycle = probe.schedule(&new).await;
        if !first_in.is_zero() {
            probe.none_due("before the cycle is due").await;
            probe.advance(first_in.saturating_sub(MS));
            probe.none_due("a millisecond before the cycle is due").await;
            probe.advance(MS);
        }
        let lease = LEASE + first_in;
        let claim = probe.claim_for(&new.key, lease, "when the cycle is due").await;
        let until = probe.now() + lease;
        let wanted = State::Pending(Activity::Leased { until });
        probe.same(&claim.cycle.state, &wanted, "the state of a claimed cycle");
        probe.ensure(
            claim.cycle.epoch > cycle.epoch,
            format_args!("the epoch was {} before a claim, and {} after", cycle.epoch, claim.cycle.epoch),
        );
        let wanted =
            crate::Cycle { state: wanted, epoch: claim.cycle.epoch, nonce: claim.cycle.nonce, ..cycle };
        probe.same(&claim.cycle, &wanted, "a claimed cycle");
        probe.is(&claim.cycle, "when it was claimed").await;
        probe.same(&claim.payload, &new.payload, "the payload");
        probe.same(&claim.claimed_at, &probe.now(), "the time of the claim");
        probe.none_due("while the only cycle is leased").await;
        let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
    }
    // Ten years late is due, too.
    let new = probe.new_cycle();
    probe.schedule(&new).await;
    probe.advance(Plan::MAX_DELAY);
    probe.claim(&new.key, "ten years after the cycle was due").await;
}

pub(super) async fn order<H: Harness>(probe: &Probe<'_, H>) {
    // Idle ones in no order, and one whose lease runs out at once: it is due from when it was due, or from the end of the
    // lease, and both are first here.
    let mut keys = Vec::new();
    let new = probe.new_cycle();
    probe.schedule(&new).await;
    probe.claim_for(&new.key, Duration::ZERO, "of a new cycle").await;
    keys.push((0, new.key));
    for place in [8_u32, 15, 1, 12, 7, 5, 2, 14, 4, 11, 10, 3, 9, 13, 6] {
        let new = NewCycle { first_in: place * MS, ..probe.new_cycle() };
        probe.schedule(&new).await;
        keys.push((place, new.key));
    }
    keys.sort_unstable();
    probe.advance(12 * MS);
    // Up to the limit, and up to now.
    for (from, limit, wanted) in [(0, 1, 1), (1, 5, 5), (6, 0, 0), (6, 4, 4), (10, 100, 3), (13, 9, 0)] {
        let claims = probe.claims(limit, LEASE).await;
        let longest = keys[from..from + wanted].iter().map(|(_, key)| key.clone()).collect();
        same_keys(probe, &claims, &longest, &format!("with a limit of {limit}"));
    }
    probe.advance(3 * MS);
    let claims = probe.claims(usize::MAX, LEASE).await;
    let rest = keys[13..].iter().map(|(_, key)| key.clone()).collect();
    same_keys(probe, &claims, &rest, "of the rest, without a limit");

    // A lease of zero is over at once: claimed again by the next call, not by the same.
    probe.clear().await;
    let new = probe.new_cycle();
    probe.schedule(&new).await;
    for call in 0..3 {
        let claim =
            probe.claim_for(&new.key, Duration::ZERO, format_args!("with a lease of zero, {call}")).await;
        probe.same(&claim.cycle.lapses, &call, "the number of lapses after leases of zero");
    }
}

fn same_keys<H: Harness>(
    probe: &Probe<'_, H>,
    claims: &[Claimed],
    wanted: &BTreeSet<crate::CycleKey>,
    what: &str,
) {
    let keys: BTreeSet<_> = claims.iter().map(|claim| claim.cycle.key.clone()).collect();
    probe.same(&keys, wanted, format_args!("the answer to claim_due {what}"));
    probe.same(&claims.len(), &wanted.len(), format_args!("the length of the answer to claim_due {what}"));
}

pub(super) async fn next_wake<H: Harness>(probe: &Probe<'_, H>) {
    let is = |wanted: Option<Duration>, when: &'static str| async move {
        probe.same(&probe.next_wake().await, &wanted, format_args!("next_wake {when}"));
    };
    is(None, "without cycles").await;
    for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled] {
        probe.ended(ending).await;
    }
    is(None, "when all cycles have ended").await;

    let late = NewCycle { first_in: Plan::MAX_DELAY, ..probe.new_cycle() };
    probe.schedule(&late).await;
    is(Some(Plan::MAX_DELAY), "when a cycle is due in ten years").await;
    let soon = NewCycle { first_in: INTERVAL, ..probe.new_cycle() };
    probe.schedule(&soon).await;
    is(Some(INTERVAL), "when another is due before").await;
    probe.advance(INTERVAL.saturating_sub(MS));
    is(Some(MS), "a millisecond before").await;
    probe.advance(MS);
    is(Some(Duration::ZERO), "when one is due").await;
    probe.advance(INTERVAL);
    is(Some(Duration::ZERO), "when one was due long ago").await;

    let claim = probe.claim(&soon.key, "when it is due").await;
    is(Some(LEASE), "when a cycle is leased").await;
    probe.held(probe.extend_by(&claim, 2 * LEASE).await, "extend of a running attempt");
    is(Some(2 * LEASE), "when its lease was extended").await;
    probe.advance(2 * LEASE);
    is(Some(Duration::ZERO), "when its lease is over").await;
    let claim = probe.claim(&soon.key, "when its lease is over").await;
    let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
    is(Some(INTERVAL), "after a failure").await;
    probe.cancelled(&soon.key, "of an idle cycle").await;
    is(Some(Plan::MAX_DELAY.saturating_sub(2 * INTERVAL + 2 * LEASE)), "when it was cancelled").await;
    probe.cancelled(&late.key, "of an idle cycle").await;
    is(None, "when the last was cancelled").await;
}
