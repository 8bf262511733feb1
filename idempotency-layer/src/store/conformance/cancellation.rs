//! Dropped verbs: clause 17.
//!
//! A check drops a verb at its first await, then at its second, and so on, until the verb finishes
//! before it is dropped. The verb may take effect a little later, so a check accepts the state
//! before and the state after. Then it asks again, as a caller would.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::Harness;
use super::probe::{Probe, checkpoint, response};
use crate::store::{Checkpoint, Claim, ClaimRequest, Fence, Fenced, Outcome, Run, Store};

/// The last await at which a verb is dropped.
const WAITS: usize = 24;

pub(super) async fn cancellation<H: Harness>(probe: &Probe<'_, H>) {
    // How often a verb waits for a database varies.
    for _ in 0..probe.rounds().div_ceil(25) {
        first_claim(probe).await;
        takeover(probe).await;
        complete(probe).await;
        release(probe).await;
        release_with_checkpoint(probe).await;
        extend(probe).await;
        take_checkpoint(probe).await;
    }
}

/// Drops a future when it waits for the `n`th time, or before its first poll for 0. Returns whether
/// it had finished before.
async fn dropped_at<F: Future>(n: usize, future: F) -> bool {
    let (mut future, mut waits) = (pin!(future), 0);
    poll_fn(|context| {
        if n > 0 && future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        waits += 1;
        if waits >= n { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

async fn first_claim<H: Harness>(probe: &Probe<'_, H>) {
    for n in 0..WAITS {
        let ask = probe.ask();
        let over = dropped_at(n, probe.handle().claim(ask)).await;
        let when = format!("after one dropped at wait {n}");
        match probe.claim(probe.rival(ask)).await {
            Claim::Run(_) => {
                probe.in_flight(ask, format_args!("repeated {when}, when another had come between")).await;
            }
            Claim::InFlight { .. } => {
                let run = probe.run(ask, format_args!("repeated {when}")).await;
                ends_well(probe, ask, run.fence, &when).await;
            }
            other => probe.not("Run or InFlight", &other, &when),
        }
        if over {
            return;
        }
    }
}

async fn takeover<H: Harness>(probe: &Probe<'_, H>) {
    let kept = checkpoint("kept");
    let inherits = |heir: &Run, when: &str| {
        let good = heir.orphan && heir.checkpoint.as_ref() == Some(&kept);
        probe.ensure(good, format_args!("a claim {when} was {heir:?}, not an heir with {kept:?}"));
    };
    let mut orphans = Vec::with_capacity(WAITS);
    for _ in 0..WAITS {
        let ask = probe.ask_for(1);
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
        orphans.push(ask);
    }
    probe.advance(1).await;
    for (n, orphan) in orphans.into_iter().enumerate() {
        let ask = probe.rival(orphan);
        let over = dropped_at(n, probe.handle().claim(ask)).await;
        let when = format!("of an orphan after one dropped at wait {n}");
        match probe.claim(probe.rival(ask)).await {
            Claim::Run(heir) => inherits(&heir, &when),
            Claim::InFlight { .. } => {
                let heir = probe.run(ask, format_args!("repeated {when}")).await;
                inherits(&heir, &when);
                ends_well(probe, ask, heir.fence, &when).await;
            }
            other => probe.not("Run or InFlight", &other, &when),
        }
        if over {
            return;
        }
    }
}

async fn complete<H: Harness>(probe: &Probe<'_, H>) {
    let (first, second) = (response("first"), response("second"));
    for n in 0..WAITS {
        let (ask, Run { fence, .. }) = claimed(probe).await;
        let outcome = Outcome::Response(first.clone());
        let over = dropped_at(n, probe.handle().complete(ask.record, fence, outcome)).await;
        let when = format!("after a completion dropped at wait {n}");
        let seen = match probe.claim(probe.rival(ask)).await {
            Claim::InFlight { .. } => None,
            Claim::Replay { response: replay, .. } if replay == first => Some(replay),
            other => probe.not("InFlight or Replay", &other, &when),
        };
        let again = probe.complete(ask.record, fence, &Outcome::Response(second.clone())).await;
        probe.held(again, format_args!("a completion {when}"));
        match probe.claim(probe.rival(ask)).await {
            Claim::Replay { response: replay, .. } if seen.as_ref().is_none_or(|seen| *seen == replay) => {
                let whole = replay == first || replay == second;
                probe.ensure(whole, format_args!("a claim {when} and another one replayed a third response"));
                probe.replays(probe.rival(ask), &replay, format_args!("{when} and another one")).await;
            }
            other => probe.not("Replay of the outcome that came first", &other, &when),
        }
        if over {
            return;
        }
    }
}

async fn release<H: Harness>(probe: &Probe<'_, H>) {
    let is_free = |run: &Run, when: &str| {
        probe.ensure(!run.orphan, format_args!("a claim {when} was {run:?}, an orphan's heir"));
    };
    for n in 0..WAITS {
        let (ask, Run { fence, .. }) = claimed(probe).await;
        let over = dropped_at(n, probe.handle().release(ask.record, fence)).await;
        let when = format!("after a release dropped at wait {n}");
        match probe.claim(probe.rival(ask)).await {
            Claim::Run(run) => is_free(&run, &when),
            Claim::InFlight { .. } => {
                // The release has not taken effect yet. The owner asks again.
                let _ = probe.release(ask.record, fence).await;
                is_free(&probe.run(probe.rival(ask), format_args!("{when} and another one")).await, &when);
            }
            other => probe.not("Run or InFlight", &other, &when),
        }
        if over {
            return;
        }
    }
}

async fn release_with_checkpoint<H: Harness>(probe: &Probe<'_, H>) {
    let kept = checkpoint("kept");
    for n in 0..WAITS {
        let (ask, run) = claimed(probe).await;
        let fence = run.fence;
        probe.held(probe.checkpoint(ask.record, fence, &kept).await, "a checkpoint");
        let over = dropped_at(n, probe.handle().release(ask.record, fence)).await;
        let when = format!("after a release with a checkpoint dropped at wait {n}");
        match probe.claim(probe.rival(ask)).await {
            Claim::Run(next) => probe.is_next(&next, &run, &kept, &when),
            Claim::InFlight { .. } => {
                let _ = probe.release(ask.record, fence).await;
                probe.next(&run, probe.rival(ask), &kept, format_args!("{when} and another one")).await;
            }
            other => probe.not("Run or InFlight", &other, &when),
        }
        if over {
            return;
        }
    }
}

async fn extend<H: Harness>(probe: &Probe<'_, H>) {
    for n in 0..WAITS {
        let (ask, Run { fence, .. }) = claimed(probe).await;
        let over = dropped_at(n, probe.handle().extend(ask.record, fence, probe.units(500))).await;
        let when = format!("after an extension dropped at wait {n}");
        probe.in_flight(probe.rival(ask), &when).await;
        ends_well(probe, ask, fence, &when).await;
        if over {
            return;
        }
    }
}

async fn take_checkpoint<H: Harness>(probe: &Probe<'_, H>) {
    let (old, new) = (checkpoint("old"), checkpoint("new"));
    for n in 0..WAITS {
        let (ask, Run { fence, .. }) = claimed(probe).await;
        probe.held(probe.checkpoint(ask.record, fence, &old).await, "a checkpoint");
        let over = dropped_at(n, probe.handle().checkpoint(ask.record, fence, new.clone())).await;
        let when = format!("after a checkpoint dropped at wait {n}");
        probe.in_flight(probe.rival(ask), &when).await;
        probe.held(probe.release(ask.record, fence).await, "a release");
        let run = probe.run(probe.rival(ask), &when).await;
        let whole = |checkpoint: &Checkpoint| *checkpoint == old || *checkpoint == new;
        let good = run.checkpoint.as_ref().is_some_and(whole);
        probe.ensure(
            good,
            format_args!("a claim {when} came with {:?}, not {old:?} or {new:?}", run.checkpoint),
        );
        if over {
            return;
        }
    }
}

async fn claimed<H: Harness>(probe: &Probe<'_, H>) -> (ClaimRequest, Run) {
    let ask = probe.ask();
    (ask, probe.run(ask, "of an unknown record").await)
}

/// The claim can be completed, and is replayed.
async fn ends_well<H: Harness>(probe: &Probe<'_, H>, ask: ClaimRequest, fence: Fence, when: &str) {
    let answer = response("done");
    let fenced = probe.complete(ask.record, fence, &Outcome::Response(answer.clone())).await;
    probe.ensure(fenced == Fenced::Held, format_args!("a completion {when} was Stale"));
    probe.replays(probe.rival(ask), &answer, when).await;
}
