//! Callers that stop waiting: clause 26.
//!
//! A verb is dropped where it waits for the first time, the second time and so on until it does not wait any more. What
//! it had sent may take effect a little later, so each check lets the caller do what it would, ask again, and judges what
//! has become of both.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, Probe, ask, counts, report};
use crate::cycle::{EndReason, Ending, Reschedule, Verdict};
use crate::scheduler::{Cancelled, Finished, Rescheduled, RetryScheduler};

/// A verb that waits more often than this is dropped no later.
const WAITS: usize = 24;

pub(super) async fn cancellation<H: Harness>(probe: &Probe<'_, H>) {
    // Whether, and how often, a verb waits for a database depends on chance.
    for _ in 0..probe.rounds().div_ceil(25) {
        for verb in 0..8 {
            for n in 0..WAITS {
                probe.clear().await;
                let over = match verb {
                    0 => schedule(probe, n).await,
                    1 => claim_due(probe, n).await,
                    2 => extend(probe, n).await,
                    3 => finish(probe, n).await,
                    4 => finish_many(probe, n).await,
                    5 => defer(probe, n).await,
                    6 => cancel(probe, n).await,
                    _ => reschedule(probe, n).await,
                };
                if over {
                    break;
                }
            }
        }
    }
}

/// Drops a future when it waits for the `n`th time; before it is polled at all for 0. True when it was over before.
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

async fn schedule<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let new = probe.new_cycle();
    probe.note(&new.key);
    let over = dropped_at(n, probe.handle().schedule(new.clone())).await;
    // New or Exists: it is there, whole, and once.
    probe.try_schedule(&new).await;
    let claim = probe.claim(&new.key, format_args!("after a schedule dropped at wait {n}")).await;
    probe.same(&claim.payload, &new.payload, "the payload after a dropped schedule");
    probe.same(&counts(&claim.cycle), &(0, 0, 0, 0), "what is counted after a dropped schedule");
    over
}

async fn claim_due<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let mut keys = Vec::new();
    for _ in 0..3 {
        let new = probe.new_cycle();
        probe.schedule(&new).await;
        keys.push(new.key);
    }
    keys.sort();
    let over = dropped_at(n, probe.handle().claim_due(ask(10, LEASE))).await;
    // Whoever was leased to the caller that went away is given when the lease is over, with an attempt that is the first.
    let mut given = probe.all_due().await;
    probe.advance(LEASE);
    given.extend(probe.all_due().await);
    given.sort_by_key(|claim| (claim.cycle.key.clone(), claim.cycle.epoch));
    for claim in &given {
        let payload = bytes::Bytes::from(format!("payload of {}", claim.cycle.key.subject));
        probe.same(&claim.payload, &payload, "the payload after a dropped claim_due");
        probe.same(&claim.attempt(), &1, "the number of the attempt after a dropped claim_due");
    }
    let mut seen: Vec<_> = given.into_iter().map(|claim| claim.cycle.key).collect();
    seen.dedup();
    probe.same(&seen, &keys, format_args!("what is given after a claim_due dropped at wait {n}"));
    over
}

async fn extend<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let new = probe.new_cycle();
    let claim = probe.claimed(&new).await;
    let over = dropped_at(n, probe.handle().extend(&claim, 2 * LEASE)).await;
    probe.held(probe.extend_by(&claim, 3 * LEASE).await, "extend after a dropped one");
    probe.none_due(format_args!("after an extend dropped at wait {n}")).await;
    let _ = probe.recorded(&claim, Verdict::Success, "after a dropped extend").await;
    over
}

async fn finish<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let new = probe.new_cycle();
    let claim = probe.claimed(&new).await;
    let over = dropped_at(n, probe.handle().finish(&claim, report(Verdict::Failure))).await;
    // Recorded now, or stale because the dropped one was.
    let again = probe.finish(&claim, Verdict::Failure).await;
    let cycle = probe.known(&new.key).await;
    probe.same(
        &counts(&cycle),
        &(1, 1, 0, 0),
        format_args!("what is counted after a finish dropped at wait {n}"),
    );
    probe.is_idle(
        &cycle,
        probe.now() + INTERVAL,
        format_args!("after a dropped finish, and one that was {again:?}"),
    );
    probe.same(&probe.attempts(&new.key).await.len(), &1, "the number of attempts after a dropped finish");
    over
}

async fn finish_many<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    for _ in 0..4 {
        probe.schedule(&probe.new_cycle()).await;
    }
    let claims = probe.all_due().await;
    let reports: Vec<_> = claims.into_iter().map(|claim| (claim, report(Verdict::Success))).collect();
    let over = dropped_at(n, probe.handle().finish_many(reports.clone())).await;
    let again = probe.finish_many(reports.clone()).await;
    let recorded = again.iter().filter(|answer| matches!(answer, Finished::Recorded(_))).count();
    probe.ensure(
        recorded == 0 || recorded == reports.len(),
        format_args!(
            "of {} reports, {recorded} were left over by a finish_many dropped at wait {n}",
            reports.len()
        ),
    );
    for (claim, _) in &reports {
        let cycle = probe.known(&claim.cycle.key).await;
        probe.is_ended(&cycle, EndReason::Succeeded, "after a dropped finish_many");
        probe.same(
            &probe.attempts(&cycle.key).await.len(),
            &1,
            "the number of attempts after a dropped finish_many",
        );
    }
    over
}

async fn defer<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let new = probe.new_cycle();
    let claim = probe.claimed(&new).await;
    let over = dropped_at(n, probe.handle().defer(&claim, INTERVAL)).await;
    // Held now, or stale because the dropped one was.
    let again = probe.defer_by(&claim, INTERVAL).await;
    let cycle = probe.known(&new.key).await;
    probe.is_idle(
        &cycle,
        probe.now() + INTERVAL,
        format_args!("after a dropped defer, and one that was {again:?}"),
    );
    probe.same(
        &counts(&cycle),
        &(0, 0, 0, 0),
        format_args!("what is counted after a defer dropped at wait {n}"),
    );
    over
}

async fn cancel<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let new = probe.new_cycle();
    let claim = probe.claimed(&new).await;
    let over = dropped_at(n, probe.handle().cancel(&new.key)).await;
    let again = probe.cancel(&new.key).await;
    let good = matches!(again, Cancelled::Cancelled(_) | Cancelled::Ended(Ending::Cancelled));
    probe.ensure(good, format_args!("cancel after one dropped at wait {n} was {again:?}"));
    probe.is_ended(&probe.known(&new.key).await, EndReason::Cancelled, "after a dropped cancel");
    let late = probe.finish(&claim, Verdict::Success).await;
    probe.same(&late, &Finished::Stale, "the report on a cancelled cycle");
    over
}

async fn reschedule<H: Harness>(probe: &Probe<'_, H>, n: usize) -> bool {
    let cycle = probe.ended(Ending::Exhausted).await;
    probe.note(&cycle.key);
    let change = Reschedule { plan: probe.plan(INTERVAL, 2), next_in: Duration::ZERO, reactivate: true };
    let over = dropped_at(n, probe.handle().reschedule(&cycle.key, change.clone())).await;
    let again = probe.reschedule(&cycle.key, &change).await;
    let good = matches!(again, Rescheduled::Reactivated(_) | Rescheduled::Changed(_));
    probe.ensure(good, format_args!("reschedule after one dropped at wait {n} was {again:?}"));
    let claim = probe.claim(&cycle.key, "after a dropped reschedule").await;
    probe.same(&counts(&claim.cycle), &(1, 0, 0, 1), "what is counted after a dropped reactivation");
    over
}
