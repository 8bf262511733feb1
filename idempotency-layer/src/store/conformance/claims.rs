//! Who gets to run: clauses 1, 2, 9 and 11.

use std::sync::Arc;

use super::Harness;
use super::probe::{Probe, checkpoint, fingerprint, response};
use crate::store::{Claim, ClaimRequest, Fenced, Outcome, Store};

/// As many as meet in a race of claims.
const RACERS: usize = 64;
/// As many as meet in a race of claims with another verb, which is over sooner.
const FEW: usize = 8;

pub(super) async fn first_claim<H: Harness>(probe: &Probe<'_, H>) {
    for scheme in 0..8 {
        let ask = ClaimRequest { fingerprint: fingerprint(scheme, scheme), ..probe.ask_for(1) };
        probe.first(ask, "of an unknown record").await;
    }
}

pub(super) async fn one_runner<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(5);
    probe.run(ask, "of an unknown record").await;
    probe.in_flight(probe.rival(ask), ask.lease, "beside a running one, asked with a longer lease").await;
    probe.advance(2).await;
    probe.in_flight(probe.rival(ask), probe.units(3), "with two fifths of the lease over").await;

    for round in 0..probe.rounds() {
        let ask = probe.ask();
        let winner = probe.one_of(ask, RACERS, "of an unknown record").await;
        let outcome = Outcome::Response(response("the winner's"));
        probe.held(
            probe.complete(ask.record, winner.fence, &outcome).await,
            "the completion by the one runner",
        );
        the_owner_ends_it_once(probe, round).await;
    }
}

/// While the owner completes, releases or extends, no second one runs beside it.
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
        let good = matches!(claim, Claim::InFlight { .. } | Claim::Replay(_));
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
    // All of the race may have come before the release; this one has not.
    claims.push(probe.claim(probe.rival(ask)).await);
    let runs = claims.iter().filter(|claim| matches!(claim, Claim::Run(_))).count();
    probe.ensure(
        runs == 1,
        format_args!("of the claims while and after the owner released, {runs} were Run: {claims:?}"),
    );
}

pub(super) async fn one_heir<H: Harness>(probe: &Probe<'_, H>) {
    for (ask, _) in probe.orphans(probe.rounds()).await {
        let heir = probe.one_of(ask, RACERS, "of an orphan").await;
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
        // The first try may still be on its way when the second is made.
        let ask = probe.ask();
        let claims = probe.race(FEW, |_, store| async move { store.claim(ask).await });
        let mut fences = Vec::new();
        for claim in claims.await {
            let Claim::Run(run) = claim else { probe.not("Run", &claim, "repeated at once with its token") };
            probe.is_run(&run, 1, false, None, "repeated at once with its token");
            fences.push(run.fence);
        }
        fences.dedup();
        probe.ensure(fences.len() == 1, format_args!("one claim repeated at once got {fences:?}"));
    }
}

async fn of_a_first_claim<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(4);
    let run = probe.run(ask, "of an unknown record").await;
    probe.in_flight(probe.rival(ask), ask.lease, "by another token").await;
    probe.advance(3).await;
    let again = probe.run(ask, "repeated with its token").await;
    probe.is_run(&again, 1, false, None, "repeated with its token");
    probe.ensure(
        again.fence == run.fence,
        format_args!("a repeated claim got {:?} after {:?}", again.fence, run.fence),
    );
    probe.advance(3).await;
    probe
        .in_flight(probe.rival(ask), probe.long(), "six units after the first and three after the second")
        .await;
    probe.advance(1).await;
    probe.run(probe.rival(ask), "by another when the fresh lease was over").await;
    probe.in_flight(ask, probe.long(), "with the token of a claim that was taken over").await;
}

/// The heir must hear again that it is one, and of the checkpoint.
async fn of_a_takeover<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(1);
    let fence = probe.run(ask, "of an unknown record").await.fence;
    let kept = checkpoint("kept");
    probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
    probe.advance(1).await;
    let heir = probe.rival(ask);
    let run = probe.run(heir, "of an orphan").await;
    let again = probe.run(heir, "of an orphan, repeated with its token").await;
    let same = (again.fence, again.attempt, again.orphan, &again.checkpoint);
    let good = same == (run.fence, run.attempt, run.orphan, &run.checkpoint);
    probe.ensure(good, format_args!("a takeover repeated with its token was {again:?} after {run:?}"));
}

/// Nobody took it over (16), so it is the running claim still: an answer lost for longer than a lease must not make
/// its own asker look like the heir of a run that never was.
async fn after_the_lease<H: Harness>(probe: &Probe<'_, H>) {
    for (ask, run) in probe.orphans(1).await {
        let again = ClaimRequest { lease: probe.long(), ..ask };
        let again = probe.run(again, "repeated with its token after its lease").await;
        probe.is_run(&again, 1, false, None, "repeated with its token after its lease");
        let good = again.fence == run.fence;
        probe.ensure(
            good,
            format_args!("a claim repeated after its lease got {:?} after {:?}", again.fence, run.fence),
        );
        probe.in_flight(probe.rival(ask), probe.long(), "beside one repeated after its lease").await;
    }
}

/// The token is worth nothing once the claim is given up or done.
async fn of_a_claim_that_ended<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let released = probe.run(ask, "of an unknown record").await.fence;
    probe.held(probe.release(ask.record, released).await, "a release");
    let fence = probe.run(ask, "with the token of a released claim").await.fence;
    let good = fence > released;
    probe.ensure(
        good,
        format_args!("a claim with the token of the released one got {fence:?} after {released:?}"),
    );
    let answer = response("done");
    let done = probe.complete(ask.record, fence, &Outcome::Response(answer.clone())).await;
    probe.ensure(done == Fenced::Held, "its completion was Stale");
    probe.replays(ask, &answer, "with the token of a completed claim").await;
}
