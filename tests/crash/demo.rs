//! The server as the README starts it.

use std::thread;
use std::time::Duration;

use support::{eventually, launch};

use crate::clients::{Asked, Place, use_key};
use crate::database::Database;
use crate::ledger::{Ledger, NEVER};
use crate::random::Random;

/// A hundred keys, each used three times at once.
const KEYS: usize = 100;

#[test]
fn the_demo_is_killed_amid_a_hundred_validations_and_every_one_is_there_once() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().expect("the directory for temporary files takes one");
    let start = || launch().demo().database_of_its_own(folder.path()).env("RUST_LOG", "warn").start();
    let ledger = Ledger::new(NEVER);
    let keys: Vec<String> = (0..KEYS).map(|_| ledger.next_key()).collect();
    let places = [Place::of(start())];
    thread::scope(|scope| {
        for key in &keys {
            // Its leases are as long as an operator's are, and there is no hurry meanwhile.
            scope.spawn(|| use_key(&places, &ledger, key, Duration::from_secs(1)));
        }
        eventually("an answer", || (ledger.len() > 0).then_some(()));
        random.moment(Duration::from_millis(300));
        places[0].take().kill();
        let answered = ledger.len();
        eprintln!("killed after {answered} answers");
        assert!(answered < KEYS * 3, "all were answered before");
        places[0].put(start());
    });
    places[0].take().kill();
    ledger.check(&start(), &Database::Sqlite(folder, "example-server.db"));
}
