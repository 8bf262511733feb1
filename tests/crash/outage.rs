//! The database itself is killed.

use std::time::Duration;

use private_postgres::Postgres;
use support::{demo_key, eventually};

use crate::clients::{Asked, Place, under_load, use_key};
use crate::database::Database;
use crate::ledger::{Ledger, NEVER};
use crate::random::Random;

const ROUNDS: usize = 3;

#[test]
fn while_postgres_is_gone_requests_are_refused_and_then_everything_is_there_once() {
    let mut random = Random::seeded();
    let postgres = Postgres::start();
    let database = Database::Postgres(postgres.fresh_database());
    let ledger = Ledger::new(NEVER);
    // It is never restarted while there is load.
    let places = [Place::of(database.launch().start())];
    let status = |path: &str| {
        let ask = |place: &Place| place.with(|server| server.get(path).bearer(&demo_key('1')).send().status);
        ask(&places[0]).expect("the server runs")
    };
    let until = |path: &str, wanted: u16| eventually(path, || (status(path) == wanted).then_some(()));
    under_load(&places, &ledger, || {
        for round in 0..ROUNDS {
            let before = ledger.len();
            eventually("an answer since the last kill", || (ledger.len() > before).then_some(()));
            random.moment(Duration::from_millis(600));
            postgres.kill();
            eprintln!("round {round}: killed after {} answers", ledger.len());

            until("/v1/validations", 503);
            until("/readyz", 503);
            assert_eq!(status("/healthz"), 200);
            let key = ledger.next_key();
            let refused =
                places[0].with(|server| ledger.request(server, &key).send()).expect("the server runs");
            assert_eq!(refused.status, 503, "{refused:?}");

            postgres.restart();
            until("/readyz", 200);
            use_key(&places, &ledger, &key, Duration::from_millis(50));
            places[0].with(|server| ledger.replay(server));
        }
    });
    // Without what the server remembers.
    places[0].take().kill();
    ledger.check(&database.launch().start(), &database);
}
