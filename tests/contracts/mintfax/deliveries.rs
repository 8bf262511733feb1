//! What becomes of faxes.

use serde_json::{Value, json};
use support::eventually;

use super::{Form, TEST, balance, code, demo, demo_with, ended, fields, get, sent};

#[test]
fn what_happens_in_the_sandbox_follows_from_the_number() {
    let server = demo();
    // To, status, pages, error, retries left of two.
    let table: &[(&str, &str, Value, Value, u64)] = &[
        ("+15005550001", "delivered", json!(1), json!(null), 2),
        ("+15005550002", "failed", json!(null), json!("busy"), 0),
        ("+15005550003", "failed", json!(null), json!("no_answer"), 0),
        ("+15005550004", "delivered", json!(1), json!(null), 1),
        ("+15005550005", "failed", json!(null), json!("line_quality"), 0),
        ("+15005550007", "delivered", json!(3), json!(null), 2),
        ("+15005550008", "failed", json!(null), json!("invalid_number"), 2),
        ("+12015550100", "delivered", json!(1), json!(null), 2),
    ];
    let ids: Vec<_> =
        table.iter().map(|(to, ..)| sent(&server, &Form::to(to).field("retries", "2"))).collect();
    for (id, (to, status, pages, error, remaining)) in ids.iter().zip(table) {
        let fax = ended(&server, id);
        let expected = json!([to, status, pages, error, remaining]);
        let found =
            json!([fax["to"], fax["status"], fax["pages"], fax["error_code"], fax["retries_remaining"]]);
        assert_eq!(found, expected, "{fax}");
        assert_eq!(fax["error_message"].is_null(), error.is_null(), "{fax}");
        assert!(fax["submitted_at"].is_string() && fax["completed_at"].is_string(), "{fax}");
    }
    assert!(server.files().is_empty(), "documents go with the end of their faxes");
}

#[test]
fn two_numbers_are_refused_and_leave_no_record() {
    let server = demo();
    let before = balance(&server, TEST);
    let refused = Form::to("+15005550006").post(&server, TEST).send();
    assert_eq!((refused.status, code(&refused).as_str()), (402, "insufficient_balance"));
    assert_eq!(refused.json()["action"], "top_up_balance");
    assert_eq!(fields(&Form::to("+15005550099").post(&server, TEST).send()), ["to"]);
    assert_eq!(get(&server, "/v1/faxes")["meta"]["total"], 0);
    assert_eq!(balance(&server, TEST), before);
    assert!(server.files().is_empty());
}

#[test]
fn there_is_one_attempt_more_than_retries() {
    let server = demo();
    for retries in [0, 1, 10] {
        let attempts = || server.counted("mintfax_attempts_total", &["outcome=\"failed\""]);
        let before = attempts();
        let id = sent(&server, &Form::to(super::BUSY).field("retries", &retries.to_string()));
        assert_eq!(ended(&server, &id)["status"], "failed");
        assert_eq!(attempts() - before, retries + 1);
    }
}

/// While the first retry is an hour away.
#[test]
fn a_fax_that_waits_to_be_sent_again_is_in_progress() {
    let server = demo_with("retry_base_seconds = 3600\nretry_max_seconds = 3600");
    let id = sent(&server, &Form::to("+15005550004"));
    let fax = eventually("the first attempt fails", || {
        let fax = get(&server, &format!("/v1/faxes/{id}"));
        (!fax["error_code"].is_null()).then_some(fax)
    });
    assert_eq!((&fax["status"], &fax["error_code"]), (&json!("in_progress"), &json!("transient_error")));
    assert_eq!((&fax["retries_remaining"], &fax["completed_at"]), (&json!(3), &json!(null)), "{fax}");
    assert_eq!(server.files(), [id], "its document is needed");
    assert_eq!(balance(&server, TEST), (999_990, 10));
}

/// Each look finds the same as the one before, or something further down the list.
#[test]
fn a_fax_only_ever_moves_on() {
    const ORDER: [&str; 4] = ["queued", "submitted", "in_progress", "failed"];
    let server = demo();
    let id = sent(&server, &Form::to(super::BUSY));
    let mut seen = 0;
    eventually("the fax ends", || {
        let fax = get(&server, &format!("/v1/faxes/{id}"));
        let at = ORDER.iter().position(|status| fax["status"] == *status).expect("one of them");
        assert!(at >= seen, "{} after {}", ORDER[at], ORDER[seen]);
        seen = at;
        (at == 3).then_some(())
    });
}
