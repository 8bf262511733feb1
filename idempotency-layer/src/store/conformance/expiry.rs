//! Expiry: clause 10.
//!
//! The contract leaves one choice to the store: the answer to a late verb on an expired record that
//! was not claimed since. Both answers are accepted if later answers agree.

use std::time::Duration;

use super::Harness;
use super::probe::{Probe, Verb, checkpoint, response};
use crate::store::{ClaimRequest, Fence, Fenced, Outcome, Tombstone};

/// A time that overflows 32 bits of milliseconds, and ten years.
const LIVES: [Duration; 2] = [Duration::from_millis(1 << 32), Duration::from_secs(10 * 365 * 24 * 60 * 60)];

pub(super) async fn expiry<H: Harness>(probe: &Probe<'_, H>) {
    finished(probe).await;
    left_running(probe).await;
    held_past_its_time(probe).await;
    claimed_anew(probe).await;
    late(probe).await;
}

/// `ttl` counts from the first claim, not from the completion or the latest claim.
async fn finished<H: Harness>(probe: &Probe<'_, H>) {
    let (answer, kept) = (response("done"), checkpoint("kept"));
    let done = Outcome::Response(answer.clone());
    let mut long_lived = Vec::new();
    for ttl in LIVES {
        let ask = ClaimRequest { ttl, ..probe.ask() };
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.complete(ask.record, fence, &done).await, "a completion");
        long_lived.push(ask);
    }
    let mut asked = Vec::new();
    for outcome in [done.clone(), Outcome::Tombstone(Tombstone::Unknown), done] {
        let ask = ClaimRequest { ttl: probe.units(6), ..probe.ask() };
        asked.push((ask, outcome, probe.run(ask, "of an unknown record").await.fence));
    }
    probe.advance(2).await;
    for (ask, outcome, fence) in &asked {
        probe.held(probe.checkpoint(ask.record, *fence, &kept).await, "a checkpoint");
        probe.held(probe.complete(ask.record, *fence, outcome).await, "a completion");
    }
    probe.advance(3).await;
    for (ask, outcome, _) in &asked {
        for _ in 0..3 {
            let again = ClaimRequest { ttl: probe.long(), ..probe.rival(*ask) };
            let when = "before the time to live was over";
            match outcome {
                Outcome::Response(answer) => probe.replays(again, answer, when).await,
                Outcome::Tombstone(reason) => probe.buried(again, *reason, when).await,
            }
        }
    }
    probe.advance(1).await;
    let [(replayed, _, before), (buried, _, reason_before), (same, ..)] = &asked[..] else {
        unreachable!("three were asked")
    };
    forgotten(probe, *replayed, *before, "when the time to live of a response was over").await;
    forgotten(probe, *buried, *reason_before, "when the time to live of a tombstone was over").await;
    probe
        .first(probe.rival(*same), "by the same request, when the time to live of its response was over")
        .await;
    for _ in 0..3 {
        probe.in_flight(probe.rival(*same), "beside one of a forgotten record").await;
    }
    for ask in long_lived {
        probe.replays(probe.rival(ask), &answer, format_args!("of a record that lives {:?}", ask.ttl)).await;
    }
}

/// Orphaned, taken over, or released with a checkpoint: after `ttl` the record is forgotten.
async fn left_running<H: Harness>(probe: &Probe<'_, H>) {
    let ask = || ClaimRequest { ttl: probe.units(6), ..probe.ask_for(1) };
    let kept = checkpoint("kept");
    let [orphan, inherited, released] = [ask(), ask(), ask()];
    let mut fences = Vec::new();
    for ask in [orphan, inherited, released] {
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
        fences.push(fence);
    }
    probe.held(probe.release(released.record, fences[2]).await, "a release");
    probe.advance(2).await;
    // An heir's own time to live does not count: the record was first claimed before.
    let heir = ClaimRequest { ttl: probe.long(), lease: probe.units(3), ..probe.rival(inherited) };
    fences[1] = probe.run(heir, "of an orphan").await.fence;
    probe.advance(3).await;
    let stranger = probe.stranger(released);
    probe.mismatch(stranger, "by another request, before the time to live was over").await;
    probe.advance(1).await;
    forgotten(probe, orphan, fences[0], "when the time to live of an orphan was over").await;
    forgotten(probe, inherited, fences[1], "when the time to live of a record twice orphaned was over").await;
    forgotten(probe, released, fences[2], "when the time to live of a released record was over").await;
}

async fn held_past_its_time<H: Harness>(probe: &Probe<'_, H>) {
    let [lapsing, renewed] = [8, 4].map(|lease| ClaimRequest { ttl: probe.units(3), ..probe.ask_for(lease) });
    let lapsed = probe.run(lapsing, "of an unknown record").await.fence;
    let fence = probe.run(renewed, "of an unknown record").await.fence;
    probe.advance(3).await;
    for (ask, what) in [(lapsing, "a lease"), (renewed, "another lease")] {
        let when = format_args!("past the time to live, while {what} held").to_string();
        probe.in_flight(probe.rival(ask), &when).await;
        probe.mismatch(probe.stranger(ask), &when).await;
    }
    probe.held(
        probe.extend(renewed.record, fence, probe.units(4)).await,
        "an extension past the time to live",
    );
    probe.advance(3).await;
    probe.in_flight(probe.rival(renewed), "past the time to live, while an extension held").await;
    probe.in_flight(probe.rival(lapsing), "past the time to live, while a lease held").await;
    let done = probe.complete(renewed.record, fence, &Outcome::Response(response("done"))).await;
    probe.held(done, "a completion past the time to live, while the lease held");
    probe.advance(2).await;
    // The next claim is not an heir, because the record is forgotten.
    forgotten(probe, lapsing, lapsed, "when lease and time to live were over").await;
    forgotten(probe, renewed, fence, "when lease and time to live of a completed record were over").await;
}

/// After a record was forgotten, by its release or its expiry, the next record has its own time to
/// live.
async fn claimed_anew<H: Harness>(probe: &Probe<'_, H>) {
    let [released, expired] =
        [(6, 4), (2, 1)].map(|(ttl, lease)| ClaimRequest { ttl: probe.units(ttl), ..probe.ask_for(lease) });
    let fence = probe.run(released, "of an unknown record").await.fence;
    probe.run(expired, "of an unknown record").await;
    probe.advance(2).await;
    probe.held(probe.release(released.record, fence).await, "a release");
    let done = response("done");
    let anew = [released, expired].map(|ask| ClaimRequest { ttl: probe.units(6), ..probe.stranger(ask) });
    for ask in anew {
        let run = probe.first(ask, "of a forgotten record").await;
        probe.held(
            probe.complete(ask.record, run.fence, &Outcome::Response(done.clone())).await,
            "a completion",
        );
    }
    probe.advance(5).await;
    for ask in anew {
        probe.replays(probe.rival(ask), &done, "before the second time to live was over").await;
    }
    probe.advance(1).await;
    for ask in anew {
        probe.first(probe.rival(ask), "when the second time to live was over").await;
    }
}

/// The record has expired, the lease has ended, and the owner comes back before another claim.
async fn late<H: Harness>(probe: &Probe<'_, H>) {
    let asked = Verb::ALL.map(|verb| (verb, ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) }));
    let mut fences = Vec::new();
    for (_, ask) in asked {
        fences.push(probe.run(ask, "of an unknown record").await.fence);
    }
    probe.advance(1).await;
    for ((verb, ask), fence) in asked.into_iter().zip(fences) {
        let when = format!("when lease and time to live were over and {verb:?} came late");
        if probe.apply(verb, ask.record, fence).await == Fenced::Held && verb == Verb::Extend {
            probe.in_flight(probe.rival(ask), &when).await;
        } else {
            forgotten(probe, ask, fence, &when).await;
        }
    }
}

/// Ensures that the next claim is a first one, with any fingerprint, and that its fence has grown.
async fn forgotten<H: Harness>(probe: &Probe<'_, H>, ask: ClaimRequest, before: Fence, when: &str) {
    let run = probe.first(probe.stranger(ask), when).await;
    probe.ensure(run.fence > before, format_args!("a claim {when} got {:?} after {before:?}", run.fence));
}
