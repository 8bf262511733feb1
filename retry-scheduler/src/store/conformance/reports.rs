//! How attempts end: clauses 12, 13, 14, 16 and 17.

use std::time::Duration;

use bytes::Bytes;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, counts, report};
use crate::claim::{Claimed, Report};
use crate::cycle::{AttemptRecord, EndReason, NewCycle, Reschedule, Verdict};
use crate::scheduler::{Finished, RetryScheduler};

pub(super) async fn success<H: Harness>(probe: &Probe<'_, H>) {
    for failures in 0..3 {
        let new = probe.new_cycle();
        let mut claim = probe.claimed(&new).await;
        for _ in 0..failures {
            let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            probe.advance(INTERVAL);
            claim = probe.claim(&new.key, "when the next attempt is due").await;
        }
        probe.advance(LEASE / 2);
        let cycle = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
        probe.is_ended(&cycle, EndReason::Succeeded, "after a success");
        probe.same(&counts(&cycle), &(failures + 1, failures + 1, 0, 0), "what is counted after a success");
        probe.advance(2 * LEASE + INTERVAL);
        probe.none_due("when the only cycle is resolved").await;
        probe.is(&cycle, "long after it was resolved").await;
    }
}

pub(super) async fn failure<H: Harness>(probe: &Probe<'_, H>) {
    // Neither falling nor rising, so that each delay shows; the last one again and again.
    let delays = [5, 1, 20, 3, 3].map(|minutes: u64| Duration::from_secs(60 * minutes));
    let listed = [&delays[..4], &[MS], &[INTERVAL]];
    for list in listed {
        let new = NewCycle { plan: probe.delays(list.iter().copied(), 6), ..probe.new_cycle() };
        let mut claim = probe.claimed(&new).await;
        for attempt in 1..=5 {
            // Time that the attempt takes does not count: not before the lease is over, nor after.
            probe.advance(if attempt % 2 == 0 { LEASE / 3 } else { LEASE * 2 });
            let cycle = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
            let delay = *list.get(attempt - 1).or(list.last()).unwrap_or(&INTERVAL);
            probe.is_idle(&cycle, probe.now() + delay, format_args!("after attempt {attempt} of {list:?}"));
            let number = u32::try_from(attempt).unwrap_or(0);
            probe.same(&counts(&cycle), &(number, number, 0, 0), "what is counted after a failure");
            probe.none_due("at once after a failure").await;
            probe.advance(delay.saturating_sub(MS));
            probe.none_due("a millisecond before the next attempt is due").await;
            probe.advance(MS);
            claim = probe.claim(&new.key, "when the next attempt is due").await;
            probe.same(&claim.attempt(), &(number + 1), "the number of the next attempt");
            probe.same(&claim.payload, &new.payload, "the payload of the next attempt");
        }
        let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
    }
}

pub(super) async fn exhaustion<H: Harness>(probe: &Probe<'_, H>) {
    for max_attempts in 1..=3_u32 {
        for (last, verdict) in [
            (max_attempts, Verdict::Failure),
            (max_attempts, Verdict::Crashed),
            (1, Verdict::Permanent),
            (max_attempts, Verdict::Permanent),
        ] {
            let new = NewCycle { plan: probe.plan(INTERVAL, max_attempts), ..probe.new_cycle() };
            probe.schedule(&new).await;
            for attempt in 1..=last {
                let claim = probe.claim(&new.key, "when an attempt is due").await;
                probe.advance(LEASE / 2);
                if attempt < last {
                    let cycle = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
                    probe.is_idle(&cycle, probe.now() + INTERVAL, "while its plan has attempts left");
                    probe.advance(INTERVAL);
                    continue;
                }
                let cycle = probe.recorded(&claim, verdict, "of a running attempt").await;
                let when = format!("after {verdict:?} of attempt {attempt} of {max_attempts}");
                let reason = match verdict {
                    Verdict::Permanent => EndReason::PermanentFailure,
                    Verdict::Crashed => EndReason::CrashedTooOften,
                    Verdict::Failure | Verdict::Success => EndReason::AttemptsUsedUp,
                };
                probe.is_ended(&cycle, reason, &when);
                probe.same(
                    &counts(&cycle),
                    &(attempt, attempt, 0, 0),
                    format_args!("what is counted {when}"),
                );
                probe.advance(INTERVAL + LEASE);
                probe.none_due("when the only cycle is exhausted").await;
                probe.is(&cycle, "long after it was exhausted").await;
            }
        }
    }
}

pub(super) async fn attempts<H: Harness>(probe: &Probe<'_, H>) {
    let new = NewCycle { plan: probe.plan(INTERVAL, 4), ..probe.new_cycle() };
    probe.schedule(&new).await;
    let mut wanted = Vec::new();
    let every_byte = (0..=u8::MAX).rev().collect::<Bytes>();
    for (verdict, detail) in
        [(Verdict::Failure, every_byte), (Verdict::Failure, Bytes::new()), (Verdict::Permanent, "ü".into())]
    {
        // What is taken over or given back leaves nothing.
        probe.claim(&new.key, "when an attempt is due").await;
        probe.advance(LEASE);
        let claim = probe.claim(&new.key, "when the lease is over").await;
        probe.held(probe.defer_by(&claim, LEASE).await, "defer of a running attempt");
        probe.same(&probe.attempts(&new.key).await, &wanted, "the list of attempts when one was given back");
        probe.advance(LEASE);
        wanted.push(attempt(probe, &claim.cycle.key, verdict, detail).await);
        probe.same(&probe.attempts(&new.key).await, &wanted, "the list of attempts");
        probe.advance(INTERVAL);
    }
    // Nor does what was fenced; and the numbers go on when the cycle begins anew, twice.
    for _ in 0..2 {
        let change = Reschedule { plan: new.plan.clone(), next_in: Duration::ZERO, reactivate: true };
        probe.reactivated(&new.key, &change, "of a cycle that ended").await;
        wanted.push(attempt(probe, &new.key, Verdict::Failure, "again".into()).await);
        probe.advance(INTERVAL);
        let claim = probe.claim(&new.key, "when an attempt is due").await;
        probe.cancelled(&new.key, "of a cycle that is being attempted").await;
        let late = probe.finish(&claim, Verdict::Success).await;
        probe.same(&late, &Finished::Stale, "the report on a cancelled cycle");
        probe.same(&probe.attempts(&new.key).await, &wanted, "the list of attempts of a cancelled cycle");
    }
    let numbers: Vec<_> = wanted.iter().map(|attempt| attempt.number).collect();
    probe.same(&numbers, &vec![1, 2, 3, 4, 5], "the list of numbers");
}

/// Makes an attempt, and says what is to be kept of it.
async fn attempt<H: Harness>(
    probe: &Probe<'_, H>,
    key: &crate::CycleKey,
    verdict: Verdict,
    detail: Bytes,
) -> AttemptRecord {
    let claim = probe.claim(key, "when an attempt is due").await;
    let started_at = probe.now();
    probe.advance(LEASE / 3);
    let report = Report::new(verdict).detail(detail.clone());
    let finished = probe.unfailing(probe.handle().finish(&claim, report).await, "finish");
    let recorded = matches!(finished, Finished::Recorded(_));
    probe.ensure(recorded, format_args!("finish of a running attempt was {finished:?}, not Recorded"));
    let finished_at = probe.now();
    AttemptRecord::new(claim.attempt(), started_at, finished_at, verdict, detail)
}

pub(super) async fn many_reports<H: Harness>(probe: &Probe<'_, H>) {
    probe.same(&probe.finish_many(Vec::new()).await, &Vec::new(), "the answer to no reports");
    let old = probe.claimed(&probe.new_cycle()).await;
    probe.advance(LEASE);
    let heir = probe.claim(&old.cycle.key, "when the lease is over").await;
    for _ in 0..5 {
        probe.schedule(&probe.new_cycle()).await;
    }
    let claims = probe.all_due().await;
    probe.advance(MS);
    let [one, two, three, four, silent] = &claims[..] else { probe.fail("the kit lost a claim") };
    let stale = Claimed { cycle: crate::Cycle { epoch: u64::MAX, ..four.cycle.clone() }, ..four.clone() };
    let said = |detail: &'static str, verdict| Report::new(verdict).detail(detail);
    let reports = vec![
        (three.clone(), said("three", Verdict::Failure)),
        (old.clone(), said("old", Verdict::Success)),
        (one.clone(), said("one", Verdict::Success)),
        (three.clone(), said("three again", Verdict::Success)),
        (stale, said("stale", Verdict::Success)),
        (two.clone(), said("two", Verdict::Permanent)),
        (heir.clone(), said("heir", Verdict::Failure)),
        (four.clone(), said("four", Verdict::Failure)),
        (one.clone(), said("one again", Verdict::Failure)),
    ];
    let answers = probe.finish_many(reports.clone()).await;
    let recorded: Vec<_> = answers.iter().map(|answer| matches!(answer, Finished::Recorded(_))).collect();
    let wanted = vec![true, false, true, false, false, true, true, true, false];
    probe.same(&recorded, &wanted, "the list of which of many reports were recorded");
    for ((claim, report), answer) in reports.iter().zip(&answers) {
        let Finished::Recorded(cycle) = answer else { continue };
        probe.same(&cycle.key, &claim.cycle.key, "the key in the answer to one of many reports");
        probe.is(cycle, "after many reports").await;
        match report.verdict {
            Verdict::Success => probe.is_ended(cycle, EndReason::Succeeded, "after many reports"),
            Verdict::Permanent => probe.is_ended(cycle, EndReason::PermanentFailure, "after many reports"),
            Verdict::Failure | Verdict::Crashed => {
                probe.is_idle(cycle, probe.now() + INTERVAL, "after many reports");
            }
        }
        probe.same(&counts(cycle), &(1, 1, 0, 0), "what is counted after many reports");
        let details: Vec<_> = probe.attempts(&cycle.key).await.into_iter().map(|it| it.detail).collect();
        probe.same(&details, &vec![report.detail.clone()], "the list of details after many reports");
    }
    probe.is(&silent.cycle, "that nothing was reported of").await;
    let again = probe.finish_many(reports).await;
    probe.ensure(
        again.iter().all(|answer| *answer == Finished::Stale),
        format_args!("the same reports again were {again:?}, not all Stale"),
    );
    many_at_once(probe).await;
}

/// The same reports from two sides, in opposite orders: neither waits for the other for ever, and each counts once.
async fn many_at_once<H: Harness>(probe: &Probe<'_, H>) {
    for _ in 0..probe.rounds().div_ceil(5) {
        probe.clear().await;
        for _ in 0..20 {
            probe.schedule(&probe.new_cycle()).await;
        }
        let claims = probe.all_due().await;
        probe.same(&claims.len(), &20, "the number of claims");
        let answers = probe.race(4, |racer, scheduler| {
            let mut reports: Vec<_> =
                claims.iter().map(|claim| (claim.clone(), report(Verdict::Failure))).collect();
            if racer % 2 == 1 {
                reports.reverse();
            }
            async move {
                let mut answers = scheduler.finish_many(reports).await?;
                if racer % 2 == 1 {
                    answers.reverse();
                }
                Ok(answers)
            }
        });
        let answers = answers.await;
        for (place, claim) in claims.iter().enumerate() {
            let recorded = |answers: &&Vec<_>| matches!(answers.get(place), Some(Ok(Finished::Recorded(_))));
            let count = answers.iter().filter(recorded).count();
            probe.same(&count, &1, "how often one report of four at once was recorded");
            let attempts = probe.attempts(&claim.cycle.key).await;
            probe.same(&attempts.len(), &1, "the number of attempts after four reports of one at once");
        }
    }
}
