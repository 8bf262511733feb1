//! How long a claim holds: clauses 8, 9, 11 and 18.

use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, counts};
use crate::cycle::{Activity, Cycle, State, Verdict};
use crate::plan::Plan;

pub(super) async fn takeover<H: Harness>(probe: &Probe<'_, H>) {
    let new = probe.new_cycle();
    let mut claim = probe.claimed(&new).await;
    for lapses in 1..=3 {
        probe.advance(LEASE.saturating_sub(MS));
        probe.none_due("a millisecond before the lease is over").await;
        probe.is(&claim.cycle, "a millisecond before its lease is over").await;
        probe.advance(MS);
        let heir = probe.claim(&new.key, "when the lease is over").await;
        probe.ensure(
            heir.cycle.epoch > claim.cycle.epoch,
            format_args!(
                "the epoch was {} before a takeover, and {} after",
                claim.cycle.epoch, heir.cycle.epoch
            ),
        );
        probe.same(
            &counts(&heir.cycle),
            &(0, 0, lapses, 0),
            "what is counted of a cycle that was taken over",
        );
        probe.same(&heir.attempt_key(), &claim.attempt_key(), "the key of an attempt that was taken over");
        probe.same(&heir.payload, &new.payload, "the payload of a cycle that was taken over");
        probe.same(&heir.claimed_at, &probe.now(), "the time of a takeover");
        probe.is(&heir.cycle, "when it was taken over").await;
        claim = heir;
    }
    let cycle = probe.recorded(&claim, Verdict::Failure, "of an attempt that was taken over").await;
    probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted after an attempt that was taken over");
    // A lease that nobody looks at stays over.
    probe.advance(INTERVAL);
    probe.claim_for(&new.key, MS, "when the next attempt is due").await;
    probe.advance(Plan::MAX_DELAY);
    let heir = probe.claim(&new.key, "ten years after the lease was over").await;
    probe.same(&counts(&heir.cycle), &(1, 1, 1, 0), "what is counted ten years later");
}

pub(super) async fn extend<H: Harness>(probe: &Probe<'_, H>) {
    let until = |cycle: &Cycle, lease: Duration| {
        let until = probe.now() + lease;
        Cycle { state: State::Pending(Activity::Leased { until }), ..cycle.clone() }
    };
    for lease in [2 * LEASE, LEASE / 2, MS, Plan::MAX_DELAY, Duration::ZERO] {
        probe.clear().await;
        let new = probe.new_cycle();
        let claim = probe.claimed(&new).await;
        probe.advance(LEASE.saturating_sub(MS));
        // From now, whatever was left; and the last word counts.
        for extension in [3 * LEASE, lease] {
            probe.held(probe.extend_by(&claim, extension).await, "extend of a running attempt");
            probe
                .is(&until(&claim.cycle, extension), format_args!("when it was extended by {extension:?}"))
                .await;
        }
        if !lease.is_zero() {
            probe.advance(lease.saturating_sub(MS));
            probe.none_due(format_args!("a millisecond before a lease of {lease:?} is over")).await;
            probe.advance(MS);
        }
        let heir = probe.claim(&new.key, format_args!("when a lease of {lease:?} is over")).await;
        probe.same(&counts(&heir.cycle), &(0, 0, 1, 0), "what is counted of a cycle that was taken over");
    }
}

pub(super) async fn late_but_first<H: Harness>(probe: &Probe<'_, H>) {
    for late in [Duration::ZERO, INTERVAL] {
        probe.clear().await;
        let new = probe.new_cycle();
        let claim = probe.claimed(&new).await;
        probe.advance(LEASE + late);
        probe.held(probe.extend_by(&claim, LEASE).await, "extend by a late first");
        probe.none_due("when a late first extended").await;

        probe.advance(LEASE + late);
        let cycle = probe.recorded(&claim, Verdict::Failure, "by a late first").await;
        probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted when a late first failed");
        probe.is_idle(&cycle, probe.now() + INTERVAL, "when a late first failed");

        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when the next attempt is due").await;
        probe.advance(LEASE + late);
        probe.held(probe.defer_by(&claim, INTERVAL).await, "defer by a late first");
        probe.none_due("when a late first deferred").await;

        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when the next attempt is due").await;
        probe.advance(LEASE + late);
        let cycle = probe.recorded(&claim, Verdict::Success, "by a late first").await;
        probe.same(&counts(&cycle), &(2, 2, 0, 0), "what is counted when a late first succeeded");
    }
}

pub(super) async fn defer<H: Harness>(probe: &Probe<'_, H>) {
    for delay in [INTERVAL, MS, Duration::ZERO, Plan::MAX_DELAY] {
        probe.clear().await;
        let new = probe.new_cycle();
        let claim = probe.claimed(&new).await;
        let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        probe.advance(INTERVAL);
        probe.claim(&new.key, "when the next attempt is due").await;
        probe.advance(LEASE);
        let claim = probe.claim(&new.key, "when the lease is over").await;
        probe.advance(LEASE / 2);

        probe.held(probe.defer_by(&claim, delay).await, "defer of a running attempt");
        let state = State::Pending(Activity::Idle { due: probe.now() + delay });
        let given_back = Cycle { state, deferrals: claim.cycle.deferrals + 1, ..claim.cycle.clone() };
        probe.is(&given_back, format_args!("when it was deferred by {delay:?}")).await;
        probe.same(&probe.attempts(&new.key).await.len(), &1, "the number of attempts after defer");

        if !delay.is_zero() {
            probe.advance(delay.saturating_sub(MS));
            probe.none_due(format_args!("a millisecond before the end of a delay of {delay:?}")).await;
            probe.advance(MS);
        }
        let next = probe.claim(&new.key, format_args!("after a delay of {delay:?}")).await;
        probe.same(&counts(&next.cycle), &(1, 1, 1, 0), "what is counted when a cycle was deferred");
        probe.same(&next.attempt_key(), &claim.attempt_key(), "the key of an attempt that was deferred");
    }
}
