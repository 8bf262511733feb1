//! The table, cell by cell.

use std::time::{Duration, SystemTime};

use super::{
    Activity, Cycle, CycleKey, EndReason, Ending, Event, Fence, NewCycle, Refused, Reschedule, State, Verdict,
};
use crate::millis::from_ms;
use crate::plan::Plan;

const NOW: i64 = 1_000_000;
const MINUTE: Duration = Duration::from_mins(1);

fn now() -> SystemTime {
    from_ms(NOW)
}

const FENCE: Fence = Fence { epoch: 7, nonce: 70 };

/// Twice failed, with a third attempt to go, under epoch 7 and nonce 70.
fn cycle(state: State) -> Cycle {
    Cycle {
        key: CycleKey::new("test", "17"),
        tenant: "tenant".to_owned(),
        plan: Plan::every(MINUTE, 3).unwrap(),
        state,
        epoch: 7,
        nonce: 70,
        attempts: 5,
        used: 2,
        lapses: 1,
        deferrals: 1,
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
    let reason = match ending {
        Ending::Resolved => EndReason::Succeeded,
        Ending::Exhausted => EndReason::TooLate,
        Ending::Cancelled => EndReason::Cancelled,
    };
    cycle(State::ended(reason, from_ms(1)))
}

fn reschedule(max_attempts: u32, reactivate: bool) -> Event {
    let change = Reschedule::new(Plan::every(MINUTE, max_attempts).unwrap());
    Event::Reschedule(change.next_in(MINUTE).reactivate(reactivate))
}

/// What an event made of a cycle, in short: where it stands, and what is counted where that has changed.
fn told(cycle: &Cycle, event: Event) -> String {
    let transition = match cycle.apply(event, now()) {
        Ok(transition) => transition,
        Err(Refused::NotDue) => return "not due".to_owned(),
        Err(Refused::Ended(_)) => return "ended".to_owned(),
        Err(Refused::Stale) => return "stale".to_owned(),
        Err(Refused::Leased) => return "is leased".to_owned(),
    };
    let next = transition.cycle;
    assert_eq!((&next.key, &next.tenant), (&cycle.key, &cycle.tenant));
    assert_eq!(transition.attempt, (next.attempts > cycle.attempts).then_some(next.attempts));
    let in_a_minute = from_ms(NOW + 60_000);
    let mut told = match next.state {
        State::Pending(Activity::Idle { due }) if due == in_a_minute => "idle".to_owned(),
        State::Pending(Activity::Idle { due }) if due == now() => "due".to_owned(),
        State::Pending(Activity::Leased { until }) if until == in_a_minute => "leased".to_owned(),
        State::Ended { ending, reason, at } if at == now() => {
            assert_eq!(reason.ending(), ending);
            reason.to_string()
        }
        other => format!("{other:?}"),
    };
    let counts = |cycle: &Cycle| {
        let &Cycle { epoch, nonce, attempts, used, lapses, deferrals, reactivations, .. } = cycle;
        [
            ("epoch", epoch),
            ("nonce", nonce),
            ("attempts", attempts.into()),
            ("used", used.into()),
            ("lapses", lapses.into()),
            ("deferrals", deferrals.into()),
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
    let claim = || Event::Claim { lease: MINUTE, nonce: 80 };
    let extend = || Event::Extend { fence: FENCE, lease: MINUTE };
    let finish = |verdict| Event::Finish { fence: FENCE, verdict, retry_in: None };
    let defer = || Event::Defer { fence: FENCE, delay: MINUTE };
    let recorded = "attempts 6 used 3 lapses 0 deferrals 0";
    let recorded = |reason: &str| format!("{reason} {recorded}");
    let (claimed, retaken) = ("leased epoch 8 nonce 80", "leased epoch 8 nonce 80 lapses 2");
    let (changed, used_up) =
        ("idle epoch 8 lapses 0 deferrals 0", "attempts used up epoch 8 lapses 0 deferrals 0");
    let (succeeded, failed) = (recorded("succeeded"), recorded("attempts used up"));
    let (permanent, crashed) = (recorded("permanent failure"), recorded("crashed too often"));
    let rows: [(&str, Event, [&str; 3]); 13] = [
        ("claim", claim(), [claimed, retaken, "ended"]),
        ("extend", extend(), ["stale", "leased", "stale"]),
        ("success", finish(Verdict::Success), ["stale", &succeeded, "stale"]),
        ("failure", finish(Verdict::Failure), ["stale", &failed, "stale"]),
        ("permanent", finish(Verdict::Permanent), ["stale", &permanent, "stale"]),
        ("crashed", finish(Verdict::Crashed), ["stale", &crashed, "stale"]),
        ("defer", defer(), ["stale", "idle deferrals 2", "stale"]),
        ("cancel", Event::Cancel, ["cancelled epoch 8", "cancelled epoch 8", "ended"]),
        ("run now", Event::RunNow, ["due", "is leased", "ended"]),
        ("reschedule", reschedule(3, false), [changed, changed, "ended"]),
        ("to reactivate", reschedule(3, true), [changed, changed, "begins"]),
        ("to the end", reschedule(2, true), [used_up, used_up, "begins"]),
        ("beyond the end", reschedule(1, true), [used_up, used_up, "begins"]),
    ];
    for (name, event, [when_idle, when_leased, when_ended]) in rows {
        assert_eq!(told(&idle(NOW), event.clone()), when_idle, "{name}, idle");
        assert_eq!(told(&leased(NOW), event.clone()), when_leased, "{name}, leased");
        for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled] {
            let wanted = match (when_ended, ending) {
                ("begins", Ending::Resolved) => "ended",
                ("begins", _) => "idle epoch 8 used 0 lapses 0 deferrals 0 reactivations 2",
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
        let failed = failed
            .apply(Event::Finish { fence: FENCE, verdict: Verdict::Failure, retry_in: None }, now())
            .unwrap()
            .cycle;
        let due = now() + (used + 1) * MINUTE;
        assert_eq!((failed.state, failed.attempts), (State::Pending(Activity::Idle { due }), 6));
    }
}

#[test]
fn another_fence_is_stale_in_every_state() {
    let epochs = [0, 6, 8, u64::MAX].map(|epoch| Fence { epoch, ..FENCE });
    let nonces = [0, 69, 71, u64::MAX].map(|nonce| Fence { nonce, ..FENCE });
    for fence in epochs.into_iter().chain(nonces) {
        for cycle in [idle(NOW), leased(NOW), leased(NOW + 1), ended(Ending::Cancelled)] {
            assert_eq!(told(&cycle, Event::Extend { fence, lease: MINUTE }), "stale");
            assert_eq!(
                told(&cycle, Event::Finish { fence, verdict: Verdict::Success, retry_in: None }),
                "stale"
            );
            assert_eq!(told(&cycle, Event::Defer { fence, delay: MINUTE }), "stale");
        }
    }
}

#[test]
fn no_attempt_begins_after_the_last_start() {
    let until = |cycle: Cycle, last: i64| Cycle { plan: cycle.plan.deadline(from_ms(last)), ..cycle };
    let claim = || Event::Claim { lease: MINUTE, nonce: 80 };
    assert_eq!(told(&until(idle(1), NOW), claim()), "leased epoch 8 nonce 80");
    assert_eq!(told(&until(idle(1), NOW - 1), claim()), "too late epoch 8 nonce 80");
    assert_eq!(told(&until(leased(1), NOW - 1), claim()), "too late epoch 8 nonce 80 lapses 2");

    let first = Cycle { used: 0, ..leased(NOW) };
    let finish = || Event::Finish { fence: FENCE, verdict: Verdict::Failure, retry_in: None };
    assert_eq!(
        told(&until(first.clone(), NOW + 60_000), finish()),
        "idle attempts 6 used 1 lapses 0 deferrals 0"
    );
    assert_eq!(
        told(&until(first, NOW + 59_999), finish()),
        "too late attempts 6 used 1 lapses 0 deferrals 0"
    );

    let plan = Plan::every(MINUTE, 3).unwrap().deadline(from_ms(NOW + 59_999));
    let change = Event::Reschedule(Reschedule::new(plan.clone()).next_in(MINUTE).reactivate(true));
    assert_eq!(told(&idle(1), change.clone()), "too late epoch 8 lapses 0 deferrals 0");
    let begun = "too late epoch 8 used 0 lapses 0 deferrals 0 reactivations 2";
    assert_eq!(told(&ended(Ending::Cancelled), change), begun);

    let new = NewCycle::new(CycleKey::new("test", "18"), plan).first_in(MINUTE);
    assert_eq!(Cycle::new(&new, now()).end_reason(), Some(EndReason::TooLate));
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
    let claimed = full.apply(Event::Claim { lease: Duration::MAX, nonce: 80 }, now()).unwrap().cycle;
    assert_eq!(claimed.lapses, u32::MAX);
    let failed = full
        .apply(Event::Finish { fence: FENCE, verdict: Verdict::Failure, retry_in: None }, now())
        .unwrap()
        .cycle;
    assert_eq!(
        (failed.attempts, failed.used, failed.ending()),
        (u32::MAX, u32::MAX, Some(Ending::Exhausted))
    );
}

#[test]
fn a_failure_may_have_a_delay_of_its_own() {
    let first = Cycle { used: 0, ..leased(NOW) };
    let after = |verdict, own| {
        let event = Event::Finish { fence: FENCE, verdict, retry_in: Some(own) };
        let State::Pending(Activity::Idle { due }) = first.apply(event, now()).unwrap().cycle.state else {
            panic!("it goes on")
        };
        due.duration_since(now()).unwrap()
    };
    assert_eq!(after(Verdict::Failure, Duration::from_secs(7)), Duration::from_secs(7));
    assert_eq!(after(Verdict::Failure, Duration::ZERO), Duration::ZERO);
    assert_eq!(after(Verdict::Failure, Duration::MAX), Plan::MAX_DELAY);
    assert_eq!(after(Verdict::Crashed, Duration::from_secs(7)), MINUTE);
}

#[test]
fn a_crashed_attempt_counts_and_the_cycle_goes_on_by_its_plan() {
    let first = Cycle { used: 0, ..leased(NOW) };
    let crashed = Event::Finish { fence: FENCE, verdict: Verdict::Crashed, retry_in: None };
    assert_eq!(told(&first, crashed), "idle attempts 6 used 1 lapses 0 deferrals 0");
}

#[test]
fn a_cycle_is_deferred_as_often_as_its_plan_allows_between_two_attempts() {
    let bounded = |most, deferrals| {
        let leased = leased(NOW);
        Cycle { plan: leased.plan.clone().max_deferrals(most), deferrals, used: 0, ..leased }
    };
    let defer = || Event::Defer { fence: FENCE, delay: MINUTE };
    assert_eq!(told(&bounded(0, 0), defer()), "deferred too often");
    assert_eq!(told(&bounded(3, 2), defer()), "idle deferrals 3");
    assert_eq!(told(&bounded(3, 3), defer()), "deferred too often");
    assert_eq!(told(&bounded(u32::MAX, u32::MAX - 1), defer()), "idle deferrals 4294967295");
    let failed = Event::Finish { fence: FENCE, verdict: Verdict::Failure, retry_in: None };
    assert_eq!(told(&bounded(3, 3), failed), "idle attempts 6 used 1 lapses 0 deferrals 0");
}

/// Of as many as fail together after one claim call: in each tenth of the time about as many come back.
#[test]
fn jitter_spreads_cycles_evenly() {
    for percent in [10, 50, 100] {
        let plan = Plan::every(MINUTE, 3).unwrap().jitter(percent).unwrap();
        let shortest = MINUTE * (100 - u32::from(percent)) / 100;
        let mut tenths = [0_u32; 10];
        for n in 0..20_000 {
            let key = CycleKey::new("test", format!("subject {n}"));
            let delay = Cycle { key, plan: plan.clone(), used: 1, ..leased(NOW) }.delay();
            assert!((shortest..=MINUTE).contains(&delay), "{delay:?}");
            let (past, most) =
                (delay.as_millis() - shortest.as_millis(), MINUTE.as_millis() - shortest.as_millis());
            let place = past * 10 / (most + 1);
            tenths[usize::try_from(place).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (1_800..2_200).contains(count)), "{percent} %: {tenths:?}");
    }
}

#[test]
fn jitter_differs_from_attempt_to_attempt_and_from_claim_to_claim() {
    let plan = Plan::every(Plan::MAX_DELAY, 3).unwrap().jitter(100).unwrap();
    let cycle = Cycle { plan, ..leased(NOW) };
    let delays = [
        cycle.delay(),
        Cycle { attempts: 6, ..cycle.clone() }.delay(),
        Cycle { epoch: 8, ..cycle.clone() }.delay(),
        Cycle { nonce: 71, ..cycle.clone() }.delay(),
    ];
    assert_eq!(delays[0], cycle.delay());
    for (place, delay) in delays.iter().enumerate() {
        assert!(!delays[..place].contains(delay), "{delays:?}");
    }
    let shortest = Plan::every(Duration::from_millis(1), 3).unwrap().jitter(100).unwrap();
    assert_eq!(Cycle { plan: shortest, ..cycle }.delay(), Duration::from_millis(1));
}
