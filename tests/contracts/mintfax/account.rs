//! Settings, and whose they are.

use support::{Response, Server};

use super::{BUSY, Form, LIVE, OTHER, TEST, code, demo, ended, fields, get, sent};

const SETTINGS: &str = "/v1/account/fax-settings";

fn put(server: &Server, key: &str, body: &str) -> Response {
    server.put(SETTINGS).bearer(key).json(body).send()
}

fn retries(server: &Server, key: &str) -> u64 {
    let answer = server.get(SETTINGS).bearer(key).send();
    answer.json()["retries"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn settings_hold_for_faxes_that_do_not_say_otherwise() {
    let server = demo();
    assert_eq!(retries(&server, TEST), 3);
    let saved = put(&server, TEST, r#"{"retries": 1}"#);
    assert_eq!((saved.status, saved.text()), (200, r#"{"retries":1}"#.to_owned()));
    assert_eq!(retries(&server, TEST), 1);

    let answer = Form::to(BUSY).post(&server, TEST).send();
    assert_eq!(answer.json()["retries"], 1);
    let answer = Form::to(BUSY).field("retries", "0").post(&server, TEST).send();
    assert_eq!(answer.json()["retries"], 0);
    let id = sent(&server, &Form::to(BUSY));
    assert_eq!(ended(&server, &id)["retries_remaining"], 0);
}

#[test]
fn settings_are_those_of_one_account_in_one_environment() {
    let server = demo();
    assert_eq!(put(&server, TEST, r#"{"retries": 7}"#).status, 200);
    assert_eq!((retries(&server, TEST), retries(&server, LIVE), retries(&server, OTHER)), (7, 3, 3));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let server = demo();
    for body in [
        "{}",
        r#"{"retries": null}"#,
        r#"{"retries": 11}"#,
        r#"{"retries": -1}"#,
        r#"{"retries": 1.5}"#,
        r#"{"retries": "3"}"#,
        r#"{"retries": true}"#,
        "[]",
    ] {
        assert_eq!(fields(&put(&server, TEST, body)), ["retries"], "{body}");
    }
    for body in ["", "{", "retries=3"] {
        let answer = put(&server, TEST, body);
        assert_eq!((answer.status, code(&answer).as_str()), (400, "bad_request"), "{body}");
    }
    let long = put(&server, TEST, &format!(r#"{{"retries": 3, "x": "{}"}}"#, "x".repeat(300_000)));
    assert_eq!(long.status, 413);
    assert_eq!(get(&server, SETTINGS)["retries"], 3);
}

/// Keys mean something on POST only.
#[test]
fn a_key_on_another_method_is_ignored() {
    let server = demo();
    for body in [r#"{"retries": 1}"#, r#"{"retries": 2}"#] {
        let answer = server.put(SETTINGS).bearer(TEST).key("the-key").json(body).send();
        assert_eq!((answer.status, answer.header("x-idempotency-key")), (200, None));
        assert_eq!(answer.header("idempotency-replayed"), None);
    }
    assert_eq!(retries(&server, TEST), 2);
    let answer = server.get(SETTINGS).bearer(TEST).key("").send();
    assert_eq!((answer.status, answer.header("x-idempotency-key")), (200, None));
}
