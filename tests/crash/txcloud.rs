//! The operations of `TXCloud`, whose servers are killed at a known point, and at any.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Receiver, Request, Response, Server, eventually_within};

use crate::clients::{Place, USES, ask_until_answered};
use crate::database::{ANSWERED, Database, RUNNING};
use crate::points::{SOON, at};
use crate::random::Random;

const TEST: &str = "txc_test_abc123def456";
const PATIENCE: Duration = Duration::from_secs(90);
const KILLS: usize = 6;

/// What an operation is asked, what it leaves, and where it is killed before anything is committed.
type Row = (&'static str, Value, Kept, &'static [&'static str]);

/// How many verifications, documents, sessions and cycles.
type Kept = [usize; 4];

const NOTHING: Kept = [0; 4];

/// Killed before the commit, all that is left is the claim, and the retry runs; after it, everything is, and the retry is
/// answered with it.
fn operations() -> [Row; 7] {
    let business = json!({"legal_name": "Bakery", "registration_number": "RC-1", "country": "MA"});
    let applicant = json!({
        "id": "usr_1", "first_name": "Amina", "last_name": "Exemple", "date_of_birth": "1990-05-15", "phone": "+2126",
    });
    let loan = json!({"amount": 1000, "currency": "MAD", "term_months": 12});
    let transaction =
        json!({"amount": 50, "currency": "MAD", "type": "p2p_transfer", "sender": {}, "recipient": {}});
    let asks: &[&str] = &["after-claim", "engine-answered"];
    [
        (
            "/identity/verify",
            document("sync"),
            [1, 1, 0, 0],
            &["after-claim", "engine-answered", "before-commit"],
        ),
        ("/identity/verify", document("async"), [1, 1, 0, 1], &["before-commit"]),
        (
            "/identity/sessions",
            json!({"document_type": "cin", "country": "MA"}),
            [0, 0, 1, 0],
            &["before-commit"],
        ),
        ("/transactions/score", transaction, NOTHING, asks),
        (
            "/lending/assess",
            json!({"applicant": applicant, "loan_request": loan, "consent": {}}),
            NOTHING,
            asks,
        ),
        ("/kyb/verify", json!({"business": business}), NOTHING, asks),
        (
            "/watchlist/screen",
            json!({"entity": {"type": "individual", "name": "Amina Exemple"}}),
            NOTHING,
            asks,
        ),
    ]
}

fn document(mode: &str) -> Value {
    // `front`, in base64
    json!({"document_front": "ZnJvbnQ=", "country": "MA", "document_type": "cin", "checks": ["duplicate"], "mode": mode})
}

fn post(server: &Server, path: &str, key: &str, body: &Value) -> Request {
    server.post(path).bearer(TEST).key(key).json(body)
}

fn kept(database: &Database) -> Kept {
    [
        database.ask("SELECT id FROM txcloud_verifications").len(),
        database.ask("SELECT document FROM txcloud_documents").len(),
        database.ask("SELECT id FROM txcloud_sessions").len(),
        database.ask("SELECT CAST(state AS TEXT) FROM retry_cycles").len(),
    ]
}

fn records(database: &Database) -> Vec<String> {
    database.ask("SELECT CAST(state AS TEXT) FROM idempotency_records")
}

fn kill_in_a_request(database: fn() -> Database) {
    for (path, body, leaves, points) in operations() {
        let uncommitted = points.iter().map(|point| (*point, false));
        for (point, committed) in uncommitted.chain([("after-commit", true)]) {
            let database = &database();
            let request = |server: &Server| post(server, path, "the-one-key", &body);
            let what = format!("{path} {} {point}", body["mode"]);

            let server = database.launch().env("FAILPOINT", point).start();
            let unanswered = request(&server).open();
            at(point, &server);
            server.kill();
            drop(unanswered);
            let left = if committed { (leaves, ANSWERED) } else { (NOTHING, RUNNING) };
            assert_eq!(
                (kept(database), &records(database)[..]),
                (left.0, &[left.1.to_owned()][..]),
                "{what}"
            );

            let server = database.launch().start();
            let answer = ask_until_answered(&what, SOON, || Some(request(&server)));
            assert_eq!(answer.header("idempotent-replayed").is_some(), committed, "{what}");
            let again = request(&server).send();
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{what}");
            assert_eq!(again.lasting(), answer.lasting(), "{what}");
            assert_eq!(
                (kept(database), &records(database)[..]),
                (leaves, &[ANSWERED.to_owned()][..]),
                "{what}"
            );
            if leaves[0] > 0 {
                judged(&server, &answer, "passed");
            }
        }
    }
}

/// Waits until a verification is judged: by this, if it was asked whether its document is new.
fn judged(server: &Server, answer: &Response, expected: &str) {
    let path = format!("/identity/verify/{}", answer.json()["id"].as_str().expect("an id"));
    let read = eventually_within(PATIENCE, "it is judged", || {
        let read = server.get(&path).bearer(TEST).send().json();
        (read["status"] != "pending").then_some(read)
    });
    assert_eq!(read["checks"]["duplicate"]["status"], expected, "{read}");
}

/// With the judgement in hand: the next server judges again, and there is one.
fn kill_in_the_background(database: &Database) {
    let server = database.launch().env("FAILPOINT", "txcloud-judged").start();
    let accepted = post(&server, "/identity/verify", "the-one-key", &document("async")).send();
    at("txcloud-judged", &server);
    server.kill();
    assert_eq!(database.ask("SELECT status FROM txcloud_verifications"), ["pending"]);

    let server = database.launch().start();
    judged(&server, &accepted, "passed");
    assert_eq!((kept(database), records(database).len()), ([1, 1, 0, 1], 1));
    assert_eq!(database.ask("SELECT CAST(state AS TEXT) FROM retry_cycles"), ["1"], "resolved");
}

/// With the event taken, and not recorded: it is told again, with the same words.
fn kill_before_it_is_known_to_be_told(database: &Database) {
    let receiver = Receiver::start();
    for mode in ["sync", "async"] {
        let mut body = document(mode);
        body["webhook_url"] = json!(receiver.url());
        let server = database.launch().env("FAILPOINT", "txcloud-event-sent").start();
        let answer = post(&server, "/identity/verify", &format!("the-{mode}-key"), &body).send();
        at("txcloud-event-sent", &server);
        server.kill();
        let before = receiver.received();
        let _server = database.launch().start();
        let after = receiver.wait_for(before.len() + 1);
        let [.., first, second] = &after[..] else { panic!("told twice: {after:?}") };
        assert_eq!((first, &first.body), (&before[before.len() - 1], &second.body), "{mode}");
        assert_eq!(second.json()["data"]["id"], answer.json()["id"], "{mode}");
        eventually_within(PATIENCE, "it is recorded", || {
            let waiting = database.ask("SELECT CAST(state AS TEXT) FROM retry_cycles WHERE state = 0");
            waiting.is_empty().then_some(())
        });
        assert_eq!(receiver.received().len(), after.len(), "{mode}");
    }
}

fn kill_again_and_again(database: &Database) {
    let (over, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let place = Place::of(database.launch().start());
    let operations = operations();
    let use_keys = || {
        let mut answered = BTreeMap::new();
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            answered.insert(number, use_key(&place, &operations[number % operations.len()], number));
        }
        answered
    };
    let answered = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(use_keys)).collect();
        let mut random = Random::seeded();
        for kill in 0..KILLS {
            random.moment(Duration::from_millis(900));
            eprintln!("kill {kill} after {} keys", next.load(Ordering::Relaxed));
            place.take().kill();
            place.put(database.launch().start());
        }
        over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("all is answered"))
            .collect::<BTreeMap<_, _>>()
    });
    place.with(|server| check(server, database, &operations, &answered));
}

/// Three times at once, and gets one answer.
fn use_key(place: &Place, (path, body, ..): &Row, number: usize) -> Response {
    let key = format!("crash-key-{number}");
    let ask = || ask_until_answered(&key, SOON, || place.with(|server| post(server, path, &key, body)));
    let mut answers = thread::scope(|scope| {
        [(); USES].map(|()| scope.spawn(ask)).map(|use_| use_.join().expect("an answer"))
    });
    for answer in &answers {
        assert_eq!(answer.lasting(), answers[0].lasting(), "{key}: one answer for ever");
    }
    let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count();
    assert!(fresh <= 1, "{key} ran twice: {answers:?}");
    answers.swap(0, USES - 1);
    let [.., answer] = answers;
    answer
}

/// Everything is there once, of all verifications one is not a duplicate, and nothing waits for ever.
fn check(server: &Server, database: &Database, operations: &[Row], answered: &BTreeMap<usize, Response>) {
    let mut expected = [0; 4];
    for (number, answer) in answered {
        let (path, body, leaves, _) = &operations[number % operations.len()];
        let replay = post(server, path, &format!("crash-key-{number}"), body).send();
        assert_eq!(replay.header("idempotent-replayed"), Some("true"), "{replay:?}");
        assert_eq!(replay.lasting(), answer.lasting());
        for (sum, more) in expected.iter_mut().zip(leaves) {
            *sum += more;
        }
    }
    // All of one document.
    expected[1] = expected[1].min(1);
    assert_eq!((kept(database), records(database)), (expected, vec![ANSWERED.to_owned(); answered.len()]));
    eventually_within(PATIENCE, "every judgement", || {
        database.ask("SELECT id FROM txcloud_verifications WHERE status = 'pending'").is_empty().then_some(())
    });
    assert_eq!(database.ask("SELECT id FROM txcloud_verifications WHERE status = 'verified'").len(), 1);
}

#[test]
fn a_kill_within_a_check_leaves_all_of_it_or_nothing_on_sqlite() {
    kill_in_a_request(Database::sqlite);
}

#[test]
fn a_kill_within_a_check_leaves_all_of_it_or_nothing_on_postgres() {
    kill_in_a_request(Database::postgres);
}

#[test]
fn a_verification_in_the_background_is_judged_although_its_server_is_killed_on_sqlite() {
    kill_in_the_background(&Database::sqlite());
}

#[test]
fn a_verification_in_the_background_is_judged_although_its_server_is_killed_on_postgres() {
    kill_in_the_background(&Database::postgres());
}

#[test]
fn who_was_told_of_a_verification_is_told_again_after_a_kill_on_sqlite() {
    kill_before_it_is_known_to_be_told(&Database::sqlite());
}

#[test]
fn who_was_told_of_a_verification_is_told_again_after_a_kill_on_postgres() {
    kill_before_it_is_known_to_be_told(&Database::postgres());
}

#[test]
fn whatever_check_was_answered_before_a_kill_is_there_once_on_sqlite() {
    kill_again_and_again(&Database::sqlite());
}

#[test]
fn whatever_check_was_answered_before_a_kill_is_there_once_on_postgres() {
    kill_again_and_again(&Database::postgres());
}
