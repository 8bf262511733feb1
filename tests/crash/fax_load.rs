//! Faxes, and kills at any moment, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use support::{Receiver, Request, Response, Server, eventually, eventually_within};

use crate::clients::{Asked, Place, under_load};
use crate::database::{ANSWERED, Database};
use crate::faxes::{Office, PRICE, fax};
use crate::random::Random;

const ROUNDS: usize = 8;
/// Whom faxes go to; every key takes the next one. The first is always busy, the second at first.
const NUMBERS: [&str; 3] = ["+12015550101", "+12015550102", "+12015550103"];
/// How often one that is always busy is sent, the account not having said otherwise.
const ATTEMPTS: usize = 4;

/// Every key that was used, and every answer that was got for it.
struct Sent {
    webhook_url: String,
    answers: Mutex<BTreeMap<String, Vec<Response>>>,
}

impl Sent {
    fn answers(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Response>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers were got.
    fn len(&self) -> usize {
        self.answers().values().map(Vec::len).sum()
    }

    /// Every fax by its key: all answers for a key are the same, as a replay is.
    fn faxes(&self, server: &Server) -> BTreeMap<String, String> {
        let mut faxes = BTreeMap::new();
        for (key, answers) in self.answers().iter() {
            let replay = self.request(server, key).send();
            assert_eq!((replay.status, replay.header("idempotency-replayed")), (201, Some("true")), "{key}");
            assert!(answers.iter().all(|answer| answer.body == replay.body), "{key}: one answer for ever");
            let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none());
            assert!(fresh.count() <= 1, "{key} ran twice: {answers:?}");
            let fax = replay.json();
            assert_eq!(fax["to"], number(key), "{key}");
            faxes.insert(fax["id"].as_str().expect("an id").to_owned(), key.clone());
        }
        faxes
    }
}

impl Asked for Sent {
    fn next_key(&self) -> String {
        let mut answers = self.answers();
        let key = format!("K{}", answers.len());
        answers.insert(key.clone(), Vec::new());
        key
    }

    fn request(&self, server: &Server, key: &str) -> Request {
        fax(server, key, number(key), Some(&self.webhook_url))
    }

    fn note(&self, key: &str, answer: Response) {
        self.answers().get_mut(key).expect("it was given out").push(answer);
    }
}

/// Whom the fax of a key goes to.
fn number(key: &str) -> &'static str {
    let count: usize = key[1..].parse().expect("a number");
    NUMBERS[count % NUMBERS.len()]
}

fn delivers(job: &Value) -> bool {
    match NUMBERS.iter().position(|number| job["to"] == *number) {
        Some(0) => false,
        Some(1) => job["attempt"].as_u64().is_some_and(|attempt| attempt > 1),
        _ => true,
    }
}

fn kill_again_and_again(database: Database) {
    let mut random = Random::seeded();
    let office = Office::new(database, delivers);
    let receiver = Receiver::start();
    let sent = Sent { webhook_url: receiver.url(), answers: Mutex::default() };
    let start = || office.launch_with("mintfax.webhook_retry_delays_seconds = [0.01, 0.01]").start();
    let places = [Place::of(start())];
    under_load(&places, &sent, || {
        for round in 0..ROUNDS {
            let before = sent.len();
            eventually("an answer since the last kill", || (sent.len() > before).then_some(()));
            random.moment(Duration::from_millis(600));
            eprintln!("round {round}: killed after {} answers", sent.len());
            places[0].take().kill();
            places[0].put(start());
        }
    });
    places[0].take().kill();
    let server = start();
    eventually_within(Duration::from_mins(2), "every fax and every event ends", || {
        let open = office.database.ask("SELECT CAST(state AS TEXT) FROM retry_cycles WHERE state = 0");
        open.is_empty().then_some(())
    });
    check(&office, &sent.faxes(&server), &receiver);
    server.kill();

    office.age();
    let _server = start();
    eventually("nothing is left behind", || office.files().is_empty().then_some(()));
}

/// Of what was asked for, everything is there once, was sent once, paid for once and told of; and nothing else is.
fn check(office: &Office, faxes: &BTreeMap<String, String>, receiver: &Receiver) {
    let rows = office.rows();
    let kept: BTreeSet<_> = office.database.ask("SELECT id FROM mintfax_faxes").into_iter().collect();
    assert_eq!(kept, faxes.keys().cloned().collect(), "neither one lost nor one too many");
    assert_eq!(rows.records, vec![ANSWERED; faxes.len()]);
    let delivered = faxes.values().filter(|key| number(key) != NUMBERS[0]).count();
    assert_eq!(rows.states.iter().filter(|state| *state == "delivered").count(), delivered);
    assert_eq!((rows.charged, rows.held), (PRICE * delivered as u64, 0));

    let asked = office.asked();
    let mut told: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for event in receiver.received().iter().map(support::Received::json) {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let events = told.entry((text(&event["data"]["id"]), text(&event["event"]))).or_default();
        events.insert(text(&event["event_id"]));
    }
    for (id, key) in faxes {
        // An attempt that was repeated has the key it had.
        let attempts =
            [ATTEMPTS, 2, 1][NUMBERS.iter().position(|to| *to == number(key)).expect("one of them")];
        let keys: BTreeSet<_> = asked[id].iter().cloned().collect();
        assert_eq!(keys, (1..=attempts).map(|number| format!("{id}-{number}")).collect(), "{key}");
        let end = if number(key) == NUMBERS[0] { "fax.failed" } else { "fax.delivered" };
        for (event, times) in
            [("fax.queued", 1), ("fax.sending", attempts), ("fax.retry_scheduled", attempts - 1), (end, 1)]
        {
            let ids = told.get(&(id.clone(), event.to_owned())).map_or(0, BTreeSet::len);
            assert_eq!(ids, times, "{key}: {event}");
        }
    }
}

#[test]
fn faxes_that_were_accepted_before_a_kill_are_sent_once_on_sqlite() {
    kill_again_and_again(Database::sqlite());
}

#[test]
fn faxes_that_were_accepted_before_a_kill_are_sent_once_on_postgres() {
    kill_again_and_again(Database::postgres());
}
