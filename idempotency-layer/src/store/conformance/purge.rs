//! The optional trait `Purge`.

use super::Harness;
use super::probe::{Probe, response};
use crate::store::{ClaimRequest, Outcome, Purge, Tombstone};

/// The number of expired records in the check.
const EXPIRED: usize = 6;
/// The number of released records, which need no purge.
const RELEASED: usize = 60;
/// The limit of one purge.
const LIMIT: usize = 4;
/// The number of expired records beyond which the check gives up.
const ENDLESS: usize = 10_000;

/// Checks that [`Purge`] deletes expired records only, and at most as many as its limit, and that
/// `release` leaves no record to purge.
///
/// The store may hold other records. No other task may purge them during the check, and at most
/// fifty of them may expire.
///
/// # Panics
///
/// If the store does not, or if a verb fails.
pub async fn check_purge<H: Harness<Store: Purge>>(harness: &H) {
    let rule = "Purge. Drops at most limit expired records and says how many it dropped.";
    let probe = &Probe::new(rule, harness).await;
    let (done, reason) = (response("done"), Tombstone::Unreplayable);
    // Records of other tests.
    drain(probe).await;
    // Records that expire: two running, four complete.
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
    // Released records are deleted at once.
    for _ in 0..RELEASED {
        let ask = ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) };
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.release(ask.record, fence).await, "a release");
    }
    // Records that stay: two complete ones, one that runs beyond its time to live, and an orphan.
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

/// Purges all expired records and returns their number.
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
