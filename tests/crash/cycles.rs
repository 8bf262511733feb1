//! Retries whose servers are killed while they run.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Response, Server, demo_key, eventually_within};

use crate::clients::{Place, ask_until_answered};
use crate::database::Database;
use crate::ledger::{MAX_RETRIES, id_of, validate};
use crate::random::Random;

const KILLS: usize = 6;
/// So many validations of each kind.
const OF_EACH: usize = 4;
/// What is asked for, how it ends, and after how many retries where nothing goes wrong.
const KINDS: [(&str, &str, u64); 4] = [
    ("NOTFOUND", "exhausted", MAX_RETRIES),
    ("VALIDAFTER2", "resolved", 2),
    ("SLOW500-NOTFOUND", "exhausted", MAX_RETRIES),
    ("SLOW500-VALIDAFTER2", "resolved", 2),
];
/// Of the slowest test: it waits for leases again and again.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn every_cycle_ends_and_no_attempt_is_lost_or_made_twice_on_sqlite() {
    kill_amid_retries(&Database::sqlite());
}

#[test]
fn every_cycle_ends_and_no_attempt_is_lost_or_made_twice_on_postgres() {
    kill_amid_retries(&Database::postgres());
}

fn kill_amid_retries(database: &Database) {
    let mut random = Random::seeded();
    let place = Place::of(database.launch().start());
    let begun = begin(&place);
    for kill in 0..KILLS {
        let before = recorded(database).len();
        eventually_within(PATIENCE, "an attempt since the last kill", || {
            (recorded(database).len() > before || all_ended(database)).then_some(())
        });
        random.moment(Duration::from_millis(700));
        eprintln!("kill {kill} after {} attempts", recorded(database).len());
        place.take().kill();
        place.put(database.launch().start());
    }
    eventually_within(PATIENCE, "the end of every cycle", || all_ended(database).then_some(()));
    place.with(|server| check(server, database, &begun));
}

/// Begins the cycles of every kind, at once; the answers, by their keys.
pub(crate) fn begin(place: &Place) -> BTreeMap<String, Response> {
    begin_these(place, KINDS.iter().map(|(word, ..)| *word), OF_EACH)
}

/// The same, so many of each of these kinds.
pub(crate) fn begin_these<'a>(
    place: &Place,
    words: impl IntoIterator<Item = &'a str>,
    of_each: usize,
) -> BTreeMap<String, Response> {
    let keys = words.into_iter().flat_map(|word| (0..of_each).map(move |number| format!("K{number}-{word}")));
    let ask = |key: &String| {
        let request = || place.with(|server| validate(server, key, key, 1));
        ask_until_answered(key, Duration::from_millis(50), request)
    };
    thread::scope(|scope| {
        let asked: Vec<_> = keys.map(|key| scope.spawn(move || (ask(&key), key))).collect();
        let answered = asked.into_iter().map(|client| client.join().expect("it is answered"));
        answered.map(|(answer, key)| (key, answer)).collect()
    })
}

pub(crate) fn all_ended(database: &Database) -> bool {
    database.ask("SELECT id FROM validations WHERE retry_state = 'pending'").is_empty()
}

/// Every attempt that the scheduler counts, with its cycle.
pub(crate) fn recorded(database: &Database) -> Vec<String> {
    database.ask(
        "SELECT CAST(cycle_id AS TEXT) || '|' || CAST(number AS TEXT) FROM retry_attempts ORDER BY cycle_id, number",
    )
}

/// The cycles of which an attempt runs.
pub(crate) fn claimed(database: &Database) -> Vec<String> {
    database.ask("SELECT CAST(id AS TEXT) FROM retry_cycles WHERE state = 0 AND claimed_at IS NOT NULL")
}

/// Each cycle has ended as it had to, with its attempts from 1 on without a gap, and their number is the same wherever it
/// is said.
pub(crate) fn check(server: &Server, database: &Database, begun: &BTreeMap<String, Response>) {
    let mut counts = Vec::new();
    for (key, answer) in begun {
        let word = key.split_once('-').expect("it has one").1;
        let (_, ending, retries) = KINDS.iter().find(|(known, ..)| word == *known).expect("one of them");
        let get = |path: &str| server.get(path).bearer(&demo_key('1')).send().json();
        let path = format!("/v1/validations/{}", id_of(answer));
        let state = get(&path)["data"]["attributes"]["retry_state"].clone();
        assert_eq!(state["terminal_state"], *ending, "{key}: {state}");
        let completed = state["attempts_completed"].as_u64().expect("a number");
        // One that took too many servers down with it counts as failed, and another is made.
        assert!((*retries..=MAX_RETRIES).contains(&completed), "{key}: {state}");
        let attempts = get(&format!("{path}/retry-attempts"))["data"].clone();
        let numbers: Vec<Value> =
            attempts.as_array().expect("a list").iter().map(|made| made["attempt_number"].clone()).collect();
        assert_eq!(json!(numbers), json!((1..=completed).collect::<Vec<_>>()), "{key}: {attempts}");
        counts.push(completed);

        let replay = validate(server, key, key, 1).send();
        assert_eq!(replay.lasting(), answer.lasting(), "{key}: retries change no answer that was given");
    }
    let mut of_cycles: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in recorded(database) {
        let (cycle, number) = row.split_once('|').expect("two columns");
        of_cycles.entry(cycle.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    let mut counted = Vec::new();
    for numbers in of_cycles.values() {
        let count = numbers.len() as u64;
        assert_eq!(*numbers, (1..=count).collect::<Vec<_>>());
        counted.push(count);
    }
    counts.sort_unstable();
    counted.sort_unstable();
    assert_eq!(counted, counts, "the scheduler and the validations count the same");
}
