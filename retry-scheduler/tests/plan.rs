//! Plans, names and clocks.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use account_retry_policy::RetryPolicyInput;
use bytes::Bytes;
use retry_scheduler::{
    Claimed, Clock, Cycle, CycleKey, ManualClock, MonotonicClock, NewCycle, Plan, PlanError, SystemClock,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_plan_makes_sense_or_is_none() {
    assert_eq!(Plan::every(MS, 0), Err(PlanError::NoAttempts));
    assert_eq!(Plan::delays([], 1), Err(PlanError::Delays));
    assert_eq!(Plan::delays([MS; Plan::MAX_DELAYS + 1], 1), Err(PlanError::Delays));
    assert_eq!(Plan::delays(std::iter::repeat(MS), 1), Err(PlanError::Delays));
    assert_eq!(Plan::every(Duration::ZERO, 1), Err(PlanError::Delay));
    assert_eq!(Plan::every(Duration::from_nanos(999_999), 1), Err(PlanError::Delay));
    assert_eq!(Plan::every(Plan::MAX_DELAY + Duration::from_nanos(1), 1), Err(PlanError::Delay));
    assert_eq!(Plan::delays([MS, Duration::ZERO], 1), Err(PlanError::Delay));
    assert!(Plan::delays([Plan::MAX_DELAY; Plan::MAX_DELAYS], u32::MAX).is_ok());
}

#[test]
fn the_nth_delay_follows_the_nth_attempt_and_the_last_repeats() {
    let plan = Plan::delays([3 * MS, MS, 2 * MS], 9).unwrap();
    let delays: Vec<_> = [0, 1, 2, 3, 4, u32::MAX].map(|attempts| plan.delay_after(attempts)).into();
    assert_eq!(delays, [3 * MS, 3 * MS, MS, 2 * MS, 2 * MS, 2 * MS]);
}

#[test]
fn a_plan_is_in_whole_milliseconds_and_never_earlier() {
    let plan = Plan::every(MS + Duration::from_nanos(1), 1).unwrap();
    assert_eq!(plan.delay_list(), [2 * MS]);
    let plan = plan.deadline(UNIX_EPOCH + 5 * MS + Duration::from_nanos(1));
    assert_eq!(plan.last_start(), Some(UNIX_EPOCH + 5 * MS));
    assert!(plan.begins_at(UNIX_EPOCH + 5 * MS) && !plan.begins_at(UNIX_EPOCH + 6 * MS));
}

#[test]
fn a_policy_makes_a_plan_unless_it_is_disabled() {
    let policy = |text| serde_json::from_str::<RetryPolicyInput>(text).unwrap().restore::<String>().unwrap();
    let enabled = policy(r#"{"enabled":true,"max_retries":3,"interval_seconds":600,"outcomes":["busy"]}"#);
    assert_eq!(Plan::of_policy(&enabled), Plan::every(Duration::from_mins(10), 3).ok());
    let disabled = policy(r#"{"enabled":false,"max_retries":0,"interval_seconds":0,"outcomes":[]}"#);
    assert_eq!(Plan::of_policy(&disabled), None);
    let text =
        format!(r#"{{"enabled":true,"max_retries":1,"interval_seconds":{},"outcomes":["busy"]}}"#, u32::MAX);
    assert_eq!(Plan::of_policy(&policy(&text)), Plan::every(Plan::MAX_DELAY, 1).ok());
}

#[test]
fn no_two_attempts_have_the_same_key() {
    let names =
        ["a", "b", "a:b", "b:c", "a%3Ab", "a%3ab", "a%253Ab", "a:", ":a", ":", "::", "%", "1", "a:1", ""];
    let mut keys = HashSet::new();
    for namespace in names {
        for subject in names {
            for attempts in [0, 1, 10] {
                let key = CycleKey::new(namespace, subject);
                let new = NewCycle::new(key, Plan::every(MS, 1).unwrap());
                let mut cycle = Cycle::new(&new, UNIX_EPOCH);
                cycle.attempts = attempts;
                let claim = Claimed::new(cycle, Bytes::new(), UNIX_EPOCH);
                assert!(
                    keys.insert(claim.attempt_key()),
                    "{namespace} {subject} {attempts}: {}",
                    claim.attempt_key()
                );
            }
        }
    }
    assert!(keys.contains("a:b:11"));
}

#[test]
fn a_manual_clock_stands_where_it_is_put_for_all_its_clones() {
    let clock = ManualClock::new(UNIX_EPOCH + 7 * MS);
    let clone = clock.clone();
    clock.advance(5 * MS);
    assert_eq!(clone.now(), UNIX_EPOCH + 12 * MS);
    clone.set(UNIX_EPOCH + 3 * MS);
    assert_eq!(clock.now(), UNIX_EPOCH + 3 * MS);
    clone.set(UNIX_EPOCH - MS);
    assert_eq!(clock.now(), UNIX_EPOCH);
}

#[tokio::test(start_paused = true)]
async fn a_monotonic_clock_starts_at_the_machines_time_and_goes_with_tokios() {
    let before = SystemClock.now();
    let clock = MonotonicClock::new();
    let start = clock.now();
    assert!(before <= start && start <= SystemClock.now());
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(clock.now(), start + Duration::from_hours(1));
}
