//! The policy for a new piece of work.

mod support;

use account_retry_policy::{Plan, Reason, RetryPolicy, RetryPolicyInput, Source, Tightening, effective};

use support::{VERDICTS, Verdict, basic, caps, policy, read, seconds};

#[test]
fn the_request_goes_before_the_account_and_the_account_before_nothing() {
    let asked = policy(1, 300, &[Verdict::Error]);
    let saved = policy(2, 600, &VERDICTS);
    let request = RetryPolicyInput::from(&asked);

    let of = |request, account| effective(request, account, &basic()).unwrap();
    let both = of(Some(&request), Some(&saved));
    assert_eq!((both.source(), both.policy()), (Source::Request, &asked));
    let account = of(None, Some(&saved));
    assert_eq!((account.source(), account.policy()), (Source::Account, &saved));
    let none = of(None, None);
    assert_eq!((none.source(), none.policy()), (Source::None, &RetryPolicy::disabled()));
    for effective in [both, account, none] {
        assert_eq!(effective.tightened(), []);
    }
}

#[test]
fn a_request_that_disables_goes_before_the_account_too() {
    let saved = policy(2, 600, &VERDICTS);
    let given = effective(Some(&read(r#"{"enabled":false}"#)), Some(&saved), &basic()).unwrap();
    assert_eq!((given.source(), given.into_policy()), (Source::Request, RetryPolicy::disabled()));
}

#[test]
fn a_request_is_judged_strictly_where_the_same_saved_policy_is_tightened() {
    let six = policy(6, 600, &VERDICTS);
    let violations = effective(Some(&RetryPolicyInput::from(&six)), Some(&six), &basic()).unwrap_err();
    assert_eq!(violations.iter().next().unwrap().reason(), Reason::AboveMax);

    let given = effective(None, Some(&six), &basic()).unwrap();
    assert_eq!(given.policy(), &policy(5, 600, &VERDICTS));
    assert_eq!(given.tightened(), [Tightening::MaxRetries { from: 6, to: 5 }]);
}

#[test]
fn an_interval_goes_up_or_down_into_the_range() {
    let plan = caps(&Plan::new().min_interval_seconds(seconds(500)).max_interval_seconds(700));
    for (from, to) in [(499, 500), (1, 500), (701, 700), (u32::MAX, 700)] {
        let (tightened, changes) = policy(3, from, &VERDICTS).tightened(&plan);
        assert_eq!(tightened, policy(3, to, &VERDICTS));
        assert_eq!(changes, [Tightening::IntervalSeconds { from, to }]);
    }
    for within in [500, 600, 700] {
        assert_eq!(policy(3, within, &VERDICTS).tightened(&plan).1, []);
    }
}

#[test]
fn outcomes_that_are_no_longer_eligible_go_and_the_rest_keeps_its_order() {
    let plan = caps(&Plan::new().eligible_outcomes([Verdict::NotFound, Verdict::Error]));
    let saved = policy(3, 600, &[Verdict::Error, Verdict::CepUnavailable, Verdict::NotFound]);
    let (tightened, changes) = saved.tightened(&plan);
    assert_eq!(tightened, policy(3, 600, &[Verdict::Error, Verdict::NotFound]));
    assert_eq!(changes, [Tightening::Outcomes { removed: vec![Verdict::CepUnavailable] }]);
}

#[test]
fn where_nothing_is_left_the_policy_is_disabled_and_the_reason_told() {
    let saved = policy(3, 600, &[Verdict::Error]);
    let none = effective(None, Some(&saved), &caps(&Plan::new().max_retries_cap(0))).unwrap();
    assert_eq!((none.source(), none.policy()), (Source::Account, &RetryPolicy::disabled()));
    assert_eq!(none.tightened(), [Tightening::MaxRetries { from: 3, to: 0 }]);

    let other = caps(&Plan::new().eligible_outcomes([Verdict::NotFound]));
    let none = effective(None, Some(&saved), &other).unwrap();
    assert_eq!(none.policy(), &RetryPolicy::disabled());
    assert_eq!(none.tightened(), [Tightening::Outcomes { removed: vec![Verdict::Error] }]);
}

#[test]
fn a_disabled_policy_is_tight_already() {
    let disabled = RetryPolicy::disabled();
    assert_eq!(disabled.tightened(&caps(&Plan::new().max_retries_cap(0))), (disabled.clone(), vec![]));
}
