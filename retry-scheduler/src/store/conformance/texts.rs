//! Names and sizes: clauses 24 and 25.

use std::time::Duration;

use bytes::Bytes;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, report};
use crate::bounds::{MAX_BYTES, MAX_TEXT};
use crate::claim::Report;
use crate::cycle::{CycleKey, NewCycle, Reschedule, Verdict};
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::scheduler::{Finished, RetryScheduler, Scheduled};

pub(super) async fn bounds<H: Harness>(probe: &Probe<'_, H>) {
    // As large as can be, in one-byte and two-byte characters; and as small.
    let large = (0..=250_u8).cycle().take(MAX_BYTES).collect::<Bytes>();
    let long = ["n".repeat(MAX_TEXT), format!("s{}", "ü".repeat(MAX_TEXT / 2)), String::new()];
    for text in &long {
        let tenant = text.clone();
        let new =
            NewCycle { key: CycleKey::new(text, text), tenant, payload: large.clone(), ..probe.new_cycle() };
        let cycle = probe.schedule(&new).await;
        probe.same(&cycle.tenant, text, "the tenant");
        let claim = probe.claim(&new.key, "of a new cycle").await;
        probe.ensure(claim.payload == large, "a payload of the largest size was not kept as it is");
        let report = Report::success().detail(large.clone());
        let finished = probe.unfailing(probe.handle().finish(&claim, report).await, "finish");
        probe.ensure(matches!(finished, Finished::Recorded(_)), format_args!("finish was {finished:?}"));
        let details: Vec<_> = probe.attempts(&new.key).await.into_iter().map(|it| it.detail).collect();
        probe.ensure(details == [large.clone()], "a detail of the largest size was not kept as it is");
    }

    let new = probe.new_cycle();
    let too_long =
        ["n".repeat(MAX_TEXT + 1), "ü".repeat(MAX_TEXT / 2 + 1), "a\0b".to_owned(), "\0".to_owned()];
    for text in &too_long {
        for key in [CycleKey::new(text, &new.key.subject), CycleKey::new("check", text)] {
            refused_key(probe, &key).await;
        }
        let new = NewCycle { tenant: text.clone(), ..new.clone() };
        invalid(
            probe,
            &probe.handle().schedule(new).await,
            "schedule with a tenant that is too long or has a NUL",
        );
    }
    let larger = Bytes::from(vec![7; MAX_BYTES + 1]);
    let fat = NewCycle { payload: larger.clone(), ..new.clone() };
    invalid(probe, &probe.handle().schedule(fat).await, "schedule with a payload that is too large");
    probe.same(&probe.get(&new.key).await, &None, "a cycle whose schedule was refused");
    probe.none_due("after refusals").await;

    let claim = probe.claimed(&new).await;
    let said = Report::success().detail(larger);
    invalid(
        probe,
        &probe.handle().finish(&claim, said.clone()).await,
        "finish with a detail that is too large",
    );
    probe.is(&claim.cycle, "after a report that was refused").await;
    let other = probe.claimed(&probe.new_cycle()).await;
    let reports = vec![(claim.clone(), said), (other.clone(), report(Verdict::Success))];
    let mut answers = probe.unfailing(probe.handle().finish_many(reports).await, "finish_many").into_iter();
    let refused = answers.next().unwrap_or(Ok(Finished::Stale));
    invalid(probe, &refused, "the answer of finish_many to a detail that is too large");
    let beside = answers.next().and_then(Result::ok);
    let recorded = matches!(beside, Some(Finished::Recorded(_)));
    probe.ensure(recorded, format_args!("a report beside one that was refused was {beside:?}"));
    probe.is(&claim.cycle, "after a report that was refused").await;
    let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
}

async fn refused_key<H: Harness>(probe: &Probe<'_, H>, key: &CycleKey) {
    let scheduler = probe.handle();
    let what = "with a key that is too long or has a NUL";
    let new = NewCycle { key: key.clone(), ..probe.new_cycle() };
    invalid(probe, &scheduler.schedule(new).await, format!("schedule {what}"));
    invalid(probe, &scheduler.get(key).await, format!("get {what}"));
    invalid(probe, &scheduler.attempts(key, 0, usize::MAX).await, format!("attempts {what}"));
    invalid(probe, &scheduler.cancel(key).await, format!("cancel {what}"));
    let change = Reschedule { plan: probe.plan(MS, 1), next_in: MS, reactivate: true };
    invalid(probe, &scheduler.reschedule(key, change).await, format!("reschedule {what}"));
}

fn invalid<H: Harness, T: std::fmt::Debug>(
    probe: &Probe<'_, H>,
    answer: &Result<T, SchedulerError>,
    what: impl std::fmt::Display,
) {
    let kind = answer.as_ref().map_err(SchedulerError::kind);
    let good = matches!(kind, Err(SchedulerErrorKind::Invalid));
    probe.ensure(good, format_args!("{what} was {answer:?}, not Invalid"));
}

pub(super) async fn independence<H: Harness>(probe: &Probe<'_, H>) {
    // Names that something careless takes for one.
    let names = [
        ("a", "b"),
        ("b", "a"),
        ("A", "b"),
        ("a", "B"),
        ("a", "b "),
        ("a ", "b"),
        ("a", " b"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a/b", "c"),
        ("a", "b/c"),
        ("", "ab"),
        ("ab", ""),
        ("", ""),
        ("a", "%"),
        ("a", "_"),
        ("a", "'"),
        ("a", "\""),
        ("a", "\\"),
        ("a", "1"),
        ("a", "01"),
        ("a", "1.0"),
        ("a", "null"),
        ("a", "\u{e9}"),
        ("a", "e\u{301}"),
        ("a", "\u{c9}"),
        ("a", "ß"),
        ("a", "ss"),
        ("a", "\u{200b}b"),
    ];
    let mut all = Vec::new();
    for (place, (namespace, subject)) in names.into_iter().enumerate() {
        let key = CycleKey::new(namespace, subject);
        let first_in = INTERVAL + MS * u32::try_from(place).unwrap_or_default();
        let new = NewCycle { key, first_in, payload: Bytes::from(format!("{place}")), ..probe.new_cycle() };
        match probe.try_schedule(&new).await {
            Scheduled::New(cycle) => all.push((new, cycle)),
            Scheduled::Exists(other) => {
                probe.fail(format_args!("{:?} was taken for {:?}", new.key, other.key))
            }
        }
    }
    // Everything that can be done, to one after the other: the others stay.
    probe.advance(INTERVAL);
    for place in 0..all.len() {
        let (new, _) = &all[place];
        let key = new.key.clone();
        let claim = probe.claim_for(&key, LEASE, "when one of many is due").await;
        probe.same(&claim.payload, &new.payload, format_args!("the payload of {key:?}"));
        probe.held(probe.extend_by(&claim, LEASE / 2).await, "extend of a running attempt");
        others_stay(probe, &all, place, "claim_due and extend").await;
        if place % 2 == 0 {
            let _ = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
        } else {
            probe.held(probe.defer_by(&claim, INTERVAL).await, "defer of a running attempt");
        }
        others_stay(probe, &all, place, "finish or defer").await;
        let change = Reschedule { plan: probe.plan(MS, 8), next_in: INTERVAL, reactivate: false };
        probe.changed(&key, &change, "of an idle cycle").await;
        others_stay(probe, &all, place, "reschedule").await;
        if place % 3 == 0 {
            probe.cancelled(&key, "of an idle cycle").await;
            others_stay(probe, &all, place, "cancel").await;
        }
        all[place].1 = probe.known(&key).await;
        let attempts = probe.attempts(&key).await.len();
        probe.same(
            &attempts,
            &usize::from(place % 2 == 0),
            format_args!("the number of attempts of {key:?}"),
        );
        probe.advance(Duration::from_millis(1));
    }
}

async fn others_stay<H: Harness>(
    probe: &Probe<'_, H>,
    all: &[(NewCycle, crate::Cycle)],
    place: usize,
    verb: &str,
) {
    for (other, (_, cycle)) in all.iter().enumerate() {
        // Each is looked at often enough over the rounds.
        if other != place && (other + place).is_multiple_of(4) || other + 1 == place || other == place + 1 {
            probe.is(cycle, format_args!("after {verb} of {:?}", all[place].0.key)).await;
        }
    }
}
