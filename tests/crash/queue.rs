//! Validations in the background, whose servers are killed while they wait, or are asked about.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Request, Response, Server, demo_key, eventually_within};

use crate::clients::{Place, ask_until_answered};
use crate::database::Database;
use crate::points::{SOON, at};
use crate::random::Random;

const KILLS: usize = 5;
/// More than a server asks about at a time.
const OF_EACH: usize = 8;
/// What is asked about, and what it comes to.
const KINDS: [(&str, &str); 4] =
    [("NOTFOUND", "not_found"), ("MX", "valid"), ("SLOW500-NOTFOUND", "not_found"), ("SLOW500", "valid")];
const PATIENCE: Duration = Duration::from_secs(90);

/// A `POST /v1/validate?async=1` of `demo-pro`, with retries, in an hour, for what is not found.
fn enqueue(server: &Server, key: &str) -> Request {
    let policy =
        json!({"enabled": true, "max_retries": 1, "interval_seconds": 3600, "outcomes": ["not_found"]});
    let body: Value = json!({
        "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": key, "client_ref": key, "retry_policy": policy,
    });
    server.post("/v1/validate?async=1").bearer(&demo_key('1')).key(key).json(body)
}

fn kill_amid_the_queue(database: &Database) {
    let mut random = Random::seeded();
    let place = Place::of(database.launch().start());
    let accepted = thread::scope(|scope| {
        let clients: Vec<_> = KINDS
            .iter()
            .flat_map(|(word, _)| (0..OF_EACH).map(move |number| format!("K{number}-{word}")))
            .map(|key| {
                let place = &place;
                scope.spawn(move || {
                    let request = || place.with(|server| enqueue(server, &key));
                    (ask_until_answered(&key, SOON, request), key)
                })
            })
            .collect();
        for kill in 0..KILLS {
            random.moment(Duration::from_millis(700));
            eprintln!("kill {kill} with {} in the queue", waiting(database).len());
            place.take().kill();
            place.put(database.launch().start());
        }
        let answered = clients.into_iter().map(|client| client.join().expect("it is answered"));
        answered.map(|(answer, key)| (key, answer)).collect::<BTreeMap<String, Response>>()
    });
    eventually_within(PATIENCE, "every verdict", || waiting(database).is_empty().then_some(()));
    place.with(|server| check(server, database, &accepted));
}

fn waiting(database: &Database) -> Vec<String> {
    database.ask("SELECT id FROM validations WHERE status IN ('queued', 'processing')")
}

/// Each has its one verdict and its one cycle of retries, and was charged for once.
fn check(server: &Server, database: &Database, accepted: &BTreeMap<String, Response>) {
    for (key, answer) in accepted {
        assert_eq!(answer.status, 202, "{answer:?}");
        let word = key.split_once('-').expect("it has one").1;
        let (_, status) = KINDS.iter().find(|(known, _)| word == *known).expect("one of them");
        let path = answer.header("location").expect("it says where");
        let shown = server.get(path).bearer(&demo_key('1')).send();
        let attributes = &shown.json()["data"]["attributes"];
        assert_eq!((&attributes["status"], &attributes["client_ref"]), (&json!(status), &json!(key)));
        let retried = *status == "not_found";
        assert_eq!(attributes["retry_state"]["enabled"], retried, "{key}: {attributes}");
        // Queued, processing, and one verdict.
        assert_eq!(shown.header("etag"), Some(format!("W/\"2-{status}\"").as_str()), "{key}");
        assert_eq!(enqueue(server, key).send().lasting(), answer.lasting(), "{key}");
    }
    let rows = database.rows();
    assert_eq!((rows.validations, rows.charged), (accepted.len(), accepted.len() as u64));
    let cycles = |query| database.ask(query).len();
    assert_eq!(cycles("SELECT subject FROM retry_subjects WHERE namespace = 'queue'"), accepted.len());
    // Each ended by one verdict.
    assert_eq!(
        cycles(
            "SELECT subject FROM retry_subjects JOIN retry_cycles USING (id) WHERE retry_subjects.namespace = 'queue' AND state = 1"
        ),
        accepted.len()
    );
    assert_eq!(
        cycles("SELECT subject FROM retry_subjects WHERE namespace = 'validation'"),
        2 * OF_EACH,
        "those that were not found"
    );
}

/// | killed | is left | and the next server |
/// |---|---|---|
/// | with the answer of Banxico in hand | `processing` | asks again |
/// | after the commit of the verdict | the verdict | does nothing |
fn kill_at_a_point(database: fn() -> Database) {
    for (point, left, asked_again) in [("queue-asked", "processing", 1), ("queue-committed", "not_found", 0)]
    {
        let database = &database();
        let server = database.launch().env("FAILPOINT", point).start();
        let accepted = enqueue(&server, "K1-NOTFOUND").send();
        at(point, &server);
        server.kill();
        assert_eq!(database.ask("SELECT status FROM validations"), [left], "{point}");

        let server = database.launch().start();
        eventually_within(PATIENCE, "the verdict", || waiting(database).is_empty().then_some(()));
        check_one(&server, database, &accepted);
        assert_eq!(server.counted("cep_queries_total", &[]), asked_again, "{point}");
    }
}

fn check_one(server: &Server, database: &Database, accepted: &Response) {
    let path = accepted.header("location").expect("it says where");
    let shown = server.get(path).bearer(&demo_key('1')).send();
    assert_eq!(shown.header("etag"), Some("W/\"2-not_found\""), "{shown:?}");
    let rows = database.rows();
    assert_eq!((rows.validations, rows.charged, rows.cycles), (1, 1, 2), "{rows:?}");
    assert_eq!(enqueue(server, "K1-NOTFOUND").send().lasting(), accepted.lasting());
}

#[test]
fn whatever_was_queued_before_a_kill_gets_one_verdict_on_sqlite() {
    kill_amid_the_queue(&Database::sqlite());
}

#[test]
fn whatever_was_queued_before_a_kill_gets_one_verdict_on_postgres() {
    kill_amid_the_queue(&Database::postgres());
}

#[test]
fn a_kill_while_one_in_the_queue_is_asked_about_leaves_a_verdict_or_none_on_sqlite() {
    kill_at_a_point(Database::sqlite);
}

#[test]
fn a_kill_while_one_in_the_queue_is_asked_about_leaves_a_verdict_or_none_on_postgres() {
    kill_at_a_point(Database::postgres);
}
