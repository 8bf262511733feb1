//! When attempts are due.

mod support;

use std::time::{Duration, SystemTime};

use account_retry_policy::{Plan, RetryPolicy};

use support::{VERDICTS, Verdict, basic, caps, policy, seconds};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn attempts_are_one_interval_apart_and_as_many_as_the_policy_has() {
    let due: Vec<_> = policy(3, 600, &VERDICTS).schedule(&basic(), at(1_000)).collect();
    assert_eq!(due, [at(1_600), at(2_200), at(2_800)]);
}

#[test]
fn no_attempt_is_past_the_age_and_one_exactly_at_it_counts() {
    let three = policy(3, 600, &VERDICTS);
    let count = |age| {
        // A plan this small would not grant the policy, which is one that was saved before.
        let plan =
            Plan::new().min_interval_seconds(seconds(1)).max_interval_seconds(599).max_age_seconds(age);
        three.schedule(&caps(&plan), at(7)).count()
    };
    assert_eq!([599, 600, 1_199, 1_200, 1_799, 1_800].map(count), [0, 1, 1, 2, 2, 3]);
}

#[test]
fn the_next_attempt_is_due_one_interval_after_the_end_of_the_last() {
    let schedule = policy(3, 600, &VERDICTS).schedule(&basic(), at(0));
    assert_eq!(schedule.clone().resume(1, at(750)).collect::<Vec<_>>(), [at(1_350), at(1_950)]);
    assert_eq!(schedule.clone().resume(3, at(1_800)).next(), None);
    assert_eq!(schedule.clone().resume(u32::MAX, at(1_800)).next(), None);
    // The age is that of the work, not of the last attempt.
    assert_eq!(schedule.resume(1, at(604_300)).next(), None);
}

#[test]
fn a_disabled_policy_plans_nothing() {
    assert_eq!(RetryPolicy::<Verdict>::disabled().schedule(&basic(), at(0)).next(), None);
}

#[test]
fn four_billion_attempts_are_not_computed_before_they_are_asked_for() {
    let ages = caps(&Plan::new().max_age_seconds(u32::MAX));
    let mut schedule = policy(u32::MAX, 1, &VERDICTS).schedule(&ages, at(0));
    assert_eq!(schedule.next(), Some(at(1)));
    assert_eq!(schedule.nth(9), Some(at(11)));
}

#[test]
fn a_time_beyond_the_clock_ends_the_schedule() {
    let mut last = SystemTime::UNIX_EPOCH;
    for power in (0..63).rev() {
        last = last.checked_add(Duration::from_secs(1 << power)).unwrap_or(last);
    }
    assert_eq!(policy(3, 600, &VERDICTS).schedule(&basic(), last).next(), None);
}
