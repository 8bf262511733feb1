//! Sending faxes and reading them.

use serde_json::json;
use support::Server;

use super::{BUSY, DELIVERED, Form, LIVE, OTHER, TEST, accepted, demo, demo_with, get, sent, shown};

#[test]
fn a_fax_that_is_accepted_says_what_it_is() {
    let server = demo();
    let answer = Form::to("+12015550100").field("retries", "0").post(&server, TEST).send();
    let body = answer.json();
    let id = accepted(&answer);
    let created_at = body["created_at"].as_str().expect("a time");
    assert!(created_at.len() == 20 && created_at.ends_with('Z'), "{created_at}");
    let expected =
        json!({"id": id, "status": "queued", "to": "+12015550100", "retries": 0, "created_at": created_at});
    assert_eq!(body, expected);
}

/// Of a worker that has nothing to spare for it.
#[test]
fn a_fax_is_read_by_both_of_its_paths() {
    let server = demo_with("retry_base_seconds = 3600\nretry_max_seconds = 3600");
    let answer = Form::to(BUSY).field("retries", "5").post(&server, TEST).key("the key").send();
    let id = accepted(&answer);
    let fax = support::eventually("the first attempt fails", || {
        let fax = get(&server, &format!("/v1/faxes/{id}"));
        (!fax["error_code"].is_null()).then_some(fax)
    });
    assert_eq!(get(&server, &format!("/v1/fax/{id}")), fax);
    let mut expected = shown(BUSY);
    for (name, value) in [
        ("id", json!(id)),
        ("status", json!("in_progress")),
        ("retries_remaining", json!(5)),
        ("error_code", json!("busy")),
        ("idempotency_key", json!("the key")),
        ("completed_at", json!(null)),
    ] {
        expected[name] = value;
    }
    for name in ["error_message", "created_at", "updated_at", "submitted_at"] {
        assert!(fax[name].is_string(), "{fax}");
        expected[name] = fax[name].clone();
    }
    assert_eq!(fax, expected);
    // To anybody else, and to the other environment, there is none.
    for (key, status) in [(TEST, 200), (LIVE, 404), (OTHER, 404)] {
        for path in ["faxes", "fax"] {
            assert_eq!(server.get(&format!("/v1/{path}/{id}")).bearer(key).send().status, status, "{key}");
        }
    }
}

#[test]
fn every_kind_of_document_is_taken_for_what_it_is() {
    let server = demo();
    for content in [
        &b"%PDF-1.4"[..],
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"MM\0*",
        b"<!doctype html><p>Sehr geehrte",
        b"Dear Sir",
    ] {
        sent(&server, &Form::default().file(content).field("to", DELIVERED));
    }
}

fn ids(server: &Server, key: &str, page: u32) -> Vec<String> {
    let list = server.get(&format!("/v1/faxes?page={page}")).bearer(key).send().json();
    let ids = list["data"].as_array().unwrap_or_else(|| panic!("{list}")).iter();
    ids.map(|fax| fax["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_list_has_twenty_on_a_page_the_latest_first() {
    let server = demo();
    let mut sent: Vec<_> = (0..45).map(|_| sent(&server, &Form::to(DELIVERED))).collect();
    sent.reverse();
    for (page, expected) in [(1, &sent[..20]), (2, &sent[20..40]), (3, &sent[40..]), (4, &[])] {
        assert_eq!(ids(&server, TEST, page), expected, "{page}");
    }
    let meta = json!({"current_page": 1, "per_page": 20, "last_page": 3, "total": 45});
    assert_eq!(get(&server, "/v1/faxes")["meta"], meta);
    assert_eq!(get(&server, "/v1/faxes")["data"][0], get(&server, &format!("/v1/faxes/{}", sent[0])));
    for key in [LIVE, OTHER] {
        assert!(ids(&server, key, 1).is_empty(), "{key}");
    }
}
