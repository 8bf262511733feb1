//! `Idempotency-Key`: a fax that is sent again is sent once.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use support::{Response, Server, eventually};

use super::{
    BUSY, DELIVERED, Form, LIVE, OTHER, TEST, accepted, balance, code, demo, demo_with, fields, get,
};

fn total(server: &Server) -> u64 {
    get(server, "/v1/faxes")["meta"]["total"].as_u64().expect("a number")
}

/// Whether it is a replay, and the key it says it has.
fn marks(answer: &Response) -> (Option<&str>, Option<&str>) {
    (answer.header("idempotency-replayed"), answer.header("x-idempotency-key"))
}

#[test]
fn a_fax_that_is_sent_again_is_the_same_fax() {
    let server = demo();
    let first = Form::to(DELIVERED).post(&server, TEST).key("the-key").send();
    accepted(&first);
    assert_eq!(marks(&first), (None, Some("the-key")));
    // Bodies are never compared: not even one that would be refused.
    for form in [Form::to(DELIVERED), Form::to(BUSY), Form::default(), Form::to("+15005550006")] {
        let again = form.post(&server, TEST).key("the-key").send();
        assert_eq!(marks(&again), (Some("true"), Some("the-key")));
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(again.header("x-request-id"), first.header("x-request-id"));
    }
    let json = server.post("/v1/faxes").bearer(TEST).key("the-key").json("{}").send();
    assert_eq!((json.status, marks(&json)), (201, (Some("true"), Some("the-key"))));
    assert_eq!(total(&server), 1);
    eventually("it is charged once", || (balance(&server, TEST) == (999_990, 0)).then_some(()));
}

#[test]
fn without_a_key_every_fax_is_another() {
    let server = demo();
    let answers: Vec<_> = (0..3).map(|_| Form::to(DELIVERED).post(&server, TEST).send()).collect();
    assert!(answers.iter().all(|answer| marks(answer) == (None, None)));
    assert_eq!(answers.iter().map(accepted).collect::<HashSet<_>>().len(), 3);
}

#[test]
fn keys_are_any_text_and_echoed_to_the_byte() {
    let server = demo();
    let longest = "é".repeat(255);
    for key in ["a", "with spaces, and \"quotes\"", "señor 日本 🙂", "/?#[]@!$&'()*+,;=%20", &longest] {
        for replayed in [None, Some("true")] {
            let answer = Form::to(DELIVERED).post(&server, TEST).key(key).send();
            assert_eq!((answer.status, marks(&answer)), (201, (replayed, Some(key))));
            let id = accepted(&answer);
            assert_eq!(get(&server, &format!("/v1/faxes/{id}"))["idempotency_key"], key);
        }
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let server = demo();
    for key in [String::new(), "x".repeat(256), "é".repeat(256)] {
        let answer = Form::to(DELIVERED).post(&server, TEST).key(&key).send();
        assert_eq!(fields(&answer), ["Idempotency-Key"]);
        assert_eq!(marks(&answer), (None, None));
    }
    let twice = Form::to(DELIVERED).post(&server, TEST).key("a").key("a").send();
    assert_eq!(fields(&twice), ["Idempotency-Key"]);
    assert_eq!(total(&server), 0);
}

/// | refused with | by |
/// |---|---|
/// | 401 | who looks for the account |
/// | 413 | who looks at the announced length |
#[test]
fn who_refuses_before_the_key_is_looked_at_says_which_request_that_is() {
    let server = demo();
    let long = Form::default().field("to", DELIVERED).file(&vec![b'x'; 11 * 1024 * 1024]);
    for (form, of, status) in [(Form::to(DELIVERED), "mfx_test_nobody0nobody0", 401), (long, TEST, 413)] {
        let refused = form.post(&server, of).key("señor").send();
        assert_eq!((refused.status, marks(&refused)), (status, (None, Some("señor"))));
    }
}

/// | refused with | and then |
/// |---|---|
/// | 402, 422, 429, 503 | the key is free |
#[test]
fn a_refusal_leaves_the_key_free() {
    let server = demo_with("price_cents = 10\nopening_balance_cents = 9");
    let refused = Form::to(DELIVERED).post(&server, TEST).key("poor").send();
    assert_eq!((refused.status, marks(&refused)), (402, (None, Some("poor"))));
    let again = Form::to(DELIVERED).post(&server, TEST).key("poor").send();
    assert_eq!((again.status, marks(&again)), (402, (None, Some("poor"))));

    let server = demo();
    let refusals = [
        (Form::default(), TEST, 422),
        (Form::to("+15005550099"), TEST, 422),
        (Form::to("+15005550006"), TEST, 402),
        (Form::to(DELIVERED), LIVE, 503),
        (Form::default().field("to", DELIVERED).file(&vec![b'x'; 10 * 1024 * 1024 + 1]), TEST, 413),
    ];
    for (number, (form, holder, status)) in refusals.into_iter().enumerate() {
        let key = format!("refused {number}");
        for _ in 0..2 {
            let refused = form.post(&server, holder).key(&key).send();
            assert_eq!((refused.status, refused.header("idempotency-replayed")), (status, None));
            assert_eq!(refused.header("x-idempotency-key"), Some(key.as_str()));
        }
        if holder == TEST {
            accepted(&Form::to(DELIVERED).post(&server, TEST).key(&key).send());
        }
    }
}

#[test]
fn a_request_that_was_too_early_is_accepted_later() {
    let server = demo_with("rate_per_minute = 30");
    while server.get("/v1/faxes").bearer(TEST).send().status == 200 {}
    let mut refused = 0;
    let answer = eventually("a request comes back every 2 s", || {
        let answer = Form::to(DELIVERED).post(&server, TEST).key("too-early").send();
        refused += u32::from(answer.status == 429);
        (answer.status != 429).then_some(answer)
    });
    accepted(&answer);
    assert!(refused > 0 && answer.header("idempotency-replayed").is_none());
}

#[test]
fn a_key_is_one_accounts_in_one_environment() {
    let server = demo();
    let ids: HashSet<_> = [TEST, OTHER]
        .into_iter()
        .map(|key| {
            let answer = Form::to(DELIVERED).post(&server, key).key("shared").send();
            assert_eq!(answer.header("idempotency-replayed"), None);
            accepted(&answer)
        })
        .collect();
    assert_eq!(ids.len(), 2);
    let live = Form::to(DELIVERED).post(&server, LIVE).key("shared").send();
    assert_eq!(
        (live.status, code(&live).as_str()),
        (503, "carrier_unavailable"),
        "no replay of the other environment's"
    );
}

#[test]
fn fifty_requests_with_one_key_at_once_send_one_fax() {
    let server = demo();
    let start = Barrier::new(50);
    let document = vec![b'x'; 200_000];
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let request =
                    Form::default().file(&document).field("to", DELIVERED).post(&server, TEST).key("one");
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    request.send()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("it is answered")).collect()
    });
    let ids: HashSet<_> = answers.iter().filter(|answer| answer.status == 201).map(accepted).collect();
    assert_eq!(ids.len(), 1);
    let fresh = answers.iter().filter(|answer| answer.status == 201 && marks(answer).0.is_none()).count();
    assert_eq!(fresh, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((answer.status, code(answer).as_str()), (409, "idempotency_key_in_progress"));
        assert_eq!((answer.number("retry-after"), marks(answer)), (1, (None, Some("one"))));
    }
    assert_eq!(total(&server), 1);
    eventually("one is charged", || (balance(&server, TEST) == (999_990, 0)).then_some(()));
    eventually("one was on the disk", || server.files().is_empty().then_some(()));
}
