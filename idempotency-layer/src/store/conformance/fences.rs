//! Fences: clause 6.

use std::sync::Arc;

use super::Harness;
use super::probe::{Probe, Verb, checkpoint, response};
use crate::response::StoredResponse;
use crate::store::{Claim, ClaimRequest, Fence, Fenced, Outcome, Run, Store};

pub(super) async fn fences<H: Harness>(probe: &Probe<'_, H>) {
    for past in Past::ALL {
        every_verb_is_refused(probe, past).await;
    }
    no_fence_of_another_number(probe).await;
    an_unknown_record_has_none(probe).await;
    they_only_grow(probe).await;
    for (round, orphan) in probe.orphans(probe.rounds()).await.into_iter().enumerate() {
        a_late_verb_meets_the_heirs(probe, round, orphan).await;
    }
}

/// How a fence became a stale one.
#[derive(Clone, Copy, Debug)]
enum Past {
    TakenOver,
    TakenOverAndCompleted,
    Released,
    ReleasedWithCheckpoint,
    ReleasedAndClaimed,
    ReleasedWithCheckpointAndClaimed,
    Completed,
    ExpiredAndClaimed,
}

/// The state of the record that the stale fence meets.
enum Now {
    Running(Run),
    Complete(StoredResponse),
    Released,
    ReleasedWithCheckpoint(Run),
}

impl Past {
    const ALL: [Self; 8] = [
        Self::TakenOver,
        Self::TakenOverAndCompleted,
        Self::Released,
        Self::ReleasedWithCheckpoint,
        Self::ReleasedAndClaimed,
        Self::ReleasedWithCheckpointAndClaimed,
        Self::Completed,
        Self::ExpiredAndClaimed,
    ];

    /// Makes the fence stale. Waits for the end of the lease and of the time to live where that is
    /// needed.
    async fn happen<H: Harness>(self, probe: &Probe<'_, H>, ask: ClaimRequest, run: Run) -> Now {
        let (record, fence) = (ask.record, run.fence);
        let kept = matches!(self, Self::ReleasedWithCheckpoint | Self::ReleasedWithCheckpointAndClaimed);
        if kept {
            probe.held(probe.checkpoint(record, fence, &checkpoint("kept")).await, "a checkpoint");
        }
        match self {
            Self::Released | Self::ReleasedWithCheckpoint => {
                probe.held(probe.release(record, fence).await, "a release");
                if kept { Now::ReleasedWithCheckpoint(run) } else { Now::Released }
            }
            Self::ReleasedAndClaimed | Self::ReleasedWithCheckpointAndClaimed => {
                probe.held(probe.release(record, fence).await, "a release");
                Now::Running(probe.run(probe.rival(ask), "after a release").await)
            }
            Self::TakenOver => Now::Running(probe.run(probe.rival(ask), "of an orphan").await),
            Self::ExpiredAndClaimed => {
                Now::Running(probe.run(probe.rival(ask), "of a forgotten record").await)
            }
            Self::TakenOverAndCompleted => {
                let heir = probe.run(probe.rival(ask), "of an orphan").await;
                complete(probe, ask, heir.fence).await
            }
            Self::Completed => complete(probe, ask, fence).await,
        }
    }
}

async fn complete<H: Harness>(probe: &Probe<'_, H>, ask: ClaimRequest, fence: Fence) -> Now {
    let answer = response("done");
    probe.held(probe.complete(ask.record, fence, &Outcome::Response(answer.clone())).await, "a completion");
    Now::Complete(answer)
}

async fn every_verb_is_refused<H: Harness>(probe: &Probe<'_, H>, past: Past) {
    let mut asked = Vec::new();
    for verb in Verb::ALL {
        // Clause 12 covers this one.
        if matches!((past, verb), (Past::Completed, Verb::Complete)) {
            continue;
        }
        // Twice, because a record can end in two ways, and a wrong change may show in one of them
        // only.
        for released in [false, true] {
            let ask = match past {
                Past::ExpiredAndClaimed => ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) },
                Past::TakenOver | Past::TakenOverAndCompleted => probe.ask_for(1),
                _ => probe.ask(),
            };
            asked.push((verb, released, ask, probe.run(ask, "of an unknown record").await));
        }
    }
    probe.advance(1).await;
    for (verb, released, ask, run) in asked {
        let fence = run.fence;
        let now = past.happen(probe, ClaimRequest { ttl: probe.long(), ..ask }, run).await;
        let what = format!("{verb:?} with the fence of a claim that was {past:?}");
        probe.stale(probe.apply(verb, ask.record, fence).await, &what);
        let after = format!("after {what}");
        match now {
            Now::Running(run) => goes_on(probe, ask, &run, released, &after).await,
            Now::Complete(answer) => probe.replays(probe.rival(ask), &answer, &after).await,
            Now::Released => {
                let run = probe.run(probe.stranger(ask), &after).await;
                let good = !run.orphan && run.checkpoint.is_none();
                probe.ensure(good, format_args!("a claim {after} was {run:?}, not one of a released record"));
            }
            Now::ReleasedWithCheckpoint(run) => {
                probe.next(&run, probe.rival(ask), &checkpoint("kept"), &after).await;
            }
        }
    }
}

/// Ensures that the run still holds its claim and ends as if nothing had happened.
async fn goes_on<H: Harness>(
    probe: &Probe<'_, H>,
    ask: ClaimRequest,
    run: &Run,
    released: bool,
    after: &str,
) {
    probe.in_flight(probe.rival(ask), after).await;
    if released {
        let when = format!("when the owner released {after}");
        probe.held(probe.release(ask.record, run.fence).await, format_args!("the owner's release {after}"));
        let next = probe.run(probe.rival(ask), &when).await;
        let good = !next.orphan && next.checkpoint == run.checkpoint;
        probe.ensure(good, format_args!("a claim {when} was {next:?} after {run:?}"));
    } else {
        let answer = response("the owner's");
        let held = probe.complete(ask.record, run.fence, &Outcome::Response(answer.clone())).await;
        probe.held(held, format_args!("the owner's completion {after}"));
        probe.replays(probe.rival(ask), &answer, format_args!("when the owner completed {after}")).await;
    }
}

/// An earlier fence, a later one, and one that a signed column cannot hold.
async fn no_fence_of_another_number<H: Harness>(probe: &Probe<'_, H>) {
    for verb in Verb::ALL {
        for released in [false, true] {
            let ask = probe.ask();
            let run = probe.run(ask, "of an unknown record").await;
            let fence = run.fence.0;
            let others = [0, 1, fence.wrapping_sub(1), fence.wrapping_add(1), i64::MAX as u64, u64::MAX];
            for other in others.into_iter().filter(|other| *other != fence) {
                let refused = probe.apply(verb, ask.record, Fence(other)).await;
                probe.stale(
                    refused,
                    format_args!("{verb:?} with fence {other}, while {fence} is the current one"),
                );
            }
            goes_on(
                probe,
                ask,
                &run,
                released,
                &format!("after {verb:?} with fences that were never given out"),
            )
            .await;
        }
    }
    // A stale extension does not even shift the end of the lease.
    let ask = probe.ask_for(2);
    let fence = probe.run(ask, "of an unknown record").await.fence;
    probe.stale(probe.extend(ask.record, Fence(fence.0 + 1), probe.long()).await, "a stale extension");
    probe.stale(
        probe.extend(ask.record, Fence(fence.0 + 1), probe.units(0)).await,
        "a stale extension by zero",
    );
    probe.in_flight(probe.rival(ask), "after a stale extension by zero").await;
    probe.advance(2).await;
    probe.run(probe.rival(ask), "when the lease was over, whatever a stale extension asked").await;
}

async fn an_unknown_record_has_none<H: Harness>(probe: &Probe<'_, H>) {
    for verb in Verb::ALL {
        let ask = probe.ask();
        for fence in [0, 1, u64::MAX] {
            let refused = probe.apply(verb, ask.record, Fence(fence)).await;
            probe.stale(refused, format_args!("{verb:?} with fence {fence} on an unknown record"));
        }
        let run = probe.run(ask, format_args!("after {verb:?} on an unknown record")).await;
        goes_on(probe, ask, &run, true, &format!("after {verb:?} on an unknown record")).await;
    }
}

async fn they_only_grow<H: Harness>(probe: &Probe<'_, H>) {
    let (living, dying) = (probe.ask_for(1), ClaimRequest { ttl: probe.units(1), ..probe.ask_for(1) });
    let (mut last, mut last_dying) = (None, None);
    let grown = |last: &mut Option<Fence>, run: Run, how: &str| {
        let (before, now) = (last.replace(run.fence), Some(run.fence));
        probe.ensure(before < now, format_args!("the fence {how} was {now:?} after {before:?}"));
        run.fence
    };
    for _ in 0..3 {
        let run = probe.run(probe.rival(living), "of a record that was released").await;
        let fence = grown(&mut last, run, "after a release");
        probe.held(probe.release(living.record, fence).await, "a release");
        let run = probe.run(probe.rival(living), "of a record that was released").await;
        let fence = grown(&mut last, run, "after a release");
        probe.held(probe.checkpoint(living.record, fence, &checkpoint("kept")).await, "a checkpoint");
        probe.held(probe.release(living.record, fence).await, "a release");
        let short = ClaimRequest { lease: living.lease, ..probe.rival(living) };
        let run = probe.run(short, "of a record that was released with a checkpoint").await;
        grown(&mut last, run, "after a release with a checkpoint");
        let short = ClaimRequest { lease: dying.lease, ..probe.rival(dying) };
        grown(&mut last_dying, probe.run(short, "of a forgotten record").await, "of a forgotten record");
        // Other records get fences meanwhile.
        probe.run(probe.ask(), "of an unknown record").await;
        probe.advance(1).await;
        let heir = probe.run(probe.rival(living), "of an orphan").await;
        let fence = grown(&mut last, heir, "after a takeover");
        probe.held(probe.release(living.record, fence).await, "a release");
    }
}

/// The check of the fence and the write are one step: no heir comes between them.
async fn a_late_verb_meets_the_heirs<H: Harness>(
    probe: &Probe<'_, H>,
    round: usize,
    orphan: (ClaimRequest, Run),
) {
    let (ask, run) = orphan;
    let fence = run.fence;
    let verb = Verb::ALL[round % 4];
    let (long, answer, kept) = (probe.long(), response("late"), checkpoint("late"));
    let (outcome, checkpoint) = (Outcome::Response(answer.clone()), kept.clone());
    let late = |store: Arc<H::Store>| {
        let (outcome, checkpoint) = (outcome.clone(), checkpoint.clone());
        async move {
            match verb {
                Verb::Complete => store.complete(ask.record, fence, outcome).await,
                Verb::Release => store.release(ask.record, fence).await,
                Verb::Extend => store.extend(ask.record, fence, long).await,
                Verb::Checkpoint => store.checkpoint(ask.record, fence, checkpoint).await,
            }
        }
    };
    let (fenced, claims) = probe.race_against(ask, 4, round / 4, late).await;
    let what =
        format!("{verb:?} at once with claims of the orphan was {fenced:?}, and the claims were {claims:?}");
    let mut heirs =
        claims.into_iter().filter_map(|claim| if let Claim::Run(run) = claim { Some(run) } else { None });
    let (heir, second) = (heirs.next(), heirs.next());
    probe.ensure(second.is_none(), &what);
    let Some(heir) = heir else {
        // Complete and extend may win against the claims. After the other two verbs, one claim
        // runs.
        let good = fenced == Fenced::Held && matches!(verb, Verb::Complete | Verb::Extend);
        return probe.ensure(good, &what);
    };
    let stale = fenced == Fenced::Stale;
    let good = match verb {
        Verb::Complete | Verb::Extend => stale,
        Verb::Release => heir.orphan == stale,
        Verb::Checkpoint => heir.checkpoint == if stale { run.checkpoint } else { Some(kept) },
    };
    probe.ensure(good, &what);
    goes_on(probe, ask, &heir, round % 8 < 4, &format!("when {what}")).await;
}
