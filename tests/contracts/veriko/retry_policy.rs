//! `GET` and `PUT /v1/users/me/retry-policy`.

use std::process::Command;

use serde_json::{Value, json};
use support::{Server, demo_key};

use super::{POLICY, codes, demo, framed, get, policy, put};

/// The commands of the published guide and reference page, as they stand there.
const PUBLISHED: &[&str] = &[
    r"curl 'https://api.example.com/v1/users/me/retry-policy' \
  -H 'Authorization: Bearer mxcep_••••'",
    r#"curl -X PUT 'https://api.example.com/v1/users/me/retry-policy' \
  -H 'Authorization: Bearer mxcep_••••' \
  -H 'Content-Type: application/json' \
  -d '{
    "retry_policy": {
      "enabled": true,
      "max_retries": 3,
      "interval_seconds": 600,
      "outcomes": ["not_found", "cep_unavailable"]
    }
  }'"#,
    r#"curl -X PUT 'https://api.example.com/v1/users/me/retry-policy' \
  -H 'Authorization: Bearer mxcep_••••' \
  -H 'Content-Type: application/json' \
  -d '{
    "retry_policy": { "enabled": false }
  }'"#,
    r#"curl -X PUT 'https://api.example.com/v1/users/me/retry-policy' \
  -H 'Authorization: Bearer mxcep_••••' \
  -H 'Idempotency-Key: policy-update-2025-03-15-v1' \
  -H 'Content-Type: application/json' \
  -d '{ "retry_policy": { "enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["not_found"] } }'"#,
    r#"curl -X PUT 'https://api.veriko.mx/v1/users/me/retry-policy' \
  -H 'Authorization: Bearer mxcep_••••' \
  -H 'Content-Type: application/json' \
  -d '{
    "retry_policy": {
      "enabled": false
    }
  }'"#,
];

/// Runs a published command with our host and key in it: the status and the body.
fn run(server: &Server, command: &str) -> (u16, Value) {
    let host = format!("http://{}", server.address);
    let command = command
        .replace("https://api.example.com", &host)
        .replace("https://api.veriko.mx", &host)
        .replace("mxcep_••••", &demo_key('1'));
    let output = Command::new("sh").arg("-c").arg(format!("{command} -sS -w '\\n%{{http_code}}'")).output();
    let output = output.expect("a shell and curl");
    let text = String::from_utf8(output.stdout).expect("answers are text");
    let (body, status) = text.rsplit_once('\n').expect("curl writes the status");
    let status = status.parse().expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|fault| panic!("{fault}: {body} {command}")))
}

fn attributes(body: &Value) -> Value {
    assert_eq!(body["data"]["type"], "retry_policy", "{body}");
    body["data"]["attributes"].clone()
}

#[test]
fn every_published_command_works_as_written() {
    let server = demo();
    let disabled = json!({"enabled": false, "max_retries": 0, "interval_seconds": 0, "outcomes": []});
    let enabled =
        |outcomes| json!({"enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": outcomes});
    let expected = [
        disabled.clone(),
        enabled(json!(["not_found", "cep_unavailable"])),
        disabled.clone(),
        enabled(json!(["not_found"])),
        disabled,
    ];
    for (command, expected) in PUBLISHED.iter().zip(expected) {
        let (status, body) = run(&server, command);
        assert_eq!(status, 200, "{command}: {body}");
        assert_eq!(attributes(&body), expected, "{command}");
    }
}

#[test]
fn what_was_saved_is_read_back_by_its_account_and_by_no_other() {
    let server = demo();
    let answer = put(&server).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = framed(&answer);
    assert_eq!(attributes(&body), policy(3)["retry_policy"]);
    assert_eq!(body["links"], json!({}));
    assert!(body["meta"].get("caps").is_none(), "{body}");

    assert_eq!(attributes(&framed(&get(&server).send())), policy(3)["retry_policy"]);
    for other in ['2', '3', '4'] {
        let answer = server.get(POLICY).bearer(&demo_key(other)).send();
        assert_eq!(attributes(&framed(&answer))["enabled"], false, "demo key {other}");
    }

    let off = json!({"retry_policy": {"enabled": false, "max_retries": "many", "outcomes": 7}});
    let answer = server.put(POLICY).bearer(&demo_key('1')).json(off).send();
    assert_eq!(answer.status, 200, "with enabled false the rest is ignored: {answer:?}");
    let zeros = json!({"enabled": false, "max_retries": 0, "interval_seconds": 0, "outcomes": []});
    assert_eq!(attributes(&framed(&answer)), zeros);
    assert_eq!(attributes(&framed(&get(&server).send())), zeros);
}

#[test]
fn reading_says_what_the_plan_allows() {
    let server = demo();
    for (key, cap) in [('1', 10), ('2', 5), ('3', 0)] {
        let body = framed(&server.get(POLICY).bearer(&demo_key(key)).send());
        assert_eq!(
            body["meta"]["caps"],
            json!({
                "max_retries_cap": cap,
                "min_interval_seconds": 300,
                "max_interval_seconds": 86400,
                "max_age_seconds": 604_800,
                "max_pending_per_user": 1000,
                "max_dispatched_per_day_per_user": 10000,
                "max_reactivations": 3,
                "eligible_outcomes": ["not_found", "cep_unavailable", "error"],
            })
        );
    }
}

#[test]
fn caps_come_from_the_configuration() {
    let config = "[veriko.caps]\nmin_interval_seconds = 60\n[veriko.plans.pro]\nmax_retries_cap = 2\n";
    let server = support::launch().demo().config(config).start();
    let caps = framed(&get(&server).send())["meta"]["caps"].clone();
    assert_eq!((&caps["max_retries_cap"], &caps["min_interval_seconds"]), (&json!(2), &json!(60)));
    let refused = put(&server).send();
    assert_eq!(codes(&refused), ["retry_policy_invalid"]);
    assert_eq!(framed(&refused)["meta"]["violations"][0]["max"], 2);
}

#[test]
fn both_ends_of_every_range_are_allowed() {
    let server = demo();
    for (retries, interval) in [(1, 300), (10, 86400)] {
        let wanted = json!({
            "enabled": true,
            "max_retries": retries,
            "interval_seconds": interval,
            "outcomes": ["error", "cep_unavailable", "not_found"],
        });
        let body = json!({"retry_policy": wanted});
        let answer = server.put(POLICY).bearer(&demo_key('1')).json(body).send();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(attributes(&framed(&answer)), wanted);
    }
}

/// What is sent under `retry_policy`; then, for each violation: field, reason, and the words for it in English and Spanish.
type Refused = (Value, &'static [(&'static str, &'static str, &'static str, &'static str)]);

fn refused() -> Vec<Refused> {
    const RETRIES: (&str, &str) = ("an integer from 1 to 10", "un entero de 1 a 10");
    const INTERVAL: (&str, &str) = ("an integer from 300 to 86400", "un entero de 300 a 86400");
    const LIST: (&str, &str) = ("not_found, cep_unavailable, error", "not_found, cep_unavailable, error");
    let with = |field: &str, value: Value| {
        let mut policy = policy(3)["retry_policy"].clone();
        policy[field] = value;
        policy
    };
    let without = |field: &str| {
        let mut policy = policy(3)["retry_policy"].clone();
        policy.as_object_mut().expect("it is one").remove(field);
        policy
    };
    vec![
        (json!([]), &[("retry_policy", "wrong_type", "an object", "un objeto")]),
        (json!(null), &[("retry_policy", "wrong_type", "an object", "un objeto")]),
        (json!({}), &[("enabled", "required", "true or false", "true o false")]),
        (without("enabled"), &[("enabled", "required", "true or false", "true o false")]),
        (with("enabled", json!("yes")), &[("enabled", "wrong_type", "true or false", "true o false")]),
        (with("enabled", json!(1)), &[("enabled", "wrong_type", "true or false", "true o false")]),
        (with("max_retries", json!(0)), &[("max_retries", "below_min", RETRIES.0, RETRIES.1)]),
        (with("max_retries", json!(-1)), &[("max_retries", "below_min", RETRIES.0, RETRIES.1)]),
        (with("max_retries", json!(11)), &[("max_retries", "above_max", RETRIES.0, RETRIES.1)]),
        (with("max_retries", json!(u64::MAX)), &[("max_retries", "above_max", RETRIES.0, RETRIES.1)]),
        (with("max_retries", json!(3.0)), &[("max_retries", "wrong_type", RETRIES.0, RETRIES.1)]),
        (with("max_retries", json!("3")), &[("max_retries", "wrong_type", RETRIES.0, RETRIES.1)]),
        (without("max_retries"), &[("max_retries", "required", RETRIES.0, RETRIES.1)]),
        (with("interval_seconds", json!(299)), &[("interval_seconds", "below_min", INTERVAL.0, INTERVAL.1)]),
        (
            with("interval_seconds", json!(86401)),
            &[("interval_seconds", "above_max", INTERVAL.0, INTERVAL.1)],
        ),
        (
            with("interval_seconds", json!(null)),
            &[("interval_seconds", "wrong_type", INTERVAL.0, INTERVAL.1)],
        ),
        (without("interval_seconds"), &[("interval_seconds", "required", INTERVAL.0, INTERVAL.1)]),
        (with("outcomes", json!([])), &[("outcomes", "empty", LIST.0, LIST.1)]),
        (with("outcomes", json!("not_found")), &[("outcomes", "wrong_type", LIST.0, LIST.1)]),
        (without("outcomes"), &[("outcomes", "required", LIST.0, LIST.1)]),
        (with("outcomes", json!(["not_found", "valid"])), &[("outcomes", "not_eligible", LIST.0, LIST.1)]),
        (with("outcomes", json!(["error", "error"])), &[("outcomes", "duplicate", "repeats", "repite")]),
        (with("outcomes", json!([7])), &[("outcomes", "wrong_type", LIST.0, LIST.1)]),
        (
            json!({"enabled": true, "max_retries": 99, "interval_seconds": 1, "outcomes": []}),
            &[
                ("max_retries", "above_max", RETRIES.0, RETRIES.1),
                ("interval_seconds", "below_min", INTERVAL.0, INTERVAL.1),
                ("outcomes", "empty", LIST.0, LIST.1),
            ],
        ),
    ]
}

#[test]
fn every_violation_is_named_with_its_range_in_both_languages() {
    let server = demo();
    let before = get(&server).send().json()["data"].clone();
    for (sent, expected) in refused() {
        for (language, spanish) in [("en", false), ("es-MX, en;q=0.5", true)] {
            let answer = server
                .put(POLICY)
                .bearer(&demo_key('1'))
                .header("Accept-Language", language)
                .json(json!({"retry_policy": sent}))
                .send();
            assert_eq!(answer.status, 422, "{sent}: {answer:?}");
            assert_eq!(answer.header("content-language"), Some(if spanish { "es" } else { "en" }));
            assert_eq!(codes(&answer), vec!["retry_policy_invalid"; expected.len()], "{sent}");

            let body = framed(&answer);
            for (index, (field, reason, in_english, in_spanish)) in expected.iter().enumerate() {
                let pointer = match *field {
                    "retry_policy" => "/data/attributes/retry_policy".to_owned(),
                    field => format!("/data/attributes/retry_policy/{field}"),
                };
                let error = &body["errors"][index];
                assert_eq!(error["source"]["pointer"], pointer, "{sent}: {body}");
                let words = if spanish { in_spanish } else { in_english };
                assert!(error["detail"].as_str().unwrap().contains(words), "{sent}: {words}: {error}");

                let violation = &body["meta"]["violations"][index];
                assert_eq!(
                    (&violation["field"], &violation["reason"]),
                    (&json!(field), &json!(reason)),
                    "{sent}"
                );
                let range = match *field {
                    "max_retries" => json!([1, 10, null]),
                    "interval_seconds" => json!([300, 86400, null]),
                    "outcomes" => json!([null, null, ["not_found", "cep_unavailable", "error"]]),
                    _ => json!([null, null, null]),
                };
                assert_eq!(
                    json!([violation["min"], violation["max"], violation["allowed"]]),
                    range,
                    "{sent}"
                );
            }
            assert_eq!(body["meta"]["violations"].as_array().map(Vec::len), Some(expected.len()), "{sent}");
        }
    }
    assert_eq!(get(&server).send().json()["data"], before, "a refused policy left something behind");
}

#[test]
fn a_body_without_a_policy_is_a_violation_of_the_policy_as_a_whole() {
    let server = demo();
    for body in ["{}", "[]", "7", r#""retry_policy""#, r#"{"enabled":false}"#] {
        let answer = server.put(POLICY).bearer(&demo_key('1')).json(body).send();
        assert_eq!((answer.status, codes(&answer)), (422, vec!["retry_policy_invalid".to_owned()]), "{body}");
        assert_eq!(framed(&answer)["errors"][0]["source"]["pointer"], "/data/attributes/retry_policy");
    }
}

#[test]
fn the_free_plan_cannot_enable_retries_and_can_disable_them() {
    let server = demo();
    let put = |body: Value| server.put(POLICY).bearer(&demo_key('3')).json(body).send();
    let refused = put(policy(1));
    assert_eq!(
        (refused.status, codes(&refused)),
        (422, vec!["retry_policy_invalid".to_owned()]),
        "{refused:?}"
    );
    let violation = framed(&refused)["meta"]["violations"][0].clone();
    assert_eq!((&violation["reason"], &violation["max"]), (&json!("plan_allows_none"), &json!(0)));
    assert_eq!(put(json!({"retry_policy": {"enabled": false}})).status, 200);
}

#[test]
fn any_account_may_set_its_own_policy_whatever_its_permissions() {
    let server = demo();
    assert_eq!(server.put(POLICY).bearer(&demo_key('4')).json(policy(3)).send().status, 200);
}
