//! Told to stop: what runs is finished, what cannot be is given back.

use support::eventually;

use crate::clients::{Place, ask_until_answered};
use crate::cycles::{begin, claimed, recorded};
use crate::database::{ANSWERED, Database};
use crate::ledger::{MAX_RETRIES, validate};
use crate::points::{Attempts, SOON, at};

const KEYS: usize = 8;

#[test]
fn a_server_that_is_told_to_stop_finishes_for_clients_that_have_left_on_sqlite() {
    stop_after_clients_left(&Database::sqlite());
}

#[test]
fn a_server_that_is_told_to_stop_finishes_for_clients_that_have_left_on_postgres() {
    stop_after_clients_left(&Database::postgres());
}

fn stop_after_clients_left(database: &Database) {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("K{number}-SLOW500")).collect();
    let server = database.launch().start();
    let clients: Vec<_> = keys.iter().map(|key| validate(&server, key, key, 1).open()).collect();
    eventually("every claim", || (database.rows().records.len() == KEYS).then_some(()));
    drop(clients);
    let stopped = server.stop();
    assert!(stopped.status.success(), "{stopped:?}");
    let rows = database.rows();
    assert_eq!(
        (rows.validations, rows.records),
        (KEYS, vec![ANSWERED.to_owned(); KEYS]),
        "{}",
        stopped.stderr
    );

    let server = database.launch().start();
    for key in &keys {
        let answer = validate(&server, key, key, 1).send();
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")), "{answer:?}");
    }
}

#[test]
fn a_server_that_is_told_to_stop_finishes_the_retries_that_run_on_sqlite() {
    stop_amid_retries(&Database::sqlite());
}

#[test]
fn a_server_that_is_told_to_stop_finishes_the_retries_that_run_on_postgres() {
    stop_amid_retries(&Database::postgres());
}

fn stop_amid_retries(database: &Database) {
    let place = Place::of(database.launch_with("scheduler.lease_seconds = 3600").start());
    begin(&place);
    let running = eventually("a claim", || Some(claimed(database)).filter(|cycles| !cycles.is_empty()));
    let stopped = place.take().stop();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(claimed(database), [""; 0], "{}", stopped.stderr);
    let recorded = recorded(database);
    for cycle in running {
        let first = format!("{cycle}|1");
        assert!(recorded.contains(&first), "{first} in {recorded:?}: {}", stopped.stderr);
    }
}

#[test]
fn a_server_that_is_told_to_stop_gives_its_retries_back_on_sqlite() {
    stop_amid_a_retry(&Database::sqlite());
}

#[test]
fn a_server_that_is_told_to_stop_gives_its_retries_back_on_postgres() {
    stop_amid_a_retry(&Database::postgres());
}

/// The lease would hold for an hour: who goes on before that was given it.
fn stop_amid_a_retry(database: &Database) {
    let launch = || database.launch_with("scheduler.lease_seconds = 3600\nshutdown_grace_seconds = 4");
    let server = launch().env("FAILPOINT", "attempt-running").start();
    let place = Place::of(server);
    ask_until_answered("the validation", SOON, || {
        place.with(|server| validate(server, "the-key", "MX1-NOTFOUND", 1))
    });
    let server = place.take();
    at("attempt-running", &server);
    assert_eq!(Attempts::of(database), Attempts::made(0, "pending after 0, claimed", 1));
    let stopped = server.stop();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(Attempts::of(database), Attempts::made(0, "pending after 0", 1), "{}", stopped.stderr);

    let _server = launch().start();
    let ended = Attempts::made(MAX_RETRIES, "exhausted after 3", MAX_RETRIES + 1);
    eventually("the end of the cycle", || (Attempts::of(database).cycle == ended.cycle).then_some(()));
    assert_eq!(Attempts::of(database), ended);
}
