//! Live faxes, the carrier that sends them, and what is left of them in the database and on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, read_dir};
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use support::{Form, Launch, Request, Says, Server, Stub, eventually};
use tempfile::TempDir;

use crate::database::Database;

pub(crate) const LIVE: &str = "mfx_live_abc123def456";
pub(crate) const PRICE: u64 = 7;
pub(crate) const OPENING: u64 = 1_000_000;

/// A database, the documents beside it, and a carrier.
pub(crate) struct Office {
    pub(crate) database: Database,
    uploads: TempDir,
    carrier: Stub,
}

/// What there is, of everybody together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Faxes {
    /// Their states.
    pub(crate) states: Vec<String>,
    /// The states of the idempotency records.
    pub(crate) records: Vec<String>,
    /// What was charged, and what is held, in cents.
    pub(crate) charged: u64,
    pub(crate) held: u64,
    /// Of deliveries.
    pub(crate) cycles: usize,
}

impl Office {
    /// With a carrier that says this to each attempt: whether it delivers it.
    pub(crate) fn new(database: Database, delivers: fn(&Value) -> bool) -> Self {
        let carrier = Stub::saying(move |_, asked| {
            if delivers(&job(&asked.body)) {
                Says::This(200, r#"{"status": "delivered", "pages": 1}"#)
            } else {
                Says::This(200, r#"{"status": "failed", "error_code": "busy"}"#)
            }
        });
        let uploads = tempfile::tempdir().expect("the directory for temporary files takes one");
        Self { database, uploads, carrier }
    }

    pub(crate) fn launch(&self) -> Launch {
        self.launch_with("")
    }

    /// With more configuration, as lines of `section.key = value`.
    pub(crate) fn launch_with(&self, more: &str) -> Launch {
        let folder = self.uploads.path().display();
        let config = format!(
            "mintfax.uploads_folder = '{folder}'\nmintfax.carrier_url = '{}'\nmintfax.price_cents = {PRICE}\n\
             mintfax.opening_balance_cents = {OPENING}\nmintfax.rate_per_minute = 1000000\n\
             mintfax.retry_base_seconds = 0.05\nmintfax.retry_max_seconds = 0.1\n{more}",
            self.carrier.url()
        );
        // Servers that follow each other need the same key, wherever they keep their data.
        self.database.launch_with(&config).env("SEALING_KEY", &"5".repeat(64))
    }

    pub(crate) fn rows(&self) -> Faxes {
        let number = |query| {
            let sum = self.database.ask(query);
            sum.first().map_or(0, |sum| sum.parse().expect("a number"))
        };
        let charged = number("SELECT CAST(coalesce(sum(charged_cents), 0) AS TEXT) FROM mintfax_faxes");
        let held = number("SELECT CAST(coalesce(sum(held_cents), 0) AS TEXT) FROM mintfax_balances");
        if !self.database.ask("SELECT account FROM mintfax_balances").is_empty() {
            let available = number("SELECT CAST(sum(available_cents) AS TEXT) FROM mintfax_balances");
            assert_eq!(available + held + charged, OPENING, "every cent is somewhere");
        }
        Faxes {
            states: self.database.ask("SELECT status FROM mintfax_faxes ORDER BY id"),
            records: self.database.ask("SELECT CAST(state AS TEXT) FROM idempotency_records"),
            charged,
            held,
            cycles: self
                .database
                .ask("SELECT subject FROM retry_subjects WHERE namespace = 'mintfax-delivery'")
                .len(),
        }
    }

    /// The documents on the disk.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        files(self.uploads.path())
    }

    /// Lets all documents look as old as if nobody had touched them for a day.
    pub(crate) fn age(&self) {
        for name in self.files() {
            let path = self.uploads.path().join(name);
            let file = File::options().write(true).open(path).expect("it is there");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a file can be made old");
        }
    }

    /// The keys under which the carrier was asked for each fax, in their order.
    pub(crate) fn asked(&self) -> BTreeMap<String, Vec<String>> {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for asked in self.carrier.asked() {
            let fax = job(&asked.body)["fax_id"].as_str().expect("an id").to_owned();
            keys.entry(fax).or_default().push(asked.header("idempotency-key").to_owned());
        }
        keys
    }

    /// Waits until every fax has ended.
    pub(crate) fn all_ended(&self) {
        let ended = |state: &String| ["delivered", "failed"].contains(&state.as_str());
        eventually("every fax ends", || {
            let states = self.database.ask("SELECT status FROM mintfax_faxes");
            states.iter().all(ended).then_some(())
        });
    }
}

/// A live fax to this number, told of at this URL.
pub(crate) fn fax(server: &Server, key: &str, to: &str, webhook_url: Option<&str>) -> Request {
    let mut form = Form::to(to);
    if let Some(url) = webhook_url {
        form = form.field("webhook_url", url);
    }
    form.post(server, LIVE).key(key)
}

fn files(folder: &Path) -> BTreeSet<String> {
    let files = read_dir(folder).expect("the folder is there");
    files.map(|file| file.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
}

/// What the carrier is asked.
fn job(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let json = text.split("\r\n\r\n").nth(1).and_then(|part| part.lines().next()).expect("a first part");
    serde_json::from_str(json).expect("it is JSON")
}
