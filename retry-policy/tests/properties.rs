//! The promises of parsing and tightening, for any input.

mod support;

use std::collections::HashSet;

use account_retry_policy::{Caps, Field, Plan, RetryPolicy, RetryPolicyInput, effective};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Number, Value, json};

use support::{VERDICTS, Verdict, caps, seconds};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| Number::from_f64(float).map_or(Value::Null, Value::from)),
        ".{0,80}".prop_map(Value::from),
        outcome_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((member_name(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn member_name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "enabled",
            "max_retries",
            "interval_seconds",
            "outcomes",
            "$serde_json::private::Number",
            "$serde_json::private::RawValue",
        ])
        .prop_map(String::from),
        ".{0,12}",
    ]
}

fn outcome_text() -> impl Strategy<Value = &'static str> {
    select(vec!["not_found", "cep_unavailable", "error", "valid", "", "NOT_FOUND", "error "])
}

/// An object in which each field is sometimes missing, often near its limits, and sometimes anything.
fn near_policy() -> impl Strategy<Value = Value> {
    let enabled = prop_oneof![6 => Just(json!(true)), 1 => Just(json!(false)), 1 => any_json()];
    let integer = |right: Vec<u32>| {
        prop_oneof![
            8 => select(right).prop_map(Value::from),
            1 => (0..12_u32).prop_map(Value::from),
            1 => select(vec![json!(-1), json!(3.0), json!(600.0), json!(1e20), json!(u64::MAX), json!("3")]),
            1 => any_json(),
        ]
    };
    let max_retries = integer(vec![1, 2, 5, 6]);
    let interval_seconds = integer(vec![299, 300, 600, 86_400, 86_401]);
    let texts = |verdicts: Vec<Verdict>| verdicts.iter().map(ToString::to_string).collect::<Value>();
    let outcomes = prop_oneof![
        4 => subsequence(VERDICTS.to_vec(), 1..=3).prop_shuffle().prop_map(texts),
        2 => prop::collection::vec(select(VERDICTS.to_vec()), 0..4).prop_map(texts),
        2 => prop::collection::vec(any_json(), 0..5).prop_map(Value::from),
        1 => prop::collection::vec(outcome_text(), 60..70).prop_map(Value::from),
        1 => any_json(),
    ];
    let maybe = |value: BoxedStrategy<Value>| prop::option::weighted(0.95, value);
    (
        maybe(enabled.boxed()),
        maybe(max_retries.boxed()),
        maybe(interval_seconds.boxed()),
        maybe(outcomes.boxed()),
    )
        .prop_map(|(enabled, max_retries, interval_seconds, outcomes)| {
            let fields = [
                ("enabled", enabled),
                ("max_retries", max_retries),
                ("interval_seconds", interval_seconds),
                ("outcomes", outcomes),
            ];
            let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(given.collect())
        })
}

fn any_caps() -> impl Strategy<Value = Caps<Verdict>> {
    let ends = prop_oneof![4 => Just((300, 86_400)), 1 => (1..1_000_u32, 0..1_000_u32).prop_map(|(a, b)| (a, a + b))];
    let older = prop_oneof![Just(0), 0..1_000_000_u32];
    let eligible = prop_oneof![3 => Just(VERDICTS.to_vec()), 1 => subsequence(VERDICTS.to_vec(), 0..=3)];
    (0..12_u32, ends, older, eligible).prop_map(|(cap, (min, max), older, eligible)| {
        caps(
            &Plan::new()
                .max_retries_cap(cap)
                .min_interval_seconds(seconds(min))
                .max_interval_seconds(max)
                .max_age_seconds(max + older)
                .eligible_outcomes(eligible),
        )
    })
}

/// A policy saved under some other caps.
fn saved() -> impl Strategy<Value = RetryPolicy<Verdict>> {
    let number = || prop_oneof![1..20_u32, 1..2_000_u32, 1..=u32::MAX];
    let enabled = (number(), number(), subsequence(VERDICTS.to_vec(), 1..=3).prop_shuffle())
        .prop_map(|(max_retries, interval, outcomes)| support::policy(max_retries, interval, &outcomes));
    prop_oneof![1 => Just(RetryPolicy::disabled()), 9 => enabled]
}

/// The rules once more, from the contract and without the crate's code: the fields of `value` that are broken.
fn broken(value: &Value, caps: &Caps<Verdict>) -> HashSet<Field> {
    let Some(object) = value.as_object() else { return HashSet::from([Field::Policy]) };
    let enabled = object.get("enabled").and_then(Value::as_bool);
    if enabled == Some(false) {
        return HashSet::new();
    }
    let mut broken = HashSet::new();
    if enabled.is_none() {
        broken.insert(Field::Enabled);
    }
    let is_broken = |name, is_right: &dyn Fn(&Value) -> bool| match object.get(name) {
        None => enabled == Some(true),
        Some(value) => !is_right(value),
    };
    let in_range = |value: &Value, min: u32, max: u32| {
        value.as_u64().is_some_and(|number| u64::from(min) <= number && number <= u64::from(max))
    };
    let are_outcomes = |value: &Value| {
        let Some(list) = value.as_array() else { return false };
        let texts: HashSet<_> = list.iter().filter_map(Value::as_str).collect();
        let allowed: Vec<_> = caps.eligible_outcomes().iter().map(ToString::to_string).collect();
        !list.is_empty()
            && texts.len() == list.len()
            && texts.iter().all(|text| allowed.iter().any(|name| name == text))
    };
    if is_broken("max_retries", &|value| in_range(value, 1, caps.max_retries_cap())) {
        broken.insert(Field::MaxRetries);
    }
    if is_broken("interval_seconds", &|value| {
        in_range(value, caps.min_interval_seconds(), caps.max_interval_seconds())
    }) {
        broken.insert(Field::IntervalSeconds);
    }
    if is_broken("outcomes", &are_outcomes) {
        broken.insert(Field::Outcomes);
    }
    broken
}

fn is_within(policy: &RetryPolicy<Verdict>, caps: &Caps<Verdict>) -> bool {
    let outcomes = policy.outcomes();
    !policy.is_enabled()
        || (1..=caps.max_retries_cap()).contains(&policy.max_retries())
            && (caps.min_interval_seconds()..=caps.max_interval_seconds())
                .contains(&policy.interval_seconds())
            && !outcomes.is_empty()
            && outcomes.iter().all(|outcome| caps.eligible_outcomes().contains(outcome))
            && (1..outcomes.len()).all(|index| !outcomes[..index].contains(&outcomes[index]))
}

fn is_tried(policy: &RetryPolicy<Verdict>, caps: &Caps<Verdict>) -> bool {
    policy.schedule(caps, std::time::SystemTime::UNIX_EPOCH).next().is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_value_is_taken_in_text_and_in_memory_alike(value in prop_oneof![any_json(), near_policy()]) {
        let in_memory: RetryPolicyInput = serde_json::from_value(value.clone()).unwrap();
        let from_text: RetryPolicyInput = serde_json::from_str(&value.to_string()).unwrap();
        prop_assert_eq!(in_memory, from_text);
    }

    #[test]
    fn the_fields_reported_are_the_fields_that_are_broken(
        value in prop_oneof![1 => any_json(), 3 => near_policy()],
        caps in any_caps(),
    ) {
        let input: RetryPolicyInput = serde_json::from_value(value.clone()).unwrap();
        let reported = match input.parse(&caps) {
            Ok(_) => HashSet::new(),
            Err(violations) => {
                let fields: HashSet<_> = violations.iter().map(account_retry_policy::Violation::field).collect();
                prop_assert!(!fields.is_empty());
                fields
            }
        };
        prop_assert_eq!(reported, broken(&value, &caps));
    }

    #[test]
    fn what_parses_is_within_the_caps_and_parses_again(value in near_policy(), caps in any_caps()) {
        let input: RetryPolicyInput = serde_json::from_value(value).unwrap();
        if let Ok(policy) = input.parse(&caps) {
            prop_assert!(is_within(&policy, &caps));
            prop_assert!(!policy.is_enabled() || is_tried(&policy, &caps));
            let text = serde_json::to_string(&policy).unwrap();
            let again: RetryPolicyInput = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(again.parse(&caps).unwrap(), policy.clone());
            prop_assert_eq!(again.restore().unwrap(), policy);
        }
    }

    #[test]
    fn a_saved_policy_reads_back_as_itself(policy in saved()) {
        let text = serde_json::to_string(&policy).unwrap();
        let input: RetryPolicyInput = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&input, &RetryPolicyInput::from(&policy));
        prop_assert_eq!(input.restore().unwrap(), policy);
    }

    #[test]
    fn a_tightened_policy_is_valid_and_tightening_it_again_changes_nothing(saved in saved(), caps in any_caps()) {
        let (tightened, changes) = saved.tightened(&caps);
        prop_assert!(is_within(&tightened, &caps));
        prop_assert!(!tightened.is_enabled() || is_tried(&tightened, &caps));
        prop_assert_eq!(RetryPolicyInput::from(&tightened).parse(&caps).unwrap(), tightened.clone());
        prop_assert_eq!(changes.is_empty(), tightened == saved);
        prop_assert_eq!(tightened.tightened(&caps), (tightened.clone(), vec![]));

        // A policy that is valid today is not touched.
        if is_within(&saved, &caps) {
            prop_assert_eq!(&tightened, &saved);
        }
        prop_assert_eq!(effective(None, Some(&saved), &caps).unwrap().into_policy(), tightened);
    }
}

#[test]
fn the_strategies_reach_valid_policies_and_every_fault() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut enabled = 0;
    let mut reasons = HashSet::new();
    for _ in 0..3_000 {
        let (value, caps) = (near_policy(), any_caps()).new_tree(&mut runner).unwrap().current();
        match serde_json::from_value::<RetryPolicyInput>(value).unwrap().parse(&caps) {
            Ok(policy) => enabled += usize::from(policy.is_enabled()),
            Err(violations) => reasons.extend(violations.iter().map(|v| v.reason().as_str())),
        }
    }
    assert!(enabled > 50, "{enabled}");
    assert_eq!(reasons.len(), 9, "{reasons:?}");
}
