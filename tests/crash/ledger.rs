//! Every key that was used, and every answer that was got for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use support::{Request, Response, Server, demo_key};

use crate::clients::Asked;
use crate::database::{ANSWERED, Database, Rows};

/// Every key that was used, and every answer that was got for it.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// How far apart retries are, in seconds.
    interval: u32,
    answers: Mutex<BTreeMap<String, Vec<Response>>>,
}

/// The last words of tracking keys; every key takes the next one.
const WORDS: [&str; 4] = ["", "-NOTFOUND", "-SLOW500", "-SLOW500-NOTFOUND"];
/// How many retries a validation may have.
pub(crate) const MAX_RETRIES: u64 = 3;
/// Longer than any test.
pub(crate) const NEVER: u32 = 3600;

impl Ledger {
    pub(crate) fn new(interval: u32) -> Self {
        Self { interval, answers: Mutex::default() }
    }

    /// How many answers were got.
    pub(crate) fn len(&self) -> usize {
        self.answers().values().map(Vec::len).sum()
    }

    /// Every answer for a key is the same, and so is a replay; of what was asked for, everything is there once, and nothing
    /// else is.
    pub(crate) fn check(&self, server: &Server, database: &Database) {
        self.replay(server);
        let answers = self.answers();
        let rows = database.ask("SELECT client_ref || '|' || id FROM validations");
        let rows: BTreeSet<String> = rows.into_iter().collect();
        let answered: BTreeSet<String> =
            answers.iter().map(|(key, answers)| format!("{key}|{}", id_of(&answers[0]))).collect();
        let (unanswered, lost) = (&rows - &answered, &answered - &rows);
        assert!(unanswered.is_empty() && lost.is_empty(), "unanswered: {unanswered:?}, lost: {lost:?}");

        let keys = answers.len();
        let retried = answers.keys().filter(|key| key.ends_with("-NOTFOUND")).count();
        let expected = Rows {
            validations: keys,
            charged: keys as u64,
            records: vec![ANSWERED.to_owned(); keys],
            cycles: retried,
        };
        assert_eq!(database.rows(), expected);
        let page = server.get("/v1/validations").bearer(&demo_key('1')).send().json();
        assert_eq!(page["meta"]["pagination"]["total"], keys, "{page}");
    }

    /// Asks once more for everything: it must be what it was.
    pub(crate) fn replay(&self, server: &Server) {
        for (key, answers) in self.answers().iter().filter(|(_, answers)| !answers.is_empty()) {
            let replay = self.request(server, key).send();
            assert_eq!(replay.header("idempotent-replayed"), Some("true"), "{key}: {replay:?}");
            for answer in answers {
                assert_eq!(answer.lasting(), replay.lasting(), "{key}: one answer for ever");
            }
            let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed") == Some("false"));
            assert!(fresh.count() <= 1, "{key} ran twice: {answers:?}");
            assert_eq!(replay.json()["data"]["attributes"]["client_ref"], key[..]);
        }
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Response>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked for Ledger {
    fn next_key(&self) -> String {
        let mut answers = self.answers();
        let word = WORDS[answers.len() % WORDS.len()];
        let key = format!("K{}{word}", answers.len());
        answers.insert(key.clone(), Vec::new());
        key
    }

    fn request(&self, server: &Server, key: &str) -> Request {
        validate(server, key, key, self.interval)
    }

    fn note(&self, key: &str, answer: Response) {
        self.answers().get_mut(key).expect("it was given out").push(answer);
    }
}

/// A `POST /v1/validate` of `demo-pro`, with retries for what is not found.
pub(crate) fn validate(server: &Server, key: &str, tracking_key: &str, interval: u32) -> Request {
    let policy = json!({
        "enabled": true, "max_retries": MAX_RETRIES, "interval_seconds": interval, "outcomes": ["not_found"],
    });
    let body: Value = json!({
        "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": tracking_key, "client_ref": key, "retry_policy": policy,
    });
    server.post("/v1/validate").bearer(&demo_key('1')).key(key).json(body)
}

/// The id of the validation that was answered.
pub(crate) fn id_of(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["id"].as_str().expect("an id").to_owned()
}
