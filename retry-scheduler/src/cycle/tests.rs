//! The table, cell by cell.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Activity, Cycle, CycleKey, Ending, Event, Refused, State, Verdict};
use crate::millis::from_ms;
use crate::plan::Plan;
use crate::scheduler::{NewCycle, Reschedule};

const NOW: i64 = 1_000_000;
const MINUTE: Duration = Duration::from_mins(1);

fn now() -> SystemTime {
    from_ms(NOW)
}

/// Twice failed, with a third attempt to go, under epoch 7.
fn cycle(state: State) -> Cycle {
    Cycle {
        key: CycleKey::new("test", "17"),
        tenant: "tenant".to_owned(),
        plan: Plan::every(MINUTE, 3).unwrap(),
        state,
        epoch: 7,
        attempts: 5,
        used: 2,
        lapses: 1,
        reactivations: 1,
    }
}

fn idle(due: i64) -> Cycle {
    cycle(State::Pending(Activity::Idle { due: from_ms(due) }))
}

fn leased(until: i64) -> Cycle {
    cycle(State::Pending(Activity::Leased { until: from_ms(until) }))
}

fn ended(ending: Ending) -> Cycle {
    cycle(State::Ended { ending, at: from_ms(1) })
}

fn reschedule(max_attempts: u32, reactivate: bool) -> Event {
    Event::Reschedule(Reschedule {
        plan: Plan::every(MINUTE, max_attempts).unwrap(),
        next_in: MINUTE,
        reactivate,
    })
}

/// What an event made of a cycle, in short: where it stands, and what is counted where that has changed.
fn told(cycle: &Cycle, event: Event) -> String {
    let transition = match cycle.apply(event, now()) {
        Ok(transition) => transition,
        Err(Refused::NotDue) => return "not due".to_owned(),
        Err(Refused::Ended(_)) => return "ended".to_owned(),
        Err(Refused::Stale) => return "stale".to_owned(),
    };
    let next = transition.cycle;
    assert_eq!((&next.key, &next.tenant), (&cycle.key, &cycle.tenant));
    assert_eq!(transition.attempt, (next.attempts > cycle.attempts).then_some(next.attempts));
    let in_a_minute = from_ms(NOW + 60_000);
    let mut told = match next.state {
        State::Pending(Activity::Idle { due }) if due == in_a_minute => "idle".to_owned(),
        State::Pending(Activity::Leased { until }) if until == in_a_minute => "leased".to_owned(),
        State::Ended { ending, at } if at == now() => ending.to_string(),
        other => format!("{other:?}"),
    };
    let counts = |cycle: &Cycle| {
        let &Cycle { epoch, attempts, used, lapses, reactivations, .. } = cycle;
        [
            ("epoch", epoch),
            ("attempts", attempts.into()),
            ("used", used.into()),
            ("lapses", lapses.into()),
            ("reactivations", reactivations.into()),
        ]
    };
    for ((name, before), (_, after)) in counts(cycle).into_iter().zip(counts(&next)) {
        if before != after {
            told.extend([" ", name, " ", &after.to_string()]);
        }
    }
    told
}

#[test]
fn every_event_does_what_the_table_says_in_every_state() {
    let claim = || Event::Claim { lease: MINUTE };
    let extend = || Event::Extend { epoch: 7, lease: MINUTE };
    let finish = |verdict| Event::Finish { epoch: 7, verdict };
    let defer = || Event::Defer { epoch: 7, delay: MINUTE };
    let rows: [(&str, Event, [&str; 3]); 11] = [
        ("claim", claim(), ["leased epoch 8", "leased epoch 8 lapses 2", "ended"]),
        ("extend", extend(), ["stale", "leased", "stale"]),
        ("success", finish(Verdict::Success), ["stale", "resolved attempts 6 used 3 lapses 0", "stale"]),
        ("failure", finish(Verdict::Failure), ["stale", "exhausted attempts 6 used 3 lapses 0", "stale"]),
        ("hopeless", finish(Verdict::Hopeless), ["stale", "exhausted attempts 6 used 3 lapses 0", "stale"]),
        ("defer", defer(), ["stale", "idle", "stale"]),
        ("cancel", Event::Cancel, ["cancelled epoch 8", "cancelled epoch 8", "ended"]),
        ("reschedule", reschedule(3, false), ["idle epoch 8 lapses 0", "idle epoch 8 lapses 0", "ended"]),
        ("to reactivate", reschedule(3, true), ["idle epoch 8 lapses 0", "idle epoch 8 lapses 0", "begins"]),
        (
            "to the end",
            reschedule(2, true),
            ["exhausted epoch 8 lapses 0", "exhausted epoch 8 lapses 0", "begins"],
        ),
        (
            "beyond the end",
            reschedule(1, true),
            ["exhausted epoch 8 lapses 0", "exhausted epoch 8 lapses 0", "begins"],
        ),
    ];
    for (name, event, [when_idle, when_leased, when_ended]) in rows {
        assert_eq!(told(&idle(NOW), event.clone()), when_idle, "{name}, idle");
        assert_eq!(told(&leased(NOW), event.clone()), when_leased, "{name}, leased");
        for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled] {
            let wanted = match (when_ended, ending) {
                ("begins", Ending::Resolved) => "ended",
                ("begins", _) => "idle epoch 8 used 0 lapses 0 reactivations 2",
                (other, _) => other,
            };
            assert_eq!(told(&ended(ending), event.clone()), wanted, "{name}, {ending}");
        }
    }
    assert_eq!(told(&idle(NOW + 1), claim()), "not due");
    assert_eq!(told(&leased(NOW + 1), claim()), "not due");
}

/// The delay is that of the attempts that count, not of all there ever were.
#[test]
fn a_failure_with_attempts_left_goes_on_after_the_delay_of_its_place() {
    let delays = [1, 2, 3, 4, 5, 6, 7].map(|n| n * MINUTE);
    for used in 0..6 {
        let plan = Plan::delays(delays, 7).unwrap();
        let failed = Cycle { plan, used, ..leased(NOW) };
        let failed =
            failed.apply(Event::Finish { epoch: 7, verdict: Verdict::Failure }, now()).unwrap().cycle;
        let due = now() + (used + 1) * MINUTE;
        assert_eq!((failed.state, failed.attempts), (State::Pending(Activity::Idle { due }), 6));
    }
}

#[test]
fn another_epoch_is_stale_in_every_state() {
    for epoch in [0, 6, 8, u64::MAX] {
        for cycle in [idle(NOW), leased(NOW), leased(NOW + 1), ended(Ending::Cancelled)] {
            assert_eq!(told(&cycle, Event::Extend { epoch, lease: MINUTE }), "stale");
            assert_eq!(told(&cycle, Event::Finish { epoch, verdict: Verdict::Success }), "stale");
            assert_eq!(told(&cycle, Event::Defer { epoch, delay: MINUTE }), "stale");
        }
    }
}

#[test]
fn no_attempt_begins_after_the_last_start() {
    let until = |cycle: Cycle, last: i64| Cycle { plan: cycle.plan.deadline(from_ms(last)), ..cycle };
    let claim = || Event::Claim { lease: MINUTE };
    assert_eq!(told(&until(idle(1), NOW), claim()), "leased epoch 8");
    assert_eq!(told(&until(idle(1), NOW - 1), claim()), "exhausted epoch 8");
    assert_eq!(told(&until(leased(1), NOW - 1), claim()), "exhausted epoch 8 lapses 2");

    let first = Cycle { used: 0, ..leased(NOW) };
    let finish = || Event::Finish { epoch: 7, verdict: Verdict::Failure };
    assert_eq!(told(&until(first.clone(), NOW + 60_000), finish()), "idle attempts 6 used 1 lapses 0");
    assert_eq!(told(&until(first, NOW + 59_999), finish()), "exhausted attempts 6 used 1 lapses 0");

    let plan = Plan::every(MINUTE, 3).unwrap().deadline(from_ms(NOW + 59_999));
    let change = Event::Reschedule(Reschedule { plan: plan.clone(), next_in: MINUTE, reactivate: true });
    assert_eq!(told(&idle(1), change.clone()), "exhausted epoch 8 lapses 0");
    let begun = "exhausted epoch 8 used 0 lapses 0 reactivations 2";
    assert_eq!(told(&ended(Ending::Cancelled), change), begun);

    let key = CycleKey::new("test", "18");
    let new = NewCycle { key, tenant: String::new(), plan, first_in: MINUTE, payload: Bytes::new() };
    assert_eq!(Cycle::new(&new, now()).ending(), Some(Ending::Exhausted));
    assert_eq!(Cycle::new(&NewCycle { first_in: MINUTE / 2, ..new }, now()).ending(), None);
}

#[test]
fn counts_stop_where_they_end() {
    let full = Cycle {
        attempts: u32::MAX,
        used: u32::MAX - 1,
        lapses: u32::MAX,
        reactivations: u32::MAX,
        ..leased(NOW)
    };
    let full = Cycle { plan: Plan::every(MINUTE, u32::MAX).unwrap(), ..full };
    let claimed = full.apply(Event::Claim { lease: Duration::MAX }, now()).unwrap().cycle;
    assert_eq!(claimed.lapses, u32::MAX);
    let failed = full.apply(Event::Finish { epoch: 7, verdict: Verdict::Failure }, now()).unwrap().cycle;
    assert_eq!(
        (failed.attempts, failed.used, failed.ending()),
        (u32::MAX, u32::MAX, Some(Ending::Exhausted))
    );
}
