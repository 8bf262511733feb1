//! Leases and what comes after them: clauses 7, 8 and 16.

use super::Harness;
use super::probe::{Probe, checkpoint, response};
use crate::store::{ClaimRequest, Outcome};

pub(super) async fn takeover<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(4);
    probe.run(ask, "of an unknown record").await;
    for attempt in 2..=4 {
        probe.advance(3).await;
        // Whoever asks in vain does not keep the claim alive.
        probe.in_flight(probe.rival(ask), ask.lease, "one unit before the lease ends").await;
        probe.advance(1).await;
        let heir = ClaimRequest { lease: ask.lease, ..probe.rival(ask) };
        let run = probe.run(heir, "when the lease ended").await;
        probe.is_run(&run, attempt, true, None, "when the lease ended");
    }
}

pub(super) async fn extend<H: Harness>(probe: &Probe<'_, H>) {
    // From now, not from the end of the lease before: at the seventh unit, not at the eighth.
    let ask = probe.ask_for(4);
    let fence = probe.run(ask, "of an unknown record").await.fence;
    probe.advance(3).await;
    probe.held(
        probe.extend(ask.record, fence, probe.units(4)).await,
        "an extension by four units after three",
    );
    probe.in_flight(probe.rival(ask), probe.units(4), "after an extension by four units").await;
    probe.advance(3).await;
    probe.in_flight(probe.rival(ask), probe.units(1), "one unit before an extended lease ends").await;
    probe.advance(1).await;
    let heir = probe.run(probe.rival(ask), "when the extended lease ended").await;
    probe.is_run(&heir, 2, true, None, "when the extended lease ended");

    // Also to less than it was.
    probe.held(probe.extend(ask.record, heir.fence, probe.units(2)).await, "an extension to less");
    probe.in_flight(probe.rival(ask), probe.units(2), "after an extension to less").await;
    probe.advance(2).await;
    let heir = probe.run(probe.rival(ask), "when the shortened lease ended").await;

    // Many times, each from then.
    for _ in 0..3 {
        probe.held(probe.extend(ask.record, heir.fence, probe.units(2)).await, "an extension after another");
        probe.advance(1).await;
        probe.in_flight(probe.rival(ask), probe.units(1), "between two extensions").await;
    }

    // To nothing.
    probe.held(probe.extend(ask.record, heir.fence, probe.units(0)).await, "an extension by zero");
    let last = probe.run(probe.rival(ask), "at once after an extension by zero").await;
    probe.is_run(&last, heir.attempt + 1, true, None, "at once after an extension by zero");
}

pub(super) async fn late_but_first<H: Harness>(probe: &Probe<'_, H>) {
    let (answer, kept) = (response("late"), checkpoint("late"));
    let late = probe.orphans(5).await;
    let [complete, release, extend, checkpoint, several] = &late[..] else { return };

    let (ask, run) = complete;
    let held = probe.complete(ask.record, run.fence, &Outcome::Response(answer.clone())).await;
    probe.held(held, "a completion after the lease");
    probe.replays(probe.rival(*ask), &answer, "after a completion after the lease").await;

    let (ask, run) = release;
    probe.held(probe.release(ask.record, run.fence).await, "a release after the lease");
    probe.first(probe.rival(*ask), "after a release after the lease").await;

    let (ask, run) = extend;
    probe.held(probe.extend(ask.record, run.fence, probe.long()).await, "an extension after the lease");
    probe.in_flight(probe.rival(*ask), probe.long(), "after an extension after the lease").await;

    let (ask, run) = checkpoint;
    probe.held(probe.checkpoint(ask.record, run.fence, &kept).await, "a checkpoint after the lease");
    let heir = probe.run(probe.rival(*ask), "after a checkpoint after the lease").await;
    probe.is_run(&heir, 2, true, Some(&kept), "after a checkpoint after the lease");

    let (ask, run) = several;
    probe.held(probe.checkpoint(ask.record, run.fence, &kept).await, "a checkpoint after the lease");
    probe.held(probe.extend(ask.record, run.fence, probe.units(1)).await, "an extension after that");
    probe.advance(1).await;
    let held = probe.complete(ask.record, run.fence, &Outcome::Response(answer.clone())).await;
    probe.held(held, "a completion after the second lease");
    probe.replays(probe.rival(*ask), &answer, "after a completion after the second lease").await;
}
