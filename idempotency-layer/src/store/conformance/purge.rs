//! The optional trait: expired records go when they are told to.

use super::Harness;
use super::probe::{Probe, response};
use crate::store::{ClaimRequest, Outcome, Purge, Tombstone};

/// Expired records of the check.
const EXPIRED: usize = 6;
/// Records that are released, of which nothing is left to drop.
const RELEASED: usize = 60;
/// As many are dropped at a time.
const LIMIT: usize = 4;
/// A store with more expired records than this check has time for.
const ENDLESS: usize = 10_000;

/// Checks that [`Purge`] drops expired records, no others, and no more than it is told to, and that `release` leaves no
/// record behind that it would have to drop.
///
/// The store may hold other records, but nobody else may purge them at the same time, and no more than fifty of them may
/// expire during the check.
///
/// # Panics
///
/// When it does not, and when a verb fails.
pub async fn check_purge<H: Harness<Store: Purge>>(harness: &H) {
    let rule = "Purge. Drops at most limit expired records and says how many it dropped.";
    let probe = &Probe::new(rule, harness).await;
    let (done, reason) = (response("done"), Tombstone::Unreplayable);
    // What others left.
    drain(probe).await;
    // First what expires: two left running, four finished.
    let mut expired = Vec::new();
    for n in 0..EXPIRED {
        let ask = ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) };
        let fence = probe.run(ask, "of an unknown record").await.fence;
        let outcome = if n % 2 == 0 { Outcome::Response(done.clone()) } else { Outcome::Tombstone(reason) };
        if n > 1 {
            probe.held(probe.complete(ask.record, fence, &outcome).await, "a completion");
        }
        expired.push((ask, fence));
    }
    // What is released goes at once.
    for _ in 0..RELEASED {
        let ask = ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) };
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.release(ask.record, fence).await, "a release");
    }
    // Then what does not: finished in two ways, running past its time to live, and an orphan.
    let [replayed, buried] = [probe.ask(), probe.ask()];
    for (ask, outcome) in [(replayed, Outcome::Response(done.clone())), (buried, Outcome::Tombstone(reason))]
    {
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.complete(ask.record, fence, &outcome).await, "a completion");
    }
    let running = ClaimRequest { ttl: probe.units(1), ..probe.ask() };
    let fence = probe.run(running, "of an unknown record").await.fence;
    let orphan = probe.ask_for(1);
    let run = probe.run(orphan, "of an unknown record").await;
    probe.advance(1).await;

    let none = probe.unfailing(probe.handle().purge_expired(0).await, "a purge of none");
    probe.ensure(none == 0, format_args!("a purge of at most 0 dropped {none}"));
    let dropped = drain(probe).await;
    probe.ensure(
        dropped >= EXPIRED,
        format_args!("{dropped} records were dropped, though {EXPIRED} had expired"),
    );
    probe.ensure(
        dropped < EXPIRED + RELEASED,
        format_args!("{dropped} records were dropped: the {RELEASED} that were released had left something"),
    );

    let when = "after a purge";
    probe.replays(probe.rival(replayed), &done, when).await;
    probe.buried(probe.rival(buried), reason, when).await;
    probe.in_flight(probe.rival(running), "of a claim whose lease holds, after a purge").await;
    let held = probe.complete(running.record, fence, &Outcome::Response(done)).await;
    probe.held(held, "the completion of a claim whose lease held during a purge");
    probe.heir(&run, probe.rival(orphan), "of an orphan, after a purge").await;
    for (ask, fence) in expired {
        let run = probe.first(probe.stranger(ask), "of a record that was dropped").await;
        let grown = run.fence > fence;
        probe.ensure(
            grown,
            format_args!("the fence of a dropped record went from {fence:?} to {:?}", run.fence),
        );
    }
}

/// Drops all there is to drop, and counts it.
async fn drain<H: Harness<Store: Purge>>(probe: &Probe<'_, H>) -> usize {
    let mut dropped = 0;
    loop {
        let now = probe.unfailing(probe.handle().purge_expired(LIMIT).await, "a purge");
        probe.ensure(now <= LIMIT, format_args!("a purge of at most {LIMIT} dropped {now}"));
        if now == 0 {
            return dropped;
        }
        dropped += now;
        probe.ensure(dropped < ENDLESS, format_args!("after {ENDLESS} records there are still more to drop"));
    }
}
