//! Which policies are accepted, and how the others are refused.

mod support;

use account_retry_policy::{
    Field::{self, Enabled, IntervalSeconds, MaxRetries, Outcomes},
    MAX_OUTCOME_BYTES, MAX_OUTCOMES, Plan,
    Reason::{
        self, AboveMax, BelowMin, Duplicate, Empty, NotEligible, PlanAllowsNone, Required, TooMany, WrongType,
    },
    RetryPolicy, RetryPolicyInput, Violations,
};
use serde_json::json;

use support::{VERDICTS, Verdict, basic, caps, faults, parse, policy, read};

type Fault = (Field, Option<usize>, Reason);

/// A valid policy, except that `field` is `value`.
fn with(field: &str, value: &str) -> String {
    let mut fields = vec![
        ("enabled", "true"),
        ("max_retries", "3"),
        ("interval_seconds", "600"),
        ("outcomes", r#"["not_found"]"#),
    ];
    fields.retain(|(name, _)| *name != field);
    fields.push((field, value));
    let members: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

#[track_caller]
fn check(rows: &[(&str, &str, &[Fault])]) {
    for (field, value, expected) in rows {
        assert_eq!(faults(&with(field, value), &basic()), *expected, "{field}: {value}");
    }
}

#[test]
fn a_policy_on_each_edge_of_the_caps_is_taken_as_it_is() {
    for (max_retries, interval) in [(1, 300), (5, 86_400), (3, 600)] {
        let json = json!({"enabled": true, "max_retries": max_retries, "interval_seconds": interval,
            "outcomes": ["error", "not_found"]});
        let taken = parse(&json.to_string(), &basic()).unwrap();
        assert!(taken.is_enabled());
        assert_eq!(taken, policy(max_retries, interval, &[Verdict::Error, Verdict::NotFound]));
        assert_eq!(serde_json::to_value(&taken).unwrap(), json);
    }
}

#[test]
fn enabled_must_be_there_and_a_boolean() {
    check(&[
        ("enabled", "null", &[(Enabled, None, WrongType)]),
        ("enabled", "1", &[(Enabled, None, WrongType)]),
        ("enabled", "\"true\"", &[(Enabled, None, WrongType)]),
        ("enabled", "[true]", &[(Enabled, None, WrongType)]),
        ("enabled", "{}", &[(Enabled, None, WrongType)]),
        ("enabled", "0.5", &[(Enabled, None, WrongType)]),
    ]);
    assert_eq!(faults("{}", &basic()), [(Enabled, None, Required)]);
}

#[test]
fn without_a_usable_enabled_what_is_there_is_judged_and_what_is_missing_is_not_asked_for() {
    assert_eq!(
        faults(r#"{"max_retries":6,"outcomes":[]}"#, &basic()),
        [(Enabled, None, Required), (MaxRetries, None, AboveMax), (Outcomes, None, Empty)],
    );
    assert_eq!(
        faults(r#"{"enabled":"no","interval_seconds":null,"outcomes":["error"]}"#, &basic()),
        [(Enabled, None, WrongType), (IntervalSeconds, None, WrongType)],
    );
    let none = caps(&Plan::new().max_retries_cap(0));
    assert_eq!(faults("{}", &none), [(Enabled, None, Required)]);
    assert_eq!(
        faults(r#"{"max_retries":1}"#, &none),
        [(Enabled, None, Required), (MaxRetries, None, PlanAllowsNone)]
    );
}

#[test]
fn a_disabled_policy_ignores_the_other_fields_and_is_all_zeros() {
    let zeros = json!({"enabled": false, "max_retries": 0, "interval_seconds": 0, "outcomes": []});
    for json in [
        r#"{"enabled":false}"#,
        r#"{"enabled":false,"max_retries":-1,"interval_seconds":"x","outcomes":{"a":[1,null]}}"#,
        r#"{"enabled":false,"max_retries":3,"interval_seconds":600,"outcomes":["not_found"]}"#,
    ] {
        for caps in [basic(), caps(&Plan::new().max_retries_cap(0))] {
            let taken = parse(json, &caps).unwrap();
            assert_eq!(taken, RetryPolicy::disabled());
            assert_eq!(serde_json::to_value(taken).unwrap(), zeros);
        }
    }
}

#[test]
fn an_enabled_policy_misses_each_field_that_is_not_there() {
    assert_eq!(
        faults(r#"{"enabled":true}"#, &basic()),
        [(MaxRetries, None, Required), (IntervalSeconds, None, Required), (Outcomes, None, Required)],
    );
}

#[test]
fn integers_are_neither_clamped_nor_converted() {
    check(&[
        ("max_retries", "0", &[(MaxRetries, None, BelowMin)]),
        ("max_retries", "-1", &[(MaxRetries, None, BelowMin)]),
        ("max_retries", "6", &[(MaxRetries, None, AboveMax)]),
        ("max_retries", "4294967297", &[(MaxRetries, None, AboveMax)]),
        ("max_retries", "18446744073709551615", &[(MaxRetries, None, AboveMax)]),
        ("max_retries", "99999999999999999999", &[(MaxRetries, None, AboveMax)]),
        ("max_retries", "-99999999999999999999", &[(MaxRetries, None, BelowMin)]),
        ("max_retries", "1e300", &[(MaxRetries, None, AboveMax)]),
        ("max_retries", "3.0", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "3.5", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "3e0", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "\"3\"", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "true", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "null", &[(MaxRetries, None, WrongType)]),
        ("max_retries", "[3]", &[(MaxRetries, None, WrongType)]),
        ("interval_seconds", "299", &[(IntervalSeconds, None, BelowMin)]),
        ("interval_seconds", "86401", &[(IntervalSeconds, None, AboveMax)]),
        ("interval_seconds", "-600", &[(IntervalSeconds, None, BelowMin)]),
        ("interval_seconds", "600.5", &[(IntervalSeconds, None, WrongType)]),
        ("interval_seconds", "{\"seconds\":600}", &[(IntervalSeconds, None, WrongType)]),
    ]);
}

#[test]
fn each_entry_of_outcomes_that_is_wrong_is_reported_where_it_is() {
    check(&[
        ("outcomes", "[]", &[(Outcomes, None, Empty)]),
        ("outcomes", "\"not_found\"", &[(Outcomes, None, WrongType)]),
        ("outcomes", "{\"0\":\"not_found\"}", &[(Outcomes, None, WrongType)]),
        ("outcomes", "null", &[(Outcomes, None, WrongType)]),
        ("outcomes", "[\"not_found\",\"not_found\"]", &[(Outcomes, Some(1), Duplicate)]),
        (
            "outcomes",
            "[\"valid\",\"error\",\"\"]",
            &[(Outcomes, Some(0), NotEligible), (Outcomes, Some(2), NotEligible)],
        ),
        (
            "outcomes",
            "[\"x\",\"x\",7,null,[\"error\"],{},\"error\",\"error\"]",
            &[
                (Outcomes, Some(0), NotEligible),
                (Outcomes, Some(1), Duplicate),
                (Outcomes, Some(2), WrongType),
                (Outcomes, Some(3), WrongType),
                (Outcomes, Some(4), WrongType),
                (Outcomes, Some(5), WrongType),
                (Outcomes, Some(7), Duplicate),
            ],
        ),
    ]);
    let plan = caps(&Plan::new().eligible_outcomes([Verdict::Error]));
    let both = with("outcomes", r#"["not_found","not_found"]"#);
    assert_eq!(faults(&both, &plan), [(Outcomes, Some(0), NotEligible), (Outcomes, Some(1), Duplicate)]);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    assert_eq!(
        faults(r#"{"enabled":true,"max_retries":9,"interval_seconds":1,"outcomes":["bogus",1]}"#, &basic()),
        [
            (MaxRetries, None, AboveMax),
            (IntervalSeconds, None, BelowMin),
            (Outcomes, Some(0), NotEligible),
            (Outcomes, Some(1), WrongType),
        ],
    );
}

#[test]
fn what_is_not_an_object_is_one_violation_of_the_whole() {
    for json in ["null", "true", "3", "-3", "3.5", "1e300", "\"x\"", "[]", "[true,3,600,[\"error\"]]"] {
        assert_eq!(faults(json, &basic()), [(Field::Policy, None, WrongType)], "{json}");
    }
}

#[test]
fn the_last_of_a_field_given_twice_counts() {
    let twice = r#"{"enabled":false,"outcomes":["x"],"max_retries":"x","enabled":true,
        "max_retries":2,"interval_seconds":300,"outcomes":["error"]}"#;
    assert_eq!(parse(twice, &basic()).unwrap(), policy(2, 300, &[Verdict::Error]));
    let wrong_last = r#"{"enabled":true,"enabled":null}"#;
    assert_eq!(faults(wrong_last, &basic()), [(Enabled, None, WrongType)]);
}

#[test]
fn other_fields_are_ignored() {
    let json = with("max_retry", r#"{"deep":[[[{"er":1e300}]]]}"#);
    assert!(parse(&json, &basic()).is_ok());
}

#[test]
fn a_plan_without_retries_says_so_whatever_was_asked() {
    let none = caps(&Plan::new().max_retries_cap(0));
    for json in [with("max_retries", "3"), with("max_retries", "0"), with("max_retries", "null")] {
        assert_eq!(faults(&json, &none), [(MaxRetries, None, PlanAllowsNone)], "{json}");
    }
    let violations = parse(&with("max_retries", "1"), &none).unwrap_err();
    assert_eq!(violations.to_string(), "max_retries cannot be set: the plan allows no retries");
    assert_eq!(
        serde_json::to_value(&violations).unwrap(),
        json!([{"field": "max_retries", "reason": "plan_allows_none", "max": 0}]),
    );

    let no_outcome = caps(&Plan::new().eligible_outcomes([]));
    let violations = parse(&with("max_retries", "3"), &no_outcome).unwrap_err();
    assert_eq!(
        serde_json::to_value(&violations).unwrap(),
        json!([{"field": "outcomes", "reason": "plan_allows_none", "allowed": []}]),
    );
}

#[test]
fn a_violation_says_what_is_allowed_to_people_and_to_machines() {
    let json = r#"{"enabled":true,"max_retries":0,"outcomes":["error","bogus","error"]}"#;
    let violations = parse(json, &basic()).unwrap_err();
    let allowed = json!(["not_found", "cep_unavailable", "error"]);
    assert_eq!(
        serde_json::to_value(&violations).unwrap(),
        json!([
            {"field": "max_retries", "reason": "below_min", "min": 1, "max": 5},
            {"field": "interval_seconds", "reason": "required", "min": 300, "max": 86_400},
            {"field": "outcomes", "reason": "not_eligible", "allowed": allowed},
            {"field": "outcomes", "reason": "duplicate", "allowed": allowed},
        ]),
    );
    assert_eq!(
        violations.to_string(),
        "max_retries must be an integer from 1 to 5; \
         interval_seconds is required: an integer from 300 to 86400; \
         outcomes[1] must be one of not_found, cep_unavailable, error; \
         outcomes[2] repeats an outcome: each may be given once",
    );
    let first = violations.iter().next().unwrap();
    assert_eq!((first.min(), first.max(), first.allowed()), (Some(1), Some(5), None));

    for (json, text) in [
        ("7", "retry_policy must be an object"),
        ("{}", "enabled is required: true or false"),
        (r#"{"enabled":1}"#, "enabled must be true or false"),
        (&with("outcomes", "[]"), "outcomes must be a non-empty array of not_found, cep_unavailable, error"),
        (&with("outcomes", "[0]"), "outcomes[0] must be one of not_found, cep_unavailable, error"),
    ] {
        let violations: Violations = parse(json, &basic()).unwrap_err();
        assert_eq!(violations.to_string(), text);
    }
}

#[test]
fn a_huge_list_gives_few_violations_and_repeats_nothing() {
    let long = "x".repeat(1_000_000);
    let mut entries = vec![format!("\"{long}\"")];
    entries.extend((1..1_000_000).map(|number| number.to_string()));
    let violations = parse(&with("outcomes", &format!("[{}]", entries.join(","))), &basic()).unwrap_err();

    assert_eq!(violations.iter().len(), MAX_OUTCOMES + 1);
    let last = violations.iter().last().unwrap();
    assert_eq!((last.field(), last.reason(), last.max()), (Outcomes, TooMany, Some(3)));
    assert!(violations.to_string().len() < 10_000);
    assert!(serde_json::to_string(&violations).unwrap().len() < 10_000);
    assert!(!violations.to_string().contains("xx"));
}

#[test]
fn a_list_one_too_long_is_refused_though_its_kept_entries_are_right() {
    let names: Vec<_> = (0..=MAX_OUTCOMES).map(|number| number.to_string()).collect();
    let input = |names: &[String]| {
        RetryPolicyInput::new().enabled(true).max_retries(1).interval_seconds(300).outcomes(names)
    };
    let just = input(&names[..MAX_OUTCOMES]).restore::<String>().unwrap();
    assert_eq!(just.outcomes(), &names[..MAX_OUTCOMES]);
    let violations = input(&names).restore::<String>().unwrap_err();
    assert_eq!(violations.iter().map(account_retry_policy::Violation::reason).collect::<Vec<_>>(), [TooMany]);
    let list = json!({"enabled": true, "max_retries": 1, "interval_seconds": 300, "outcomes": names});
    assert_eq!(read(&list.to_string()), input(&names));
}

#[test]
fn a_text_longer_than_an_outcome_can_be_is_not_eligible() {
    let name = |length| json!(["y".repeat(length)]).to_string();
    let restored = |length| read(&with("outcomes", &name(length))).restore::<String>();
    assert!(restored(MAX_OUTCOME_BYTES).is_ok());
    assert_eq!(restored(MAX_OUTCOME_BYTES + 1).unwrap_err().iter().next().unwrap().reason(), NotEligible);
}

#[test]
fn depth_is_no_error() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(faults(&deep, &basic()), [(Field::Policy, None, WrongType)]);
    assert_eq!(faults(&with("enabled", &deep), &basic()), [(Enabled, None, WrongType)]);
    assert_eq!(faults(&with("outcomes", &deep), &basic()), [(Outcomes, Some(0), WrongType)]);
    assert!(parse(&with("else", &deep), &basic()).is_ok());
}

#[test]
fn a_saved_policy_is_read_back_whatever_the_plan_is_now() {
    let saved = r#"{"enabled":true,"max_retries":4000000000,"interval_seconds":1,"outcomes":["error"]}"#;
    let restored: RetryPolicy<Verdict> = read(saved).restore().unwrap();
    assert_eq!(serde_json::to_string(&restored).unwrap(), saved);
    assert_eq!(RetryPolicyInput::from(&restored), read(saved));

    let zeros = serde_json::to_string(&RetryPolicy::<Verdict>::default()).unwrap();
    assert_eq!(read(&zeros).restore::<Verdict>().unwrap(), RetryPolicy::disabled());
}

#[test]
fn what_was_saved_and_is_no_policy_is_refused() {
    for broken in [with("max_retries", "0"), with("interval_seconds", "0"), with("outcomes", "[\"gone\"]")] {
        let violations = read(&broken).restore::<Verdict>().unwrap_err();
        assert_eq!(violations.iter().len(), 1, "{violations}");
    }
}

#[test]
fn a_policy_retries_on_its_own_outcomes_only() {
    let two = policy(1, 300, &VERDICTS[..2]);
    assert_eq!(VERDICTS.map(|verdict| two.retries_on(&verdict)), [true, true, false]);
    assert!(!RetryPolicy::disabled().retries_on(&Verdict::Error));
}

#[test]
fn other_spellings_are_the_same_outcome_and_come_out_in_the_canonical_one() {
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Lower(String);
    impl std::fmt::Display for Lower {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }
    impl std::str::FromStr for Lower {
        type Err = std::convert::Infallible;
        fn from_str(text: &str) -> Result<Self, Self::Err> {
            Ok(Self(text.to_lowercase()))
        }
    }
    let one: RetryPolicy<Lower> = read(&with("outcomes", r#"["BUSY"]"#)).restore().unwrap();
    assert_eq!(serde_json::to_value(&one).unwrap()["outcomes"], json!(["busy"]));
    let two = read(&with("outcomes", r#"["BUSY","busy"]"#)).restore::<Lower>().unwrap_err();
    assert_eq!(two.iter().next().unwrap().reason(), Duplicate);
}
