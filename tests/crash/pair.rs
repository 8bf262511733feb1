//! Two servers on one database.

use std::time::Duration;

use support::{eventually, eventually_within};

use crate::clients::{Asked, Place, ask_until_answered, under_load};
use crate::cycles::{all_ended, begin, begin_these, check, claimed, recorded};
use crate::database::Database;
use crate::ledger::{Ledger, NEVER};
use crate::points::{SOON, at};
use crate::random::Random;

const ROUNDS: usize = 10;
/// Fewer than a server attempts at a time.
const CYCLES: usize = 12;
/// Where one of them stands still within a transaction, PostgreSQL ends that after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn what_two_servers_are_asked_at_once_happens_once_while_they_are_killed_in_turn() {
    let mut random = Random::seeded();
    let database = Database::postgres();
    let start = || database.launch().start();
    let ledger = Ledger::new(NEVER);
    let places = [Place::of(start()), Place::of(start())];
    under_load(&places, &ledger, || {
        for round in 0..ROUNDS {
            let before = ledger.len();
            eventually("an answer since the last kill", || (ledger.len() > before).then_some(()));
            random.moment(Duration::from_millis(600));
            let place = &places[round % places.len()];
            place.take().kill();
            place.put(start());
        }
    });
    for place in places {
        place.take().kill();
    }
    ledger.check(&start(), &database);
}

#[test]
fn a_server_takes_over_the_retries_of_one_that_was_killed() {
    let database = Database::postgres();
    let place = Place::of(database.launch().env("FAILPOINT", "attempt-running").start());
    let begun = begin(&place);
    let holder = place.take();
    at("attempt-running", &holder);
    let other = database.launch().start();
    holder.kill();
    eventually_within(PATIENCE, "the end of every cycle", || all_ended(&database).then_some(()));
    check(&other, &database, &begun);
}

#[test]
fn a_server_that_stood_still_while_another_answered_changes_nothing_afterwards() {
    let database = Database::postgres();
    let (server, other) = (database.launch().start(), database.launch().start());
    let ledger = Ledger::new(NEVER);
    let keys: Vec<String> = (0..8).map(|_| ledger.next_key()).collect();
    let slow: Vec<&String> = keys.iter().filter(|key| key.contains("SLOW500")).collect();
    for key in keys.iter().filter(|key| !key.contains("SLOW500")) {
        ledger.note(key, ledger.request(&other, key).send());
    }
    let clients: Vec<_> = slow.iter().map(|key| ledger.request(&server, key).open()).collect();
    eventually("every claim", || (database.rows().records.len() == keys.len()).then_some(()));
    server.signal("STOP");
    for key in &slow {
        ledger.note(key, ask_until_answered(key, SOON, || Some(ledger.request(&other, key))));
    }
    server.signal("CONT");
    for (key, client) in slow.iter().zip(clients) {
        let answer = client.answer();
        // One that was answered just before it stood still.
        if answer.status == 200 {
            ledger.note(key, answer);
        } else {
            assert_eq!(answer.status, 409, "{key}: {answer:?}");
        }
    }
    ledger.check(&server, &database);
    ledger.check(&other, &database);
}

#[test]
fn a_server_that_stood_still_while_another_took_its_retries_over_changes_nothing_afterwards() {
    let database = Database::postgres();
    let place = Place::of(database.launch().start());
    // The answer that came late would be one retry too many.
    let begun = begin_these(&place, ["SLOW500-VALIDAFTER2"], CYCLES);
    let server = place.take();
    let held = eventually("claims", || Some(claimed(&database)).filter(|held| held.len() > 2));
    server.signal("STOP");
    let other = database.launch().start();
    eventually_within(PATIENCE, "the first retry of each that was held", || {
        let recorded = recorded(&database);
        held.iter().all(|cycle| recorded.contains(&format!("{cycle}|1"))).then_some(())
    });
    server.signal("CONT");
    eventually_within(PATIENCE, "the end of every cycle", || all_ended(&database).then_some(()));
    // It ends once its attempts have.
    let stopped = server.stop();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(recorded(&database).len(), CYCLES * 2);
    check(&other, &database, &begun);
}
