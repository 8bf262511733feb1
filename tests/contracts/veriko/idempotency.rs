//! `Idempotency-Key`: a retried request happens once.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use support::{Response, demo_key, eventually, launch};

use super::{POLICY, code, demo, framed, get, policy, put, saved};

/// Sends until the answer is not "still running", as a client does.
fn answered(request: &support::Request) -> Response {
    eventually("the key is free or answered", || {
        let answer = request.send();
        if answer.status != 409 {
            return Some(answer);
        }
        assert_eq!(code(&answer), "idempotency_key_in_progress");
        assert_eq!(
            answer.number("retry-after"),
            framed(&answer)["meta"]["retry_after"].as_u64().expect("a number")
        );
        None
    })
}

#[test]
fn a_retry_gets_the_same_answer_and_changes_nothing() {
    let server = demo();
    let request = put(&server).key("first-of_many-1");
    let fresh = request.send();
    assert_eq!((fresh.status, fresh.header("idempotent-replayed")), (200, Some("false")), "{fresh:?}");
    framed(&fresh);

    // Somebody changes the policy in between: a second run of the first request would undo that.
    let between = server.put(POLICY).bearer(&demo_key('1')).json(policy(7)).send();
    assert_eq!((between.status, between.header("idempotent-replayed")), (200, None));
    for _ in 0..3 {
        let replay = request.send();
        assert_eq!(replay.header("idempotent-replayed"), Some("true"), "{replay:?}");
        assert_eq!(replay.lasting(), fresh.lasting());
    }
    assert_eq!(get(&server).send().json()["data"]["attributes"]["max_retries"], 7);
    assert_eq!(saved(&server), 2);
    assert_eq!(server.counted("idempotency_replays_total", &[]), 3);
}

#[test]
fn a_refusal_is_replayed_in_the_words_it_was_first_given() {
    let server = demo();
    let request = |language| {
        server
            .put(POLICY)
            .bearer(&demo_key('1'))
            .key("refused")
            .header("Accept-Language", language)
            .json(policy(11))
            .send()
    };
    let (first, second) = (request("es"), request("en"));
    assert_eq!((first.status, first.header("idempotent-replayed")), (422, Some("false")));
    assert_eq!((second.status, second.header("idempotent-replayed")), (422, Some("true")));
    assert_eq!(second.lasting(), first.lasting());
}

#[test]
fn without_a_key_every_request_runs_and_none_is_marked() {
    let server = demo();
    let answers: Vec<_> = (0..3).map(|_| put(&server).send()).collect();
    assert!(
        answers.iter().all(|answer| answer.status == 200 && answer.header("idempotent-replayed").is_none())
    );
    let ids: HashSet<_> = answers.iter().map(|answer| answer.header("x-request-id")).collect();
    assert_eq!((ids.len(), saved(&server)), (3, 3));
}

#[test]
fn a_key_means_nothing_where_nothing_is_changed() {
    let server = demo();
    for key in ["reader", "not a key at all", ""] {
        let answer = get(&server).key(key).send();
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{answer:?}");
    }
    let elsewhere = server.request("DELETE", POLICY).bearer(&demo_key('1')).key("deleter").send();
    assert_eq!((elsewhere.status, elsewhere.header("idempotent-replayed")), (405, None), "{elsewhere:?}");
}

#[test]
fn the_same_key_with_another_body_is_refused_and_keeps_its_answer() {
    let server = demo();
    let first = put(&server).key("reused").send();
    let other = server.put(POLICY).bearer(&demo_key('1')).key("reused").json(policy(4)).send();
    assert_eq!((other.status, code(&other)), (422, "idempotency_key_reused".to_owned()), "{other:?}");
    let replay = put(&server).key("reused").send();
    assert_eq!((replay.header("idempotent-replayed"), replay.lasting()), (Some("true"), first.lasting()));
    assert_eq!(saved(&server), 1);
    assert_eq!(server.counted("idempotency_rejections_total", &[r#"kind="idempotency_key_reused""#]), 1);
}

#[test]
fn two_accounts_with_one_key_are_two_requests() {
    let server = demo();
    let of = |digit| server.put(POLICY).bearer(&demo_key(digit)).key("shared").json(policy(2)).send();
    let (one, other) = (of('1'), of('2'));
    assert_eq!(
        (one.header("idempotent-replayed"), other.header("idempotent-replayed")),
        (Some("false"), Some("false"))
    );
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    assert_eq!(saved(&server), 2);
}

#[test]
fn an_account_is_the_same_account_under_either_prefix_of_its_key() {
    let server = demo();
    let old = put(&server).key("prefix").send();
    let newer = demo_key('1').replace("mxcep_", "veriko_");
    let replay = server.put(POLICY).bearer(&newer).key("prefix").json(policy(3)).send();
    assert_eq!((replay.header("idempotent-replayed"), replay.lasting()), (Some("true"), old.lasting()));
}

#[test]
fn what_is_no_key_is_refused_and_nothing_runs() {
    let server = demo();
    let too_long = "k".repeat(256);
    let malformed: [&[u8]; 8] = [
        b"",
        b"   ",
        too_long.as_bytes(),
        b"two words",
        b"a,b",
        b"\"quoted\"",
        "llave-ñ".as_bytes(),
        b"\xff",
    ];
    for value in malformed {
        let answer = put(&server).header("Idempotency-Key", value).send();
        let value = String::from_utf8_lossy(value);
        assert_eq!((answer.status, code(&answer)), (400, "invalid_idempotency_key".to_owned()), "{value}");
    }
    for second in ["twice", "other"] {
        let answer = put(&server).key("twice").key(second).send();
        assert_eq!((answer.status, code(&answer)), (400, "invalid_idempotency_key".to_owned()), "{second}");
    }
    assert_eq!(saved(&server), 0);

    let spanish = put(&server).key("a b").header("Accept-Language", "es").send();
    assert!(
        framed(&spanish)["errors"][0]["detail"].as_str().unwrap().contains("no es válida"),
        "{spanish:?}"
    );
}

#[test]
fn the_longest_and_the_shortest_key_are_keys() {
    let server = demo();
    for key in ["k".repeat(255), "k".to_owned(), "AZaz09_-".to_owned()] {
        assert_eq!(put(&server).key(&key).send().header("idempotent-replayed"), Some("false"), "{key}");
        assert_eq!(put(&server).key(&key).send().header("idempotent-replayed"), Some("true"), "{key}");
    }
}

#[test]
fn of_many_requests_at_once_with_one_key_one_runs() {
    const AT_ONCE: usize = 24;
    const ROUNDS: u64 = 25;
    let server = launch().demo().config("[veriko.plans.pro]\nrate_per_minute = 100000\n").start();
    for round in 1..=ROUNDS {
        let request = put(&server).key(&format!("race-{round}"));
        let start = Barrier::new(AT_ONCE);
        let answers: Vec<Response> = thread::scope(|scope| {
            let clients: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        answered(&request)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let fresh =
            answers.iter().filter(|answer| answer.header("idempotent-replayed") == Some("false")).count();
        assert_eq!(fresh, 1, "round {round}");
        assert!(
            answers.iter().all(|answer| answer.lasting() == answers[0].lasting()),
            "round {round}: {answers:?}"
        );
        assert_eq!(saved(&server), round);
    }
}

#[test]
fn a_client_that_hangs_up_finds_its_answer_when_it_comes_back() {
    const CLIENTS: u32 = 50;
    let server = demo();
    for client in 0..CLIENTS {
        let request = put(&server).key(&format!("gone-{client}"));
        request.send_and_leave();
        let answer = answered(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answered(&request).lasting(), answer.lasting());
    }
    // Whether or not the server had seen the first try before its client left: it ran once, then or on the retry.
    assert_eq!(saved(&server), u64::from(CLIENTS));
}

#[test]
fn a_body_that_stops_half_way_runs_nothing_and_leaves_the_key_free() {
    let server = demo();
    let whole = put(&server).key("half");
    let mut half = server.connect();
    let head = format!(
        "PUT {POLICY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nIdempotency-Key: half\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"retry_policy\"",
        demo_key('1')
    );
    half.write(head.as_bytes());
    drop(half);
    let answer = answered(&whole);
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("false")), "{answer:?}");
    assert_eq!(saved(&server), 1);
}

#[test]
fn a_key_is_forgotten_when_its_time_is_over() {
    let server = launch().demo().config("[idempotency]\nttl_seconds = 1\n").start();
    let first = put(&server).key("short").send();
    let second = eventually("the record expires", || {
        let answer = put(&server).key("short").send();
        (answer.header("idempotent-replayed") == Some("false")).then_some(answer)
    });
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(saved(&server), 2);
}

#[test]
fn who_is_nobody_leaves_no_record() {
    let server = demo();
    let refused = server.put(POLICY).bearer(&demo_key('9')).key("mine").json(policy(3)).send();
    assert_eq!((refused.status, refused.header("idempotent-replayed")), (401, None), "{refused:?}");
    assert_eq!(put(&server).key("mine").send().header("idempotent-replayed"), Some("false"));
}
