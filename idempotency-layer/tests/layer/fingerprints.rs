//! Requests with one key: which of them are the same.

use http::Request;
use idempotency_layer::{Contract, FingerprintMode, RejectionKind};

use crate::support::{Count, Req, counting, full, post, send, under};

/// A request with this content type and body.
fn typed(content_type: &str, body: &str) -> Req {
    let request =
        Request::post("/orders").header("idempotency-key", "key").header("content-type", content_type);
    request.body(full(body.to_owned())).unwrap()
}

/// Returns whether the second request is a retry of the first. If not, it is refused.
async fn same(mode: FingerprintMode, first: Req, second: Req) -> bool {
    let runs = Count::default();
    let service = under(Contract::veriko().fingerprint(mode), counting(&runs));
    assert_eq!(send(&service, first).await.status, 201);
    let answer = send(&service, second).await;
    assert_eq!(runs.get(), 1);
    if answer.is_replay() {
        return true;
    }
    assert_eq!(answer.kind(), Some(RejectionKind::KeyReused));
    false
}

async fn same_json(first: &str, second: &str) -> bool {
    let json = |body| typed("application/json", body);
    same(FingerprintMode::Canonical, json(first), json(second)).await
}

async fn same_form(first: (&str, &str), second: (&str, &str)) -> bool {
    let form = |(boundary, content): (&str, &str)| {
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{content}\r\n--{boundary}--\r\n"
        );
        typed(&format!("multipart/form-data; boundary={boundary}"), &body)
    };
    same(FingerprintMode::Canonical, form(first), form(second)).await
}

#[tokio::test(start_paused = true)]
async fn numbers_are_compared_by_their_text_and_never_folded_to_doubles() {
    for (one, other) in [
        ("10000000000000001", "10000000000000000"),
        ("0.1", "0.10000000000000001"),
        ("1e400", "1e401"),
        ("1", "1.0"),
        ("1", "1e0"),
        ("-0", "0"),
    ] {
        let amount = |number| format!(r#"{{"amount":{number}}}"#);
        assert!(!same_json(&amount(one), &amount(other)).await, "{one} {other}");
        assert!(same_json(&amount(one), &amount(one)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn canonical_json_is_the_same_in_any_order_and_spacing() {
    assert!(same_json(r#"{"a":1,"b":[1,2]}"#, "{ \"b\" : [ 1,\n2 ],\t\"a\":1 }\n").await);
    assert!(same_json(r#"{"a":"A"}"#, r#"{"a":"\u0041"}"#).await);
}

#[tokio::test(start_paused = true)]
async fn canonical_json_of_another_content_is_another_request() {
    for (one, other) in [
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":1}"#, r#"{"A":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":"x"}"#, r#"{"a":"x "}"#),
        (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
        ("[]", "{}"),
        ("1", "[1]"),
    ] {
        assert!(!same_json(one, other).await, "{one} {other}");
    }
}

#[tokio::test(start_paused = true)]
async fn broken_json_counts_by_its_bytes() {
    assert!(same_json(r#"{"a":"#, r#"{"a":"#).await);
    assert!(!same_json(r#"{"a":"#, r#"{ "a":"#).await);
}

#[tokio::test(start_paused = true)]
async fn the_boundary_of_a_multipart_body_makes_no_other_request_and_its_content_does() {
    assert!(same_form(("one", "fax"), ("another-boundary", "fax")).await);
    assert!(!same_form(("one", "fax"), ("one", "mail")).await);
}

#[tokio::test(start_paused = true)]
async fn raw_bytes_are_compared_as_they_are() {
    let json = |body| typed("application/json", body);
    assert!(!same(FingerprintMode::Raw, json("{\"a\":1}"), json("{ \"a\":1}")).await);
    assert!(same(FingerprintMode::Raw, json("{\"a\":1}"), json("{\"a\":1}")).await);
    assert!(
        same(FingerprintMode::Raw, typed("text/plain", "x"), typed("text/html", "x")).await,
        "headers do not count"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_fingerprint_every_request_with_the_key_is_the_same() {
    assert!(same(FingerprintMode::None, post("key", "one"), post("key", "another")).await);
}

#[tokio::test(start_paused = true)]
async fn the_query_counts_in_both_modes_that_compare() {
    for mode in [FingerprintMode::Raw, FingerprintMode::Canonical] {
        let asking = |uri: &str| {
            let mut request = typed("application/json", "{}");
            *request.uri_mut() = uri.parse().unwrap();
            request
        };
        assert!(!same(mode, asking("/orders?a=1"), asking("/orders?a=2")).await);
        assert!(same(mode, asking("/orders"), asking("/orders?")).await, "an empty query is none");
    }
}
