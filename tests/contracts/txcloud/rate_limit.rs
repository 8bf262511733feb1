//! Requests per minute.

use std::time::{SystemTime, UNIX_EPOCH};

use support::{Response, Server, launch};

use super::{LIVE, OTHER, TEST, judged, operations, post, refused, transaction};

const LIMIT: u64 = 3;

fn limited() -> Server {
    launch().demo().config("[txcloud]\nrate_per_minute = 3\n").start()
}

/// What is left, after a look at the other numbers.
fn left(answer: &Response) -> u64 {
    assert_eq!(
        (answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-window")),
        (LIMIT, 60),
        "{answer:?}"
    );
    #[allow(clippy::disallowed_methods, reason = "the header states a moment of the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // A full minute to fill, and one second for rounding up; below, for a slow machine.
    let reset = answer.number("x-ratelimit-reset");
    assert!((now.saturating_sub(30)..=now + 61).contains(&reset), "{now}: {answer:?}");
    answer.number("x-ratelimit-remaining")
}

#[test]
fn every_answer_says_how_much_is_left_until_nothing_is() {
    let server = limited();
    for expected in (0..LIMIT).rev() {
        let answer = post(&server, "/transactions/score", &transaction()).send();
        assert_eq!((answer.status, left(&answer)), (200, expected));
    }
    let answer = post(&server, "/transactions/score", &transaction()).send();
    assert_eq!((answer.status, left(&answer)), (429, 0));
    assert_eq!(refused(&answer), ("rate_limit_error".into(), "rate_limit_exceeded".into()));
    let wait = answer.number("retry-after");
    assert!((1..=20).contains(&wait), "one request comes back every 20 s: {wait}");
    assert_eq!(answer.json()["error"]["retry_after"], wait);
    for key in [LIVE, OTHER] {
        let other = server.post("/transactions/score").bearer(key).json(transaction()).send();
        assert_eq!(other.status, 200, "each key has its own: {other:?}");
    }
    assert_eq!(left(&server.get("/identity/verifications").send()), LIMIT, "who is nobody has spent nothing");
}

#[test]
fn with_nothing_left_a_retry_still_gets_its_answer() {
    let server = limited();
    let request = server.post("/v1/transactions/score").bearer(TEST).key("scored-once-1").json(transaction());
    let first = request.send();
    assert_eq!(left(&first), LIMIT - 1);
    while post(&server, "/transactions/score", &transaction()).send().status != 429 {}
    for _ in 0..2 * LIMIT {
        let replay = request.send();
        assert_eq!((replay.header("idempotent-replayed"), left(&replay)), (Some("true"), 0));
        assert_eq!(replay.lasting(), first.lasting());
    }
    assert_eq!(judged(&server), LIMIT);
}

#[test]
fn a_refusal_for_too_many_requests_is_not_stored() {
    let server = limited();
    while post(&server, "/transactions/score", &transaction()).send().status != 429 {}
    for (path, body, _) in operations() {
        let request = post(&server, path, &body).key("refused-key-1");
        assert_eq!(
            (request.send().status, request.send().header("idempotent-replayed")),
            (429, None),
            "{path}"
        );
    }
}
