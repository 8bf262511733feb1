//! From begin to purge: clauses 38 to 43.

use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, ask, report};
use crate::claim::{ClaimDue, Report};
use crate::cycle::{CycleKey, EndReason, Ending, NewCycle, Reschedule, Verdict};
use crate::metadata::Metadata;
use crate::scheduler::{Fenced, Finished, RetryScheduler, Scheduled};

/// Ends a cycle for each reason there is; its key, and the reason.
async fn every_end<H: Harness>(probe: &Probe<'_, H>) -> Vec<(CycleKey, EndReason)> {
    let mut ends = Vec::new();
    let once = |probe: &Probe<'_, H>| NewCycle { plan: probe.plan(INTERVAL, 1), ..probe.new_cycle() };
    for (verdict, reason) in [
        (Verdict::Success, EndReason::Succeeded),
        (Verdict::Failure, EndReason::AttemptsUsedUp),
        (Verdict::Permanent, EndReason::PermanentFailure),
        (Verdict::Crashed, EndReason::CrashedTooOften),
    ] {
        for many in [false, true] {
            let claim = probe.claimed(&once(probe)).await;
            if many {
                probe.finish_many(vec![(claim.clone(), report(verdict))]).await;
            } else {
                let _ = probe.recorded(&claim, verdict, "of the last attempt").await;
            }
            ends.push((claim.cycle.key, reason));
        }
    }
    let deferred = NewCycle { plan: probe.plan(INTERVAL, 1).max_deferrals(0), ..probe.new_cycle() };
    let claim = probe.claimed(&deferred).await;
    probe.held(probe.defer_by(&claim, MS).await, "defer of a running attempt");
    ends.push((deferred.key, EndReason::DeferredTooOften));

    let cancelled = once(probe);
    probe.schedule(&cancelled).await;
    probe.cancelled(&cancelled.key, "of an idle cycle").await;
    ends.push((cancelled.key, EndReason::Cancelled));

    // Too late: when it is scheduled, rescheduled, finished, and claimed.
    let until = |probe: &Probe<'_, H>, last: Duration| probe.plan(INTERVAL, 3).deadline(probe.now() + last);
    let late = NewCycle { first_in: 2 * MS, plan: until(probe, MS), ..probe.new_cycle() };
    probe.schedule(&late).await;
    ends.push((late.key, EndReason::TooLate));
    let changed = probe.new_cycle();
    probe.schedule(&changed).await;
    let change = Reschedule::new(until(probe, MS)).next_in(2 * MS);
    probe.changed(&changed.key, &change, "of an idle cycle").await;
    ends.push((changed.key, EndReason::TooLate));
    let failed = NewCycle { plan: until(probe, MS), ..probe.new_cycle() };
    let claim = probe.claimed(&failed).await;
    let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
    ends.push((failed.key, EndReason::TooLate));
    let missed = NewCycle { plan: until(probe, MS), ..probe.new_cycle() };
    probe.schedule(&missed).await;
    probe.advance(2 * MS);
    probe.none_due("of a cycle whose last start is over").await;
    ends.push((missed.key, EndReason::TooLate));

    // No attempt left of the new plan.
    let used = NewCycle { plan: probe.plan(MS, 3), ..probe.new_cycle() };
    let claim = probe.claimed(&used).await;
    let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
    probe.changed(&used.key, &Reschedule::new(probe.plan(MS, 1)), "of an idle cycle").await;
    ends.push((used.key, EndReason::AttemptsUsedUp));
    ends
}

pub(super) async fn end_reasons<H: Harness>(probe: &Probe<'_, H>) {
    for (key, reason) in every_end(probe).await {
        let cycle = probe.known(&key).await;
        probe.same(&cycle.end_reason(), &Some(reason), format_args!("the reason of the end of {key:?}"));
        probe.same(&cycle.ending(), &Some(reason.ending()), format_args!("the ending of {key:?}"));
    }
}

pub(super) async fn endings_told<H: Harness>(probe: &Probe<'_, H>) {
    let Some(before) = probe.harness.endings() else { return };
    let ends = every_end(probe).await;
    let told = probe.harness.endings().unwrap_or_default();
    probe.same(&told[before.len()..].to_vec(), &ends, "the list of endings that were told");
    // A verb that ends nothing tells nothing.
    for (key, _) in &ends {
        probe.cancel(key).await;
        probe.try_schedule(&NewCycle { key: key.clone(), ..probe.new_cycle() }).await;
    }
    let again = probe.harness.endings().unwrap_or_default();
    probe.same(&again.len(), &told.len(), "the number of endings that were told when nothing ended");
}

pub(super) async fn metadata<H: Harness>(probe: &Probe<'_, H>) {
    let all = [
        Metadata::new(),
        Metadata::from([("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]),
        Metadata::from([("", ""), ("a=b", "%3D\n\r\t\"'\\"), ("ü", "\u{1f600}"), ("b", "%0A")]),
        (0..Metadata::MAX_ENTRIES).map(|n| (format!("{n:03}"), "v".repeat(253))).collect(),
    ];
    for metadata in all {
        probe.clear().await;
        let new = NewCycle { metadata: metadata.clone(), ..probe.new_cycle() };
        let claim = probe.claimed(&new).await;
        probe.same(&claim.metadata, &metadata, "the metadata");
        let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when the next attempt is due").await;
        probe.same(&claim.metadata, &metadata, "the metadata of the second attempt");
    }
    let too_much = [
        (0..=Metadata::MAX_ENTRIES).map(|n| (n.to_string(), "")).collect(),
        Metadata::from([("long", "v".repeat(Metadata::MAX_BYTES))]),
        Metadata::from([("nul", "\0")]),
    ];
    for metadata in too_much {
        let new = NewCycle { metadata, ..probe.new_cycle() };
        let answer = probe.handle().schedule(new.clone()).await;
        probe.ensure(answer.is_err(), format_args!("schedule with {:?} was {answer:?}", new.metadata));
        probe.same(&probe.get(&new.key).await, &None, "a cycle whose schedule was refused");
    }
}

pub(super) async fn attempt_pages<H: Harness>(probe: &Probe<'_, H>) {
    let new = NewCycle { plan: probe.plan(MS, 20), ..probe.new_cycle() };
    probe.schedule(&new).await;
    for _ in 0..7 {
        let claim = probe.claim(&new.key, "when an attempt is due").await;
        let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        probe.advance(MS);
    }
    let pages: [(u32, usize, &[u32]); 7] = [
        (0, 3, &[1, 2, 3]),
        (3, 3, &[4, 5, 6]),
        (6, 3, &[7]),
        (7, 3, &[]),
        (u32::MAX, 3, &[]),
        (0, 0, &[]),
        (2, usize::MAX, &[3, 4, 5, 6, 7]),
    ];
    for (after, limit, wanted) in pages {
        let page = probe.unfailing(probe.handle().attempts(&new.key, after, limit).await, "attempts");
        let numbers: Vec<_> = page.iter().map(|attempt| attempt.number).collect();
        probe.same(&numbers, &wanted.to_vec(), format_args!("the page of {limit} attempts after {after}"));
    }
}

pub(super) async fn purge<H: Harness>(probe: &Probe<'_, H>) {
    let purge = |older_than, limit| async move {
        probe.unfailing(probe.handle().purge_ended(older_than, limit).await, "purge_ended")
    };
    let pending = probe.claimed(&probe.new_cycle()).await;
    probe.held(probe.extend_by(&pending, 9 * INTERVAL).await, "extend of a running attempt");
    let pending = probe.known(&pending.cycle.key).await;
    let idle = NewCycle { first_in: 9 * INTERVAL, ..probe.new_cycle() };
    probe.schedule(&idle).await;
    let mut ended = Vec::new();
    for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled, Ending::Resolved] {
        ended.push(probe.ended(ending).await.key);
    }
    probe.advance(INTERVAL);
    probe.same(&purge(INTERVAL + MS, 10).await, &0, "the number of cycles purged a millisecond early");
    let young = probe.ended(Ending::Resolved).await;
    probe.same(&purge(INTERVAL, 3).await, &3, "the number of cycles purged with a limit of 3");
    probe.same(&purge(INTERVAL, 3).await, &1, "the number of cycles that were left to purge");
    probe.same(&purge(INTERVAL, 3).await, &0, "the number of cycles purged when none is old enough");
    probe.is(&pending, "after a purge").await;
    probe.known(&idle.key).await;
    probe.is(&young, "that ended just before a purge").await;
    for key in &ended {
        probe.same(&probe.get(key).await, &None, "a cycle that was purged");
        probe.same(
            &probe.attempts(key).await,
            &Vec::new(),
            "the list of attempts of a cycle that was purged",
        );
        // The key begins anew, with nothing of before.
        let new = NewCycle { key: key.clone(), payload: "anew".into(), ..probe.new_cycle() };
        let cycle = probe.schedule(&new).await;
        probe.same(&cycle.attempts, &0, "the number of attempts of a key that begins anew");
        let claim = probe.claim(key, "of a key that begins anew").await;
        probe.same(&claim.payload, &new.payload, "the payload of a key that begins anew");
        let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
        probe.same(&probe.attempts(key).await.len(), &1, "the number of attempts of a key that began anew");
    }
}

pub(super) async fn many_verbs<H: Harness>(probe: &Probe<'_, H>) {
    let all = [probe.new_cycle(), probe.new_cycle(), probe.new_cycle()];
    probe.schedule(&all[1]).await;
    let twice = [all.to_vec(), vec![all[0].clone()]].concat();
    for new in &twice {
        probe.note(&new.key);
    }
    let answers = probe.unfailing(probe.handle().schedule_many(twice.clone()).await, "schedule_many");
    probe.same(&answers.len(), &4, "the number of answers to schedule_many");
    for ((new, answer), wanted) in twice.iter().zip(&answers).zip([true, false, true, false]) {
        let (Scheduled::New(cycle) | Scheduled::Exists(cycle)) = answer;
        probe.same(&cycle.key, &new.key, "the key in an answer to schedule_many");
        let is_new = matches!(answer, Scheduled::New(_));
        probe.same(&is_new, &wanted, "whether schedule_many began a cycle");
        probe.is(cycle, "after schedule_many").await;
    }

    let mut claims = probe.claims(10, LEASE).await;
    probe.same(&claims.len(), &3, "the number of claims");
    claims.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
    probe.cancelled(&claims[1].cycle.key, "of a running attempt").await;
    let answers = probe.unfailing(probe.handle().extend_many(&claims, 3 * LEASE).await, "extend_many");
    let wanted = vec![Fenced::Held, Fenced::Stale, Fenced::Held];
    probe.same(&answers, &wanted, "the answer to extend_many");
    probe.advance(2 * LEASE);
    probe.none_due("when all leases were extended").await;

    let next = probe.new_cycle();
    probe.schedule(&next).await;
    let reports = claims.iter().map(|claim| (claim.clone(), Report::success())).collect();
    let request = ClaimDue { limit: 10, ..ask(10, LEASE) };
    let answer = probe.unfailing(probe.handle().finish_and_claim(reports, request).await, "finish_and_claim");
    let finished: Vec<_> =
        answer.finished.iter().map(|answer| matches!(answer, Ok(Finished::Recorded(_)))).collect();
    probe.same(&finished, &vec![true, false, true], "what finish_and_claim recorded");
    let given = probe.unfailing(answer.claims, "the claim of finish_and_claim");
    let given: Vec<_> = given.iter().map(|claim| claim.cycle.key.clone()).collect();
    probe.same(&given, &vec![next.key], "what finish_and_claim claimed");
}
