//! Killed at any moment, under load.

use std::time::Duration;

use support::eventually;

use crate::clients::{Place, under_load};
use crate::database::Database;
use crate::ledger::{Ledger, NEVER};
use crate::random::Random;

const ROUNDS: usize = 10;

#[test]
fn whatever_was_answered_before_a_kill_is_there_once_on_sqlite() {
    kill_again_and_again(&Database::sqlite());
}

#[test]
fn whatever_was_answered_before_a_kill_is_there_once_on_postgres() {
    kill_again_and_again(&Database::postgres());
}

fn kill_again_and_again(database: &Database) {
    let mut random = Random::seeded();
    let ledger = Ledger::new(NEVER);
    let places = [Place::of(database.launch().start())];
    under_load(&places, &ledger, || {
        for round in 0..ROUNDS {
            let before = ledger.len();
            eventually("an answer since the last kill", || (ledger.len() > before).then_some(()));
            random.moment(Duration::from_millis(600));
            eprintln!("round {round}: killed after {} answers", ledger.len());
            places[0].take().kill();
            places[0].put(database.launch().start());
        }
    });
    // What the last server knows by itself, and what it has in memory only, is not enough.
    places[0].take().kill();
    ledger.check(&database.launch().start(), database);
}
