//! The retries of validations: which there are, what changes them, what they come to.

use std::thread;

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Launch, Request, Response, Server, demo_key, eventually, launch};

use super::validations::{data, on_both, payment, read, validate};
use super::{POLICY, code, codes, demo, framed, get, policy, put};

/// With these caps, and a rate limit that tests do not meet.
fn capped(launch: Launch, caps: &str) -> Server {
    launch.config(&format!("[veriko.caps]\n{caps}\n[veriko.plans.pro]\nrate_per_minute = 1000000\n")).start()
}

/// Retries a second apart are allowed.
fn quick(launch: Launch) -> Server {
    capped(launch, "min_interval_seconds = 1")
}

/// A policy that every plan but `free` allows.
fn retries(max_retries: u32, interval_seconds: u32, outcomes: &[&str]) -> Value {
    json!({"enabled": true, "max_retries": max_retries, "interval_seconds": interval_seconds, "outcomes": outcomes})
}

/// A validation of `demo-pro` with this policy of its own: its id and its retry state.
fn validated(server: &Server, key: &str, policy: Option<Value>) -> (String, Value) {
    let mut body = payment(key);
    body["retry_policy"] = policy.into();
    let data = data(&validate(server, body).send());
    (data["id"].as_str().expect("an id").to_owned(), data["attributes"]["retry_state"].clone())
}

fn change(server: &Server, id: &str, policy: &Value) -> Request {
    server
        .put(&format!("/v1/validations/{id}/retry-policy"))
        .bearer(&demo_key('1'))
        .json(json!({"retry_policy": policy}))
}

fn cancel(server: &Server, id: &str) -> Request {
    server.post(&format!("/v1/validations/{id}/cancel-retries")).bearer(&demo_key('1'))
}

/// The retry state that a change answers with.
fn state(response: &Response) -> Value {
    let data = data(response);
    assert_eq!(data["type"], "validation", "{data}");
    let attributes = data["attributes"].as_object().expect("attributes");
    assert_eq!(attributes.keys().collect::<Vec<_>>(), ["retry_state"], "{data}");
    attributes["retry_state"].clone()
}

fn shown(server: &Server, id: &str) -> Value {
    data(&read(server, &format!("/v1/validations/{id}")))["attributes"].clone()
}

/// The validation, once its cycle has ended.
fn ended(server: &Server, id: &str) -> Value {
    eventually("the end of the cycle", || {
        let shown = shown(server, id);
        (shown["retry_state"]["terminal_state"] != "pending").then_some(shown)
    })
}

fn refused(response: &Response, wanted: &str) {
    assert_eq!((response.status, code(response).as_str()), (422, wanted));
}

#[test]
fn a_validation_has_the_policy_of_its_request_else_of_its_account_else_none() {
    let server = demo();
    let (_, state) = validated(&server, "MX1-NOTFOUND", None);
    assert_eq!((&state["enabled"], &state["terminal_state"]), (&json!(false), &json!(null)), "{state}");

    assert_eq!(put(&server).send().status, 200);
    let (_, state) = validated(&server, "MX1-NOTFOUND", None);
    assert_eq!(
        (&state["enabled"], &state["max_retries"], &state["interval_seconds"]),
        (&json!(true), &json!(3), &json!(600))
    );
    assert_eq!(state["outcomes"], json!(["not_found", "cep_unavailable"]));
    assert_eq!((&state["terminal_state"], &state["attempts_completed"]), (&json!("pending"), &json!(0)));
    assert!(state["next_attempt_at"].is_string(), "{state}");

    let (_, state) = validated(&server, "MX1-NOTFOUND", Some(retries(7, 900, &["not_found"])));
    assert_eq!((&state["max_retries"], &state["interval_seconds"]), (&json!(7), &json!(900)), "{state}");
    let (_, state) = validated(&server, "MX1-NOTFOUND", Some(json!({"enabled": false})));
    assert_eq!(state["terminal_state"], json!(null), "its own policy says no: {state}");

    // Only what the policy names is retried.
    for (key, retried) in
        [("MX1", false), ("MX1-RETURNED", false), ("MX1-ERROR", false), ("MX1-UNAVAILABLE", true)]
    {
        let (_, state) = validated(&server, key, None);
        assert_eq!(state["enabled"], retried, "{key}: {state}");
    }
}

#[test]
fn a_plan_that_shrinks_tightens_what_begins_and_leaves_what_was_saved() {
    let database = shared_database();
    let server = launch().demo().database(&database).start();
    assert_eq!(server.put(POLICY).bearer(&demo_key('1')).json(policy(5)).send().status, 200);
    let (earlier, _) = validated(&server, "MX1-NOTFOUND", None);
    server.stop();

    let shrunk = "[veriko.plans.pro]\nmax_retries_cap = 2\nmin_interval_seconds = 700\n";
    let server = launch().demo().database(&database).config(shrunk).start();
    let (_, state) = validated(&server, "MX1-NOTFOUND", None);
    assert_eq!((&state["max_retries"], &state["interval_seconds"]), (&json!(2), &json!(700)), "{state}");
    let saved = data(&get(&server).send())["attributes"].clone();
    assert_eq!(saved, policy(5)["retry_policy"]);
    assert_eq!(shown(&server, &earlier)["retry_state"]["max_retries"], 5, "what has begun goes on");
}

#[test]
fn an_attempt_that_finds_the_payment_resolves_the_cycle() {
    for launch in on_both() {
        let server = quick(launch);
        let (id, _) = validated(&server, "MX1-VALIDAFTER2", Some(retries(5, 1, &["not_found"])));
        let before = read(&server, &format!("/v1/validations/{id}"));
        assert_eq!(before.header("etag"), Some(r#"W/"1-not_found""#));

        let shown = ended(&server, &id);
        assert_eq!(
            (&shown["status"], &shown["banxico_status"]),
            (&json!("valid"), &json!("valid")),
            "{shown}"
        );
        let state = &shown["retry_state"];
        assert_eq!((&state["terminal_state"], &state["attempts_completed"]), (&json!("resolved"), &json!(2)));
        assert!(state["resolved_at"].is_string() && state["next_attempt_at"].is_null(), "{state}");
        assert_eq!((&state["enabled"], &state["max_retries"]), (&json!(false), &json!(null)));
        let after = read(&server, &format!("/v1/validations/{id}"));
        assert_eq!(after.header("etag"), Some(r#"W/"3-valid""#), "each attempt is a version");

        let attempts = data(&read(&server, &format!("/v1/validations/{id}/retry-attempts")));
        let told: Vec<_> = attempts
            .as_array()
            .expect("a list")
            .iter()
            .map(|attempt| {
                assert!(
                    attempt["dispatched_at"].is_string() && attempt["processing_time_ms"].is_u64(),
                    "{attempt}"
                );
                (
                    &attempt["attempt_number"],
                    &attempt["prev_status"],
                    &attempt["new_status"],
                    &attempt["new_banxico_status"],
                )
            })
            .collect();
        let (not_found, valid) = (json!("not_found"), json!("valid"));
        assert_eq!(
            told,
            [(&json!(1), &not_found, &not_found, &not_found), (&json!(2), &not_found, &valid, &valid)]
        );

        refused(&cancel(&server, &id).send(), "retry_not_active");
        refused(&change(&server, &id, &retries(1, 600, &["not_found"])).send(), "retry_already_resolved");
    }
}

#[test]
fn the_last_attempt_exhausts_the_cycle_which_can_be_begun_anew() {
    for launch in on_both() {
        let server = quick(launch);
        let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(1, 1, &["not_found"])));
        let state = ended(&server, &id)["retry_state"].clone();
        assert_eq!(
            (&state["terminal_state"], &state["attempts_completed"]),
            (&json!("exhausted"), &json!(1))
        );
        assert!(state["exhausted_at"].is_string(), "{state}");

        let state = super::retries::state(&change(&server, &id, &retries(2, 1, &["not_found"])).send());
        assert_eq!((&state["terminal_state"], &state["attempts_completed"]), (&json!("pending"), &json!(1)));
        assert!(state["exhausted_at"].is_null(), "{state}");
        let state = ended(&server, &id)["retry_state"].clone();
        assert_eq!(
            (&state["terminal_state"], &state["attempts_completed"]),
            (&json!("exhausted"), &json!(3))
        );
        let attempts = data(&read(&server, &format!("/v1/validations/{id}/retry-attempts")));
        let numbers: Vec<_> =
            attempts.as_array().expect("a list").iter().map(|a| a["attempt_number"].clone()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
}

#[test]
fn the_worker_is_told_of_a_retry_before_it_would_look() {
    for launch in on_both() {
        let config = "[veriko.caps]\nmin_interval_seconds = 1\n[scheduler]\npoll_seconds = 86400\n";
        let server = launch.config(config).start();
        let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(1, 1, &["not_found"])));
        let asked = || server.counted("cep_queries_total", &[]);
        eventually("the retry of a request", || (asked() == 2).then_some(()));
        ended(&server, &id);
        assert_eq!(change(&server, &id, &retries(1, 1, &["not_found"])).send().status, 200);
        eventually("the retry of a change", || (asked() == 3).then_some(()));
    }
}

#[test]
fn a_policy_of_its_own_begins_changes_and_ends_the_retries_of_one() {
    for launch in on_both() {
        let server = launch.start();
        let (id, _) = validated(&server, "MX1-NOTFOUND", None);
        // Begins; changes, twice to the same; ends; ends what has ended; begins anew.
        for (policy, terminal, retries) in [
            (retries(3, 600, &["not_found"]), "pending", json!(3)),
            (retries(5, 900, &["not_found", "error"]), "pending", json!(5)),
            (retries(5, 900, &["not_found", "error"]), "pending", json!(5)),
            (json!({"enabled": false, "max_retries": "many"}), "cancelled", json!(null)),
            (json!({"enabled": false}), "cancelled", json!(null)),
            (retries(2, 600, &["not_found"]), "pending", json!(2)),
        ] {
            let answered = state(&change(&server, &id, &policy).send());
            assert_eq!(
                (&answered["terminal_state"], &answered["max_retries"]),
                (&json!(terminal), &retries),
                "{policy}"
            );
            assert_eq!(shown(&server, &id)["retry_state"], answered, "{policy}");
        }
        let (id, _) = validated(&server, "MX1", None);
        let answered = state(&change(&server, &id, &json!({"enabled": false})).send());
        assert_eq!(answered["terminal_state"], json!(null), "there was none");
    }
}

#[test]
fn a_policy_for_one_is_judged_as_strictly_as_for_all() {
    let server = demo();
    let (id, _) = validated(&server, "MX1-NOTFOUND", None);
    let answer = change(&server, &id, &retries(11, 1, &[])).send();
    assert_eq!((answer.status, codes(&answer)), (422, vec!["retry_policy_invalid".to_owned(); 3]));
    let violations = framed(&answer)["meta"]["violations"].clone();
    assert_eq!((&violations[0]["field"], &violations[0]["max"]), (&json!("max_retries"), &json!(10)));
    assert_eq!(
        framed(&answer)["errors"][1]["source"]["pointer"],
        "/data/attributes/retry_policy/interval_seconds"
    );
    assert_eq!(shown(&server, &id)["retry_state"]["terminal_state"], json!(null));
}

#[test]
fn what_is_never_retried_is_refused_with_the_reason() {
    let server = demo();
    for key in ["MX1", "MX1-RETURNED"] {
        let (id, _) = validated(&server, key, None);
        refused(&change(&server, &id, &retries(1, 600, &["not_found"])).send(), "retry_not_applicable");
    }
    let (id, _) = validated(&server, "MX1-NOTFOUND", None);
    refused(&cancel(&server, &id).send(), "retry_not_active");
}

#[test]
fn what_is_too_old_is_not_retried_any_more() {
    let server = capped(launch().demo(), "max_age_seconds = 601\nmax_interval_seconds = 601");
    let (id, _) = validated(&server, "MX1-NOTFOUND", None);
    // The validation is not new any more, so the whole age is too long to wait.
    refused(&change(&server, &id, &retries(1, 601, &["not_found"])).send(), "retry_age_exceeded");
    eventually("the end of its age", || {
        let answer = change(&server, &id, &retries(1, 600, &["not_found"])).send();
        (answer.status != 200).then(|| refused(&answer, "retry_age_exceeded"))
    });
    assert_eq!(shown(&server, &id)["retry_state"]["attempts_completed"], 0);
}

#[test]
fn a_cycle_is_begun_anew_as_often_as_the_plan_says() {
    for launch in on_both() {
        let server = capped(launch, "max_reactivations = 2");
        let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(1, 600, &["not_found"])));
        for _ in 0..2 {
            assert_eq!(cancel(&server, &id).send().status, 200);
            assert_eq!(change(&server, &id, &retries(1, 600, &["not_found"])).send().status, 200);
        }
        let last = state(&cancel(&server, &id).send());
        for _ in 0..2 {
            refused(
                &change(&server, &id, &retries(1, 600, &["not_found"])).send(),
                "reactivation_cap_exceeded",
            );
        }
        assert_eq!(shown(&server, &id)["retry_state"], last, "the refusal left nothing");
    }
}

#[test]
fn an_account_has_as_many_cycles_pending_as_its_plan_allows() {
    for launch in on_both() {
        let server = capped(launch, "max_pending_per_user = 2");
        let wanted = retries(1, 600, &["not_found"]);
        let (without, _) = validated(&server, "MX0-NOTFOUND", None);
        let (first, _) = validated(&server, "MX1-NOTFOUND", Some(wanted.clone()));
        let (second, _) = validated(&server, "MX2-NOTFOUND", Some(wanted.clone()));
        assert_eq!(state(&cancel(&server, &second).send())["terminal_state"], "cancelled");
        assert_eq!(state(&change(&server, &without, &wanted).send())["terminal_state"], "pending");

        let asked = server.counted("cep_queries_total", &[]);
        let mut third = payment("MX3-NOTFOUND");
        third["retry_policy"] = wanted.clone();
        refused(&validate(&server, third.clone()).send(), "retry_pending_cap_exceeded");
        assert_eq!(server.counted("cep_queries_total", &[]), asked, "nobody is asked in vain");
        refused(&change(&server, &second, &wanted).send(), "retry_pending_cap_exceeded");
        assert_eq!(shown(&server, &second)["retry_state"]["terminal_state"], "cancelled");
        // One that is pending already can be changed, and another account has its own.
        assert_eq!(change(&server, &first, &retries(2, 600, &["not_found"])).send().status, 200);
        let other = server.post("/v1/validate").bearer(&demo_key('2')).json(third).send();
        assert_eq!(other.status, 200, "{other:?}");
        assert_eq!(state(&cancel(&server, &first).send())["terminal_state"], "cancelled");
        assert_eq!(change(&server, &second, &wanted).send().status, 200);
    }
}

#[test]
fn however_many_begin_at_once_no_more_are_pending_than_allowed() {
    for launch in on_both() {
        let server = capped(launch, "max_pending_per_user = 5");
        let wanted = retries(1, 600, &["not_found"]);
        let ids: Vec<_> = (0..6).map(|_| validated(&server, "MX0-NOTFOUND", None).0).collect();
        let mut body = payment("MX1-NOTFOUND");
        body["retry_policy"] = wanted.clone();
        let mut requests: Vec<_> = ids.iter().map(|id| change(&server, id, &wanted)).collect();
        requests.extend((0..6).map(|_| validate(&server, body.clone())));
        let answers: Vec<_> = thread::scope(|scope| {
            let sent: Vec<_> = requests.iter().map(|request| scope.spawn(|| request.send())).collect();
            sent.into_iter().map(|sent| sent.join().expect("it sends")).collect()
        });
        let begun = answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refused(answer, "retry_pending_cap_exceeded");
        }
        let pending = framed(&read(&server, "/v1/validations?retry_state=pending"));
        assert_eq!((begun, &pending["meta"]["pagination"]["total"]), (5, &json!(5)));
    }
}

#[test]
fn a_cancel_is_final_and_a_second_one_finds_nothing() {
    let server = demo();
    let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(3, 600, &["not_found"])));
    let first = cancel(&server, &id).key("cancel-1");
    let answer = first.send();
    let cancelled = state(&answer);
    assert_eq!((&cancelled["enabled"], &cancelled["terminal_state"]), (&json!(false), &json!("cancelled")));
    assert!(cancelled["cancelled_at"].is_string() && cancelled["next_attempt_at"].is_null(), "{cancelled}");

    // The same key: the same answer; another, or none: there is nothing to cancel.
    let again = first.send();
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.lasting(), answer.lasting());
    for request in
        [cancel(&server, &id), cancel(&server, &id).key("cancel-2"), cancel(&server, &id).json("{}")]
    {
        refused(&request.send(), "retry_not_active");
    }
    let shown = shown(&server, &id);
    assert_eq!((&shown["status"], &shown["retry_state"]), (&json!("not_found"), &cancelled));
    let tag = read(&server, &format!("/v1/validations/{id}"));
    assert_eq!(tag.header("etag"), Some(r#"W/"2-not_found""#), "a change, and no other");
}

#[test]
fn of_two_cancels_at_once_one_cancels() {
    for launch in on_both() {
        let server = launch.start();
        for round in 0..20 {
            let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(3, 600, &["not_found"])));
            let mut statuses: Vec<u16> = thread::scope(|scope| {
                let sent: Vec<_> =
                    (0..2).map(|_| scope.spawn(|| cancel(&server, &id).send().status)).collect();
                sent.into_iter().map(|sent| sent.join().expect("it sends")).collect()
            });
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 422], "round {round}");
        }
    }
}

#[test]
fn of_cancels_and_changes_at_once_none_is_lost() {
    for launch in on_both() {
        let server = capped(launch, "max_reactivations = 1000");
        let (id, _) = validated(&server, "MX1-NOTFOUND", Some(retries(3, 600, &["not_found"])));
        let mut done = 0;
        for round in 0..10 {
            let statuses: Vec<u16> = thread::scope(|scope| {
                let sent: Vec<_> = (0..6)
                    .map(|n| {
                        let request = match n % 2 {
                            0 => cancel(&server, &id),
                            _ => change(&server, &id, &retries(1 + n, 600, &["not_found"])),
                        };
                        scope.spawn(move || request.send().status)
                    })
                    .collect();
                sent.into_iter().map(|sent| sent.join().expect("it sends")).collect()
            });
            assert!(statuses.iter().all(|status| [200, 422].contains(status)), "round {round}: {statuses:?}");
            done += statuses.iter().filter(|status| **status == 200).count();
            let tag = read(&server, &format!("/v1/validations/{id}")).header("etag").map(ToOwned::to_owned);
            assert_eq!(
                tag,
                Some(format!("W/\"{}-not_found\"", 1 + done)),
                "round {round}: one version for each"
            );
        }
    }
}
