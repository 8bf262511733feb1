//! Leases and takeovers: clauses 7, 8 and 16.

use super::Harness;
use super::probe::{Probe, checkpoint, response};
use crate::store::{ClaimRequest, Outcome};

pub(super) async fn takeover<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(4);
    let mut run = probe.run(ask, "of an unknown record").await;
    for _ in 0..3 {
        probe.advance(3).await;
        // A claim that is refused does not prolong the lease.
        probe.in_flight(probe.rival(ask), "one unit before the lease ends").await;
        probe.advance(1).await;
        run = probe
            .heir(&run, ClaimRequest { lease: ask.lease, ..probe.rival(ask) }, "when the lease ended")
            .await;
    }
    // The heir gets a full lease, even if it comes late.
    probe.advance(6).await;
    let late = ClaimRequest { lease: probe.units(2), ..probe.rival(ask) };
    run = probe.heir(&run, late, "two units after the lease ended").await;
    probe.advance(1).await;
    probe.in_flight(probe.rival(ask), "one unit before the lease of a late heir ends").await;
    probe.advance(1).await;
    probe.heir(&run, probe.rival(ask), "when the lease of a late heir ended").await;
}

pub(super) async fn extend<H: Harness>(probe: &Probe<'_, H>) {
    // The new lease counts from now, not from the end of the previous one: it ends at the seventh
    // unit, not the eighth.
    let ask = probe.ask_for(4);
    let fence = probe.run(ask, "of an unknown record").await.fence;
    probe.advance(3).await;
    probe.held(
        probe.extend(ask.record, fence, probe.units(4)).await,
        "an extension by four units after three",
    );
    in_flight_for(probe, ask, 4, "after an extension by four units").await;
    probe.advance(3).await;
    in_flight_for(probe, ask, 1, "one unit before an extended lease ends").await;
    probe.advance(1).await;
    let fence = probe.run(probe.rival(ask), "when the extended lease ended").await.fence;

    // A shorter lease.
    probe.held(probe.extend(ask.record, fence, probe.units(2)).await, "an extension to less");
    in_flight_for(probe, ask, 2, "after an extension to less").await;
    probe.advance(2).await;
    let fence = probe.run(probe.rival(ask), "when the shortened lease ended").await.fence;

    // Repeated, each counted from its call.
    for _ in 0..3 {
        probe.held(probe.extend(ask.record, fence, probe.units(2)).await, "an extension after another");
        probe.advance(1).await;
        in_flight_for(probe, ask, 1, "between two extensions").await;
    }

    // A lease of zero.
    probe.held(probe.extend(ask.record, fence, probe.units(0)).await, "an extension by zero");
    probe.run(probe.rival(ask), "at once after an extension by zero").await;
}

async fn in_flight_for<H: Harness>(probe: &Probe<'_, H>, ask: ClaimRequest, most: u32, when: &str) {
    let left = probe.in_flight(probe.rival(ask), when).await;
    let good = left <= probe.units(most);
    probe.ensure(good, format_args!("a claim {when} was told {left:?} are left, more than {most} units"));
}

pub(super) async fn late_but_first<H: Harness>(probe: &Probe<'_, H>) {
    let (answer, kept) = (response("late"), checkpoint("late"));
    let late = probe.orphans(5).await;
    let [complete, release, extend, checkpoint, several] = &late[..] else { unreachable!("five were asked") };

    let (ask, run) = complete;
    let held = probe.complete(ask.record, run.fence, &Outcome::Response(answer.clone())).await;
    probe.held(held, "a completion after the lease");
    probe.replays(probe.rival(*ask), &answer, "after a completion after the lease").await;

    let (ask, run) = release;
    probe.held(probe.release(ask.record, run.fence).await, "a release after the lease");
    let next = probe.run(probe.rival(*ask), "after a release after the lease").await;
    probe.ensure(
        !next.orphan,
        format_args!("a claim after a release after the lease was {next:?}, an orphan's heir"),
    );

    let (ask, run) = extend;
    probe.held(probe.extend(ask.record, run.fence, probe.long()).await, "an extension after the lease");
    probe.in_flight(probe.rival(*ask), "after an extension after the lease").await;

    let (ask, run) = checkpoint;
    probe.held(probe.checkpoint(ask.record, run.fence, &kept).await, "a checkpoint after the lease");
    let heir = probe.run(probe.rival(*ask), "after a checkpoint after the lease").await;
    let seen = heir.checkpoint;
    probe.ensure(seen == Some(kept.clone()), format_args!("a late checkpoint became {seen:?}"));

    let (ask, run) = several;
    probe.held(probe.checkpoint(ask.record, run.fence, &kept).await, "a checkpoint after the lease");
    probe.held(probe.extend(ask.record, run.fence, probe.units(1)).await, "an extension after that");
    probe.advance(1).await;
    let held = probe.complete(ask.record, run.fence, &Outcome::Response(answer.clone())).await;
    probe.held(held, "a completion after the second lease");
    probe.replays(probe.rival(*ask), &answer, "after a completion after the second lease").await;
}
