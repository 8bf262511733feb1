//! What is refused, in which words.

use super::{DELIVERED, Form, LIVE, OTHER, TEST, code, demo, demo_with, failure, fields, sent};

#[test]
fn failures_have_one_form() {
    let server = demo();
    let known = sent(&server, &Form::to(DELIVERED));
    let unknown = "/v1/faxes/fax_00000000000000000000000000";
    let json = |request: support::Request| request.json("{}");
    for (request, status, error, action) in [
        (server.get("/v1/faxes"), 401, "unauthenticated", "check_api_key"),
        (server.get("/v1/faxes").bearer("mfx_test_unknown00000"), 401, "unauthenticated", "check_api_key"),
        (server.get("/v1/faxes").bearer("mfx_acct_abc123def456"), 401, "unauthenticated", "check_api_key"),
        (server.get("/v1/faxes").bearer(&support::demo_key('1')), 401, "unauthenticated", "check_api_key"),
        (server.get(unknown).bearer(TEST), 404, "not_found", "fix_request"),
        (server.get("/v1/faxes/no-id").bearer(TEST), 404, "not_found", "fix_request"),
        (server.get(&format!("/v1/faxes/{known}")).bearer(LIVE), 404, "not_found", "fix_request"),
        (server.get(&format!("/v1/faxes/{known}")).bearer(OTHER), 404, "not_found", "fix_request"),
        (server.get(&format!("/v1/fax/{known}")).bearer(OTHER), 404, "not_found", "fix_request"),
        (server.request("DELETE", "/v1/faxes").bearer(TEST), 405, "method_not_allowed", "fix_request"),
        (server.post("/v1/account/balance").bearer(TEST), 405, "method_not_allowed", "fix_request"),
        (json(server.post("/v1/faxes").bearer(TEST)), 400, "bad_request", "fix_request"),
        (Form::to(DELIVERED).post(&server, LIVE), 503, "carrier_unavailable", "wait_and_retry"),
    ] {
        let answer = request.send();
        let body = failure(&answer);
        assert_eq!((answer.status, &body["error"], &body["action"]), (status, &error.into(), &action.into()));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
        let limit = ["limit", "remaining", "reset"].map(|n| answer.number(&format!("x-ratelimit-{n}")));
        assert!(limit[0] == 100_000 && limit[1] <= limit[0] && limit[2] <= 60, "{answer:?}");
    }
}

#[test]
fn a_veriko_key_and_a_mintfax_key_do_not_open_each_other() {
    let server = demo();
    let veriko = server.get("/v1/users/me/retry-policy");
    assert_eq!(veriko.clone().bearer(&support::demo_key('1')).send().status, 200);
    assert_eq!(veriko.bearer(TEST).send().status, 401);
}

#[test]
fn everything_that_is_wrong_with_a_fax_is_said_at_once() {
    let server = demo();
    let form = Form::default().field("to", "12").field("retries", "11").field("webhook_url", "ftp://x");
    assert_eq!(fields(&form.post(&server, TEST).send()), ["file", "retries", "to", "webhook_url"]);
    assert_eq!(fields(&Form::default().post(&server, TEST).send()), ["file", "to"]);
    assert_eq!(
        fields(&Form::default().field("to", DELIVERED).file(b"\x7fELF\0").post(&server, TEST).send()),
        ["file"]
    );
    for page in ["0", "-1", "x", ""] {
        assert_eq!(fields(&server.get(&format!("/v1/faxes?page={page}")).bearer(TEST).send()), ["page"]);
    }
}

#[test]
fn requests_beyond_the_limit_are_told_how_long_to_wait() {
    let server = demo_with("rate_per_minute = 5");
    for left in (0..5).rev() {
        let answer = server.get("/v1/faxes").bearer(TEST).send();
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
        assert_eq!(answer.number("x-ratelimit-limit"), 5);
        let reset = answer.number("x-ratelimit-reset");
        assert!((1..=60).contains(&reset), "seconds left, no epoch: {reset}");
    }
    let refused = Form::to(DELIVERED).post(&server, TEST).key("too-early").send();
    assert_eq!((refused.status, code(&refused).as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.json()["action"], "wait_and_retry");
    assert!((1..=12).contains(&refused.number("retry-after")), "{refused:?}");
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    assert_eq!(refused.header("x-idempotency-key"), Some("too-early"));

    let live = server.get("/v1/faxes").bearer(LIVE).send();
    assert_eq!(live.status, 200, "environments have limits of their own");
}
