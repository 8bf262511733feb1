//! Who comes first: clauses 7 and 20.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, ask, counts, report};
use crate::claim::Claimed;
use crate::cycle::{Cycle, CycleKey, Ending, Reschedule, Verdict};
use crate::scheduler::{Cancelled, Finished, Rescheduled, RetryScheduler};

/// As many as claim at once.
const CLAIMERS: usize = 8;
/// As many cycles as they claim.
const CYCLES: usize = 30;

pub(super) async fn one_holder<H: Harness>(probe: &Probe<'_, H>) {
    for round in 0..probe.rounds() {
        probe.clear().await;
        let mut all = BTreeSet::new();
        for _ in 0..CYCLES {
            let new = probe.new_cycle();
            probe.schedule(&new).await;
            all.insert(new.key);
        }
        if round % 2 == 1 {
            // Heirs: the claims before ran out.
            let claims = probe.all_due().await;
            probe.same(&claims.len(), &CYCLES, "the number of due cycles that are given");
            probe.advance(LEASE);
        }
        let answers = probe.race(CLAIMERS, |racer, scheduler| async move {
            scheduler.claim_due(ask(1 + racer, LEASE)).await
        });
        let mut given = BTreeSet::new();
        let race = answers.await.into_iter().flatten();
        for claim in race.chain(probe.all_due().await) {
            let key = claim.cycle.key.clone();
            probe.ensure(given.insert(key), format_args!("{:?} was given twice: {claim:?}", claim.cycle.key));
        }
        probe.same(&given, &all, "all that was given of what was due");
    }
}

pub(super) async fn first_come<H: Harness>(probe: &Probe<'_, H>) {
    for round in 0..probe.rounds() * 2 {
        probe.clear().await;
        let claim = probe.claimed(&probe.new_cycle()).await;
        let verdict = [Verdict::Success, Verdict::Failure, Verdict::Permanent][round % 3];
        let change = (round / 3 % 2 == 1).then(|| Reschedule {
            plan: probe.plan(2 * INTERVAL, 7),
            next_in: MS,
            reactivate: false,
        });
        let report_first = round / 6 % 2 == 0;
        let answers = probe.race(2, |racer, scheduler| {
            let (claim, change) = (claim.clone(), change.clone());
            async move {
                Ok(match change {
                    _ if (racer == 0) == report_first => {
                        Said::Finish(scheduler.finish(&claim, report(verdict)).await?)
                    }
                    None => Said::Cancel(scheduler.cancel(&claim.cycle.key).await?),
                    Some(change) => Said::Reschedule(scheduler.reschedule(&claim.cycle.key, change).await?),
                })
            }
        });
        let answers = answers.await;
        judge(probe, &claim, verdict, &answers).await;
    }
}

#[derive(Debug)]
enum Said {
    Finish(Finished),
    Cancel(Cancelled),
    Reschedule(Rescheduled),
}

/// The answers agree with each other, and with what is found afterwards.
async fn judge<H: Harness>(probe: &Probe<'_, H>, claim: &Claimed, verdict: Verdict, answers: &[Said]) {
    let key: &CycleKey = &claim.cycle.key;
    let what = format!("the answers to a report of {verdict:?} and another verb at once were {answers:?}");
    let finished =
        answers.iter().find_map(|it| if let Said::Finish(finished) = it { Some(finished) } else { None });
    let recorded = match finished {
        Some(Finished::Recorded(cycle)) => Some(cycle),
        Some(Finished::Stale) => None,
        None => probe.fail("a racer did something else"),
    };
    let ended = match verdict {
        Verdict::Success => Some(Ending::Resolved),
        Verdict::Permanent => Some(Ending::Exhausted),
        Verdict::Failure | Verdict::Crashed => None,
    };
    let left: Option<&Cycle> = answers.iter().find_map(|it| match it {
        Said::Cancel(Cancelled::Cancelled(cycle)) | Said::Reschedule(Rescheduled::Changed(cycle)) => {
            Some(cycle)
        }
        _ => None,
    });
    let refused = answers.iter().find_map(|it| match it {
        Said::Cancel(Cancelled::Ended(ending)) | Said::Reschedule(Rescheduled::Ended(ending)) => {
            Some(*ending)
        }
        _ => None,
    });
    let count = usize::from(recorded.is_some());
    let good = match (recorded, left) {
        // The report came first, and ended the cycle.
        (Some(_), None) => ended.is_some() && refused == ended,
        // It came first, and the cycle went on.
        (Some(_), Some(left)) => ended.is_none() && counts(left) == (1, 1, 0, 0),
        // It came last.
        (None, Some(left)) => counts(left) == (0, 0, 0, 0),
        (None, None) => false,
    };
    probe.ensure(good, &what);
    let last = left.or(recorded);
    probe.same(&probe.get(key).await.as_ref(), &last, format_args!("the cycle afterwards; {what}; it"));
    let attempts = probe.attempts(key).await;
    probe.same(&attempts.len(), &count, format_args!("the number of attempts; {what}; it"));
    probe.advance(Duration::from_secs(1));
}
