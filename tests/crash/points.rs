//! Killed at a known point of a request, or of a retry.

use std::time::Duration;

use support::{Server, eventually, eventually_within};

use crate::clients::ask_until_answered;
use crate::database::{ANSWERED, Database, RUNNING, Rows};
use crate::ledger::{MAX_RETRIES, NEVER, id_of, validate};

const KEY: &str = "the-key";
pub(crate) const SOON: Duration = Duration::from_millis(50);

/// What is there once the request has been answered.
fn done() -> Rows {
    Rows { validations: 1, charged: 1, records: vec![ANSWERED.to_owned()], cycles: 1 }
}

/// A request that runs, and has written nothing.
fn claimed() -> Rows {
    Rows { validations: 0, charged: 0, records: vec![RUNNING.to_owned()], cycles: 0 }
}

/// | killed | is left | and the retry |
/// |---|---|---|
/// | after the claim, before anything is written | the claim | runs |
/// | with everything written, before the commit | the claim | runs |
/// | after the commit, before the answer | everything | is answered with it |
fn kill_in_a_request(database: fn() -> Database) {
    for (point, left, replayed) in [
        ("after-claim", claimed(), "false"),
        ("before-commit", claimed(), "false"),
        ("after-commit", done(), "true"),
    ] {
        let database = &database();
        let request = |server: &Server| validate(server, KEY, "MX1-NOTFOUND", NEVER);

        let server = database.launch().env("FAILPOINT", point).start();
        let unanswered = request(&server).open();
        at(point, &server);
        server.kill();
        drop(unanswered);
        assert_eq!(database.rows(), left, "{point}");

        let server = database.launch().start();
        let answer = ask_until_answered(point, SOON, || Some(request(&server)));
        assert_eq!(answer.header("idempotent-replayed"), Some(replayed), "{point}");
        assert_eq!(database.rows(), done(), "{point}");
        assert_eq!(database.ask("SELECT id FROM validations"), [id_of(&answer)], "{point}");
        let again = request(&server).send();
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{point}");
        assert_eq!(again.lasting(), answer.lasting(), "{point}");
    }
}

/// What is known of the attempts: by the validation, by the scheduler, and where its cycle is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempts {
    shown: Vec<String>,
    counted: Vec<String>,
    pub(crate) cycle: Vec<String>,
    /// Of the retries granted in a day.
    charged: Vec<String>,
}

impl Attempts {
    pub(crate) fn of(database: &Database) -> Self {
        Self {
            shown: database.ask("SELECT CAST(number AS TEXT) FROM validation_attempts ORDER BY number"),
            counted: database.ask("SELECT CAST(number AS TEXT) FROM retry_attempts ORDER BY number"),
            cycle: database.ask(
                "SELECT CASE state WHEN 0 THEN 'pending' WHEN 2 THEN 'exhausted' END || ' after ' \
                 || CAST(attempts AS TEXT) || CASE WHEN claimed_at IS NULL THEN '' ELSE ', claimed' END FROM retry_cycles",
            ),
            charged: database.ask("SELECT CAST(sum(used) AS TEXT) FROM usage WHERE what = 'retries'"),
        }
    }

    /// So many were made.
    pub(crate) fn made(count: u64, cycle: &str, charged: u64) -> Self {
        let numbers: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        let (cycle, charged) = (vec![cycle.to_owned()], vec![charged.to_string()]);
        Self { shown: numbers.clone(), counted: numbers, cycle, charged }
    }
}

/// | killed | is left | and the next server |
/// |---|---|---|
/// | while an attempt runs | a claim, and no attempt | makes it again, with its number; it asks, and is charged, twice |
/// | after an attempt's commit | the attempt | makes the one after it |
fn kill_in_a_retry(database: fn() -> Database) {
    for (point, left, charged) in [
        ("attempt-running", Attempts::made(0, "pending after 0, claimed", 1), MAX_RETRIES + 1),
        ("attempt-committed", Attempts::made(1, "pending after 1", 1), MAX_RETRIES),
    ] {
        let database = &database();
        let server = database.launch().env("FAILPOINT", point).start();
        let first = validate(&server, KEY, "MX1-NOTFOUND", 1).send();
        at(point, &server);
        server.kill();
        assert_eq!(Attempts::of(database), left, "{point}");

        let server = database.launch().start();
        let ended = Attempts::made(MAX_RETRIES, "exhausted after 3", charged);
        eventually_within(Duration::from_mins(1), "the end of the cycle", || {
            (Attempts::of(database).cycle == ended.cycle).then_some(())
        });
        assert_eq!(Attempts::of(database), ended, "{point}");
        let replay = validate(&server, KEY, "MX1-NOTFOUND", 1).send();
        assert_eq!(replay.lasting(), first.lasting(), "{point}: retries change no answer that was given");
    }
}

/// How often a retry may take its server down before it counts as failed.
const POISONOUS: usize = 3;

/// A retry that was not made, in the end, is among those that were: nothing is left out of their numbers.
fn kill_again_and_again_in_a_retry(database: &Database) {
    let server = database.launch().start();
    validate(&server, KEY, "MX1-NOTFOUND", 1).send();
    server.kill();
    for _ in 0..POISONOUS {
        let server = database.launch().env("FAILPOINT", "attempt-running").start();
        at("attempt-running", &server);
        server.kill();
    }
    let _server = database.launch().start();
    let charged = POISONOUS as u64 + MAX_RETRIES - 1;
    let ended = Attempts::made(MAX_RETRIES, "exhausted after 3", charged);
    eventually_within(Duration::from_mins(1), "the end of the cycle", || {
        (Attempts::of(database).cycle == ended.cycle).then_some(())
    });
    assert_eq!(Attempts::of(database), ended);
}

/// Waits until the server is at its point.
pub(crate) fn at(point: &str, server: &Server) {
    eventually(point, || server.said(&format!("at {point}")).then_some(()));
}

#[test]
fn a_kill_within_a_request_leaves_all_of_it_or_nothing_on_sqlite() {
    kill_in_a_request(Database::sqlite);
}

#[test]
fn a_kill_within_a_request_leaves_all_of_it_or_nothing_on_postgres() {
    kill_in_a_request(Database::postgres);
}

#[test]
fn a_kill_within_a_retry_leaves_all_of_it_or_nothing_on_sqlite() {
    kill_in_a_retry(Database::sqlite);
}

#[test]
fn a_kill_within_a_retry_leaves_all_of_it_or_nothing_on_postgres() {
    kill_in_a_retry(Database::postgres);
}

#[test]
fn a_retry_that_takes_its_server_down_again_and_again_counts_as_failed_on_sqlite() {
    kill_again_and_again_in_a_retry(&Database::sqlite());
}

#[test]
fn a_retry_that_takes_its_server_down_again_and_again_counts_as_failed_on_postgres() {
    kill_again_and_again_in_a_retry(&Database::postgres());
}
