//! Requests per minute.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use private_postgres::shared_database;
use serde_json::json;
use support::{Response, Server, Statements, demo_key, launch};

use super::{POLICY, code, framed, get, policy, put, saved};

const LIMIT: u64 = 5;

fn limited() -> Server {
    launch().demo().config("[veriko.plans.pro]\nrate_per_minute = 5\n").start()
}

/// What is left, after a look at the other two numbers.
fn left(answer: &Response) -> u64 {
    assert_eq!(answer.number("x-ratelimit-limit"), LIMIT, "{answer:?}");
    #[allow(clippy::disallowed_methods, reason = "the header states a moment of the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let reset = answer.number("x-ratelimit-reset");
    // A full minute to fill, and one second for rounding up; below, for a slow machine.
    assert!((now.saturating_sub(30)..=now + 61).contains(&reset), "{now}: {answer:?}");
    answer.number("x-ratelimit-remaining")
}

#[test]
fn every_success_says_how_much_is_left_until_nothing_is() {
    let server = limited();
    for expected in (0..LIMIT).rev() {
        let answer = get(&server).send();
        assert_eq!((answer.status, left(&answer)), (200, expected));
    }
    let refused = get(&server).send();
    assert_eq!((refused.status, code(&refused), left(&refused)), (429, "rate_limit_exceeded".to_owned(), 0));
    let wait = refused.number("retry-after");
    assert!((1..=12).contains(&wait), "one request comes back every 12 s: {wait}");
    assert_eq!(framed(&refused)["meta"]["retry_after"], wait);

    let other = server.get(POLICY).bearer(&demo_key('2')).send();
    assert_eq!(other.status, 200, "one account's requests are no other's: {other:?}");
}

#[test]
fn a_replay_spends_nothing_and_says_what_is_left_now() {
    let server = limited();
    let request = put(&server).key("kept");
    assert_eq!(left(&request.send()), LIMIT - 1);
    assert_eq!(left(&get(&server).send()), LIMIT - 2);
    for _ in 0..3 * LIMIT {
        let replay = request.send();
        assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")), "{replay:?}");
        assert_eq!(left(&replay), LIMIT - 2, "neither the number of then, nor one less");
    }
    for _ in 0..LIMIT - 2 {
        assert_eq!(get(&server).send().status, 200);
    }
    assert_eq!(get(&server).send().status, 429);
    let replay = request.send();
    assert_eq!((replay.status, left(&replay)), (200, 0), "with nothing left, a retry still gets its answer");
}

#[test]
fn a_refusal_for_too_many_requests_is_not_stored() {
    let server = launch().demo().config("[veriko.plans.pro]\nrate_per_minute = 30\n").start();
    while get(&server).send().status == 200 {}
    let request = put(&server).key("too-early");
    let mut refused = 0;
    let answer = support::eventually("a request comes back every 2 s", || {
        let answer = request.send();
        refused += u32::from(answer.status == 429);
        (answer.status != 429).then_some(answer)
    });
    assert!(refused > 0, "the bucket was never empty");
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("false")), "{answer:?}");
    assert_eq!(saved(&server), 1);
}

#[test]
fn many_at_once_get_no_more_than_the_limit() {
    let server = limited();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(|| put(&server).send().status)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count() as u64;
    // On a machine so slow that this takes 12 s, one comes back.
    assert!((LIMIT..=LIMIT + 1).contains(&passed), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(saved(&server), passed);
}

#[test]
fn who_is_not_let_in_spends_nothing() {
    let server = limited();
    for _ in 0..3 * LIMIT {
        assert_eq!(server.put(POLICY).bearer(&demo_key('9')).json(policy(1)).send().status, 401);
        assert_eq!(put(&server).key("not a key").send().status, 400);
    }
    assert_eq!(left(&get(&server).send()), LIMIT - 1);
}

/// A configuration in which the worker only runs what it is woken for, and does not poll.
#[test]
fn a_request_that_is_refused_writes_nothing_and_reads_once() {
    let database = Statements::of(&shared_database());
    let config = "[veriko.plans.pro]\nrate_per_minute = 1\n[scheduler]\npoll_seconds = 3600\n";
    let server = launch().demo().database(database.url()).config(config).start();
    let kept = put(&server).key("the-kept-key");
    assert_eq!(kept.send().status, 200);
    assert_eq!(get(&server).send().status, 429);
    database.take();
    let validate = server.post("/v1/validate").bearer(&demo_key('1')).json(json!({}));
    // A claim of its own, and one that is the handler's transaction.
    for number in 0..10 {
        for request in [validate.clone(), put(&server)] {
            let refused = request.key(&format!("refused-{number:04}")).send();
            assert_eq!((refused.status, code(&refused).as_str()), (429, "rate_limit_exceeded"));
        }
    }
    let statements = database.take();
    let looks = statements.iter().filter(|text| text.starts_with("SELECT EXISTS")).count();
    let claims =
        statements.iter().filter(|text| text.contains("INSERT") || text.contains("advisory")).count();
    assert_eq!((looks, claims), (20, 0), "{statements:#?}");

    let replay = kept.send();
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
    let other = put(&server).key("the-kept-key").json(policy(2)).send();
    assert_eq!(code(&other), "idempotency_key_reused", "whoever has a record is answered by it");
}

#[test]
fn an_account_has_so_many_keys_and_may_repeat_what_it_has() {
    for database in [None, Some(shared_database())] {
        let mut launch = launch().demo().config("[limits]\nkeys_per_account = 3\n");
        if let Some(url) = &database {
            launch = launch.database(url);
        }
        let server = launch.start();
        // Those that are refused with an answer that is kept count, too.
        let invalid = server.post("/v1/validate").bearer(&demo_key('1')).json(json!({}));
        assert_eq!(invalid.key("the-first-key").send().status, 422);
        for key in ["the-second-key", "the-third-key"] {
            assert_eq!(put(&server).key(key).send().status, 200);
        }
        for key in ["one-more-key", "and-one-more"] {
            let refused = put(&server).key(key).send();
            assert_eq!((refused.status, code(&refused).as_str()), (429, "rate_limit_exceeded"));
            let wait = refused.number("retry-after");
            assert!((23 * 3600..=25 * 3600).contains(&wait), "until the first is dropped: {wait}");
            assert!(refused.text().contains("idempotency keys"), "{}", refused.text());
        }
        let replay = put(&server).key("the-second-key").send();
        assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(put(&server).send().status, 200, "without a key, nothing is kept");
        let other = server.put(POLICY).bearer(&demo_key('2')).json(policy(1)).key("one-more-key").send();
        assert_eq!(other.status, 200, "{}", other.text());
    }
}
