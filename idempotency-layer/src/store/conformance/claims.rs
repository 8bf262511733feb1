//! The right to run: clauses 1, 2, 9 and 11.

use std::sync::Arc;
use std::time::Duration;

use super::Harness;
use super::probe::{Probe, checkpoint, fingerprint, response};
use crate::store::{Claim, ClaimRequest, Fenced, Outcome, Run, Store};

/// The number of tasks in a race of claims.
const RACERS: usize = 64;
/// The number of claims in a race with another verb, which finishes sooner.
const FEW: usize = 8;

pub(super) async fn first_claim<H: Harness>(probe: &Probe<'_, H>) {
    for scheme in 0..8 {
        let ask = ClaimRequest { fingerprint: fingerprint(scheme, scheme), ..probe.ask_for(1) };
        probe.first(ask, "of an unknown record").await;
    }
}

pub(super) async fn one_runner<H: Harness>(probe: &Probe<'_, H>) {
    let within = |left: Duration, most: Duration, when: &str| {
        let good = !left.is_zero() && left <= most;
        probe.ensure(
            good,
            format_args!("a claim in flight {when} was told {left:?}, not from more than zero to {most:?}"),
        );
    };
    // A claim with a longer lease sees the rest of the owner's lease.
    let ask = probe.ask_for(5);
    probe.run(ask, "of an unknown record").await;
    let left = probe.in_flight(probe.rival(ask), "beside a running one").await;
    within(left, ask.lease, "at once");
    probe.advance(2).await;
    let left = probe.in_flight(probe.rival(ask), "beside a running one").await;
    within(left, probe.units(3), "when two fifths of the lease were over");

    for round in 0..probe.rounds() {
        let ask = probe.ask();
        let (winner, left) = probe.one_of(ask, RACERS, "of an unknown record").await;
        for left in left {
            within(left, ask.lease, "in a race");
        }
        let outcome = Outcome::Response(response("the winner's"));
        probe.held(
            probe.complete(ask.record, winner.fence, &outcome).await,
            "the completion by the one runner",
        );
        the_owner_ends_it_once(probe, round).await;
    }
}

/// While the owner completes, releases or extends, no second run begins beside it.
async fn the_owner_ends_it_once<H: Harness>(probe: &Probe<'_, H>, round: usize) {
    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    let outcome = Outcome::Response(response("done"));
    let complete = |store: Arc<H::Store>| {
        let outcome = outcome.clone();
        async move { store.complete(ask.record, fence, outcome).await }
    };
    let (_, claims) = probe.race_against(ask, FEW, round, complete).await;
    for claim in claims {
        let good = matches!(claim, Claim::InFlight { .. } | Claim::Replay { .. });
        probe.ensure(
            good,
            format_args!("a claim while the owner completed was {claim:?}, not InFlight or Replay"),
        );
    }

    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    let extend = |store: Arc<H::Store>| async move { store.extend(ask.record, fence, ask.lease).await };
    let (_, claims) = probe.race_against(ask, FEW, round, extend).await;
    for claim in claims {
        let good = matches!(claim, Claim::InFlight { .. });
        probe.ensure(good, format_args!("a claim while the owner extended was {claim:?}, not InFlight"));
    }
    let release = |store: Arc<H::Store>| async move { store.release(ask.record, fence).await };
    let (_, mut claims) = probe.race_against(ask, FEW, round, release).await;
    // All claims of the race may have come before the release. This one comes after it.
    claims.push(probe.claim(probe.rival(ask)).await);
    let runs = claims.iter().filter(|claim| matches!(claim, Claim::Run(_))).count();
    probe.ensure(
        runs == 1,
        format_args!("of the claims while and after the owner released, {runs} were Run: {claims:?}"),
    );
}

pub(super) async fn one_heir<H: Harness>(probe: &Probe<'_, H>) {
    for (ask, _) in probe.orphans(probe.rounds()).await {
        let (heir, _) = probe.one_of(ask, RACERS, "of an orphan").await;
        let outcome = Outcome::Response(response("the heir's"));
        probe.held(probe.complete(ask.record, heir.fence, &outcome).await, "the completion by the one heir");
    }
}

pub(super) async fn lost_acknowledgement<H: Harness>(probe: &Probe<'_, H>) {
    of_a_first_claim(probe).await;
    of_a_takeover(probe).await;
    after_the_lease(probe).await;
    of_a_claim_that_ended(probe).await;
    for _ in 0..probe.rounds() {
        // The first try may not have arrived when the second is made.
        let ask = probe.ask();
        let claims = probe.race(FEW, |_, store| async move { store.claim(ask).await });
        let mut runs: Vec<Run> = Vec::new();
        for claim in claims.await {
            let Claim::Run(run) = claim else { probe.not("Run", &claim, "repeated at once with its token") };
            is_the_same(probe, &run, runs.last().unwrap_or(&run), "at once");
            runs.push(run);
        }
    }
}

fn is_the_same<H: Harness>(probe: &Probe<'_, H>, again: &Run, run: &Run, when: &str) {
    let all = |run: &Run| (run.fence, run.attempt, run.orphan, run.checkpoint.clone());
    let good = all(again) == all(run);
    probe.ensure(good, format_args!("a claim repeated {when} with its token was {again:?} after {run:?}"));
}

async fn of_a_first_claim<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(4);
    let run = probe.run(ask, "of an unknown record").await;
    probe.in_flight(probe.rival(ask), "by another token").await;
    // The claim may be a mismatch (4), but its token stays the running one.
    probe.claim(probe.stranger(ask)).await;
    probe.advance(3).await;
    let again = probe.run(ask, "repeated with its token").await;
    is_the_same(probe, &again, &run, "within its lease");
    probe.advance(3).await;
    probe.in_flight(probe.rival(ask), "six units after the first and three after the second").await;
    probe.advance(1).await;
    probe.run(probe.rival(ask), "by another when the fresh lease was over").await;
    probe.in_flight(ask, "with the token of a claim that was taken over").await;
}

/// A repeated claim of an heir also returns the orphan mark and the checkpoint.
async fn of_a_takeover<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(1);
    let fence = probe.run(ask, "of an unknown record").await.fence;
    let kept = checkpoint("kept");
    probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
    probe.advance(1).await;
    let heir = probe.rival(ask);
    let run = probe.run(heir, "of an orphan").await;
    let again = probe.run(heir, "of an orphan, repeated with its token").await;
    is_the_same(probe, &again, &run, "after a takeover");
}

/// No other claim took it over (16), so it is still the running claim. An answer that is lost for
/// longer than a lease must not turn its own request into the heir of a run that did not happen.
async fn after_the_lease<H: Harness>(probe: &Probe<'_, H>) {
    for (ask, run) in probe.orphans(1).await {
        let again = ClaimRequest { lease: probe.long(), ..ask };
        let again = probe.run(again, "repeated with its token after its lease").await;
        is_the_same(probe, &again, &run, "after its lease");
        probe.in_flight(probe.rival(ask), "beside one repeated after its lease").await;
    }
}

/// A released or completed claim is not repeated by its token.
async fn of_a_claim_that_ended<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let mut fence = probe.run(ask, "of an unknown record").await.fence;
    for kept in [None, Some(checkpoint("kept"))] {
        if let Some(kept) = kept {
            probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
        }
        probe.held(probe.release(ask.record, fence).await, "a release");
        let again = probe.run(ask, "with the token of a released claim").await.fence;
        let good = again != fence;
        probe.ensure(good, format_args!("a claim with the token of a released one got its fence, {fence:?}"));
        fence = again;
    }
    let answer = response("done");
    let done = probe.complete(ask.record, fence, &Outcome::Response(answer.clone())).await;
    probe.ensure(done == Fenced::Held, "its completion was Stale");
    probe.replays(ask, &answer, "with the token of a completed claim").await;
}
