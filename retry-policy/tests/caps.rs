//! Defaults and plans, from code and from files.

mod support;

use account_retry_policy::{Caps, CapsErrorKind, Defaults, Plan};
use serde_json::json;

use support::{Verdict, basic, caps, defaults, seconds};

#[test]
fn caps_serialise_to_the_eight_names() {
    assert_eq!(
        serde_json::to_value(basic()).unwrap(),
        json!({
            "max_retries_cap": 5,
            "min_interval_seconds": 300,
            "max_interval_seconds": 86_400,
            "max_age_seconds": 604_800,
            "max_pending_per_user": 1_000,
            "max_dispatched_per_day_per_user": 10_000,
            "max_reactivations": 3,
            "eligible_outcomes": ["not_found", "cep_unavailable", "error"],
        }),
    );
}

#[test]
fn a_plan_overrides_each_field_it_names_and_no_other() {
    let without = serde_json::to_value(basic()).unwrap();
    for (field, value) in [
        ("max_retries_cap", json!(0)),
        ("min_interval_seconds", json!(7)),
        ("max_interval_seconds", json!(777)),
        ("max_age_seconds", json!(86_401)),
        ("max_pending_per_user", json!(8)),
        ("max_dispatched_per_day_per_user", json!(9)),
        ("max_reactivations", json!(10)),
        ("eligible_outcomes", json!(["error"])),
    ] {
        let plan: Plan<Verdict> = serde_json::from_value(json!({field: value})).unwrap();
        let mut expected = without.clone();
        expected[field] = value;
        assert_eq!(serde_json::to_value(caps(&plan)).unwrap(), expected);
    }
}

#[test]
fn what_is_read_equals_what_is_built() {
    let plan: Plan<Verdict> = serde_json::from_value(json!({
        "max_retries_cap": 1, "min_interval_seconds": 2, "max_interval_seconds": 3, "max_age_seconds": 4,
        "max_pending_per_user": 5, "max_dispatched_per_day_per_user": 6, "max_reactivations": 7,
        "eligible_outcomes": ["error"],
    }))
    .unwrap();
    let built = Plan::new()
        .max_retries_cap(1)
        .min_interval_seconds(seconds(2))
        .max_interval_seconds(3)
        .max_age_seconds(4)
        .max_pending_per_user(5)
        .max_dispatched_per_day_per_user(6)
        .max_reactivations(7)
        .eligible_outcomes([Verdict::Error]);
    assert_eq!(plan, built);

    let caps = caps(&plan);
    assert_eq!(
        [
            caps.max_retries_cap(),
            caps.min_interval_seconds(),
            caps.max_interval_seconds(),
            caps.max_age_seconds(),
            caps.max_pending_per_user(),
            caps.max_dispatched_per_day_per_user(),
            caps.max_reactivations(),
        ],
        [1, 2, 3, 4, 5, 6, 7],
    );
    let whole: Defaults<Verdict> =
        serde_json::from_value(serde_json::to_value(&caps).unwrap()).expect("caps are whole defaults");
    assert_eq!(Caps::merge(&whole, &Plan::new()).unwrap(), caps);
}

#[test]
fn partial_defaults_take_the_rest_from_the_crate_but_must_name_the_outcomes() {
    let read: Defaults<Verdict> =
        serde_json::from_value(json!({"max_age_seconds": 90_000, "eligible_outcomes": ["error"]})).unwrap();
    assert_eq!(read, Defaults::new([Verdict::Error]).max_age_seconds(90_000));
    let error = serde_json::from_value::<Defaults<Verdict>>(json!({})).unwrap_err();
    assert!(error.to_string().contains("eligible_outcomes"), "{error}");
}

#[test]
fn a_slip_in_a_file_is_an_error_that_names_it() {
    for (plan, named) in [
        (json!({"max_retry_cap": 3}), "max_retry_cap"),
        (json!({"min_interval_seconds": 0}), "nonzero"),
        (json!({"max_retries_cap": -1}), "invalid"),
        (json!({"eligible_outcomes": ["eror"]}), "eror"),
        (json!({"eligible_outcomes": [3]}), "outcome"),
    ] {
        let error = serde_json::from_value::<Plan<Verdict>>(plan).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn an_interval_whose_ends_are_crossed_is_refused_and_one_of_a_single_value_is_not() {
    let crossed = Plan::new().min_interval_seconds(seconds(100)).max_interval_seconds(99);
    let error = Caps::merge(&defaults(), &crossed).unwrap_err();
    assert_eq!(error.kind(), CapsErrorKind::IntervalRange);
    assert_eq!(error.to_string(), "min_interval_seconds 100 is more than max_interval_seconds 99");

    // Each alone is sensible; only together with the defaults they are not.
    let low = Plan::new().max_interval_seconds(299);
    assert_eq!(Caps::merge(&defaults(), &low).unwrap_err().kind(), CapsErrorKind::IntervalRange);
    assert!(Caps::merge(&defaults(), &Plan::new().max_interval_seconds(300)).is_ok());
}

#[test]
fn caps_that_can_grant_a_policy_that_is_never_tried_are_refused() {
    let kind = |plan: Plan<Verdict>| Caps::merge(&defaults(), &plan).err().map(|error| error.kind());
    let aged = |age| Plan::new().max_age_seconds(age);
    // An attempt exactly at the age is made, so the age may be the longest interval.
    assert_eq!(kind(aged(86_400)), None);
    assert_eq!(kind(aged(86_399)), Some(CapsErrorKind::AgeBelowInterval));
    assert_eq!(kind(aged(0)), Some(CapsErrorKind::AgeBelowInterval));
    assert_eq!(kind(Plan::new().max_interval_seconds(604_801)), Some(CapsErrorKind::AgeBelowInterval));
    assert_eq!(kind(aged(300).max_interval_seconds(300)), None);
    assert_eq!(kind(Plan::new().max_pending_per_user(0)), Some(CapsErrorKind::NothingDispatched));
    assert_eq!(kind(Plan::new().max_dispatched_per_day_per_user(0)), Some(CapsErrorKind::NothingDispatched));

    let error = Caps::merge(&defaults(), &aged(100)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_age_seconds 100 is less than max_interval_seconds 86400: a policy with that interval would never be tried",
    );
}

#[test]
fn caps_that_grant_no_policy_need_no_room_for_attempts() {
    for none in [Plan::new().max_retries_cap(0), Plan::new().eligible_outcomes([])] {
        let plan = none.max_age_seconds(0).max_pending_per_user(0).max_dispatched_per_day_per_user(0);
        assert!(Caps::merge(&defaults(), &plan).is_ok(), "{plan:?}");
    }
}

#[test]
fn eligible_outcomes_are_few_distinct_and_can_be_asked_for() {
    let kind = |outcomes: Vec<String>| {
        Caps::merge(&Defaults::new(outcomes), &Plan::new()).err().map(|error| error.kind())
    };
    let numbered = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(kind(numbered(64)), None);
    assert_eq!(kind(numbered(65)), Some(CapsErrorKind::TooManyOutcomes));
    assert_eq!(kind(vec!["a".into(), "b".into(), "a".into()]), Some(CapsErrorKind::DuplicateOutcome));
    assert_eq!(kind(vec!["a".repeat(64)]), None);
    assert_eq!(kind(vec!["a".repeat(65)]), Some(CapsErrorKind::OutcomeText));
}

#[test]
fn an_outcome_that_does_not_parse_back_to_itself_is_found_when_the_caps_are_built() {
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Shout(String);
    impl std::fmt::Display for Shout {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0.to_uppercase())
        }
    }
    impl std::str::FromStr for Shout {
        type Err = std::convert::Infallible;
        fn from_str(text: &str) -> Result<Self, Self::Err> {
            Ok(Self(text.to_owned()))
        }
    }
    let error = Caps::merge(&Defaults::new([Shout("busy".into())]), &Plan::new()).unwrap_err();
    assert_eq!(error.kind(), CapsErrorKind::OutcomeText);
}
