//! Killed at a known point of a request for a fax, of its delivery, or of its being told of.

use std::collections::BTreeSet;

use support::{Form, Reaction, Receiver, Server, eventually};

use crate::clients::ask_until_answered;
use crate::database::{ANSWERED, Database, RUNNING};
use crate::faxes::{Faxes, LIVE, Office, PRICE, fax};
use crate::points::{SOON, at};

const KEY: &str = "the-key";
const TO: &str = "+12015550100";

fn delivered() -> Faxes {
    Faxes {
        states: vec!["delivered".to_owned()],
        records: vec![ANSWERED.to_owned()],
        charged: PRICE,
        held: 0,
        cycles: 1,
    }
}

fn rows(states: &[&str], record: &str, held: u64) -> Faxes {
    let states: Vec<_> = states.iter().map(|state| (*state).to_owned()).collect();
    let cycles = states.len();
    Faxes { states, records: vec![record.to_owned()], charged: 0, held, cycles }
}

/// | killed | is left | and the retry |
/// |---|---|---|
/// | while the document comes in | the claim, and a document | runs |
/// | before anything is written | the claim, and a document | runs |
/// | with everything written, before the commit | the claim, and a document | runs |
/// | after the commit, before the answer | everything | is answered with it |
///
/// In the end there is one fax, sent once, paid for once; and no document, once those without a fax are old.
fn kill_in_a_request(database: fn() -> Database) {
    for (point, left, replayed) in [
        ("fax-uploading", rows(&[], RUNNING, 0), None),
        ("after-claim", rows(&[], RUNNING, 0), None),
        ("before-commit", rows(&[], RUNNING, 0), None),
        ("after-commit", rows(&["queued"], ANSWERED, PRICE), Some("true")),
    ] {
        let office = Office::new(database(), |_| true);
        let request = |server: &Server| fax(server, KEY, TO, None);

        // It looks for work once, before there is any.
        let server = office.launch_with("scheduler.poll_seconds = 3600").env("FAILPOINT", point).start();
        let unanswered = request(&server).open();
        at(point, &server);
        server.kill();
        drop(unanswered);
        assert_eq!(office.rows(), left, "{point}");
        assert_eq!(office.files().len(), 1, "{point}");

        let server = office.launch().start();
        let answer = ask_until_answered(point, SOON, || Some(request(&server)));
        assert_eq!(answer.header("idempotency-replayed"), replayed, "{point}");
        office.all_ended();
        assert_eq!(office.rows(), delivered(), "{point}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        assert_eq!(office.database.ask("SELECT id FROM mintfax_faxes"), std::slice::from_ref(&id), "{point}");
        let again = request(&server).send();
        assert_eq!(
            (again.header("idempotency-replayed"), &again.body),
            (Some("true"), &answer.body),
            "{point}"
        );
        assert_eq!(office.asked().into_iter().collect::<Vec<_>>(), [(id.clone(), vec![format!("{id}-1")])]);
        server.kill();
        swept(&office);
    }
}

/// What was left behind goes when a server next looks.
fn swept(office: &Office) {
    office.age();
    let _server = office.launch().start();
    eventually("nothing is left behind", || office.files().is_empty().then_some(()));
}

/// | killed | is left | and the carrier is asked |
/// |---|---|---|
/// | before the carrier is asked | the document, the money held | once |
/// | after it was asked, before its word is written | the same | again, under the same key |
/// | after its word is written | the end | once |
fn kill_in_a_delivery(database: fn() -> Database) {
    for (point, left, asked) in [
        ("fax-sending", rows(&["in_progress"], ANSWERED, PRICE), 1),
        ("fax-sent", rows(&["in_progress"], ANSWERED, PRICE), 2),
        ("fax-recorded", delivered(), 1),
    ] {
        let office = Office::new(database(), |_| true);
        let server = office.launch().env("FAILPOINT", point).start();
        let answer = fax(&server, KEY, TO, None).send();
        at(point, &server);
        server.kill();
        assert_eq!(office.rows(), left, "{point}");
        assert_eq!(office.files().len(), usize::from(left.held > 0), "{point}");

        let server = office.launch().start();
        office.all_ended();
        assert_eq!(office.rows(), delivered(), "{point}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let keys = vec![format!("{id}-1"); asked];
        assert_eq!(office.asked().into_iter().collect::<Vec<_>>(), [(id, keys)], "{point}");
        let again = fax(&server, KEY, TO, None).send();
        assert_eq!(
            (again.header("idempotency-replayed"), &again.body),
            (Some("true"), &answer.body),
            "{point}"
        );
        eventually("the document goes", || office.files().is_empty().then_some(()));
    }
}

/// | killed | the fax is | and the next server |
/// |---|---|---|
/// | with everything written, before the commit | not there | tells of the one that the retry makes |
/// | after the commit, before anything is sent or answered | there | tells of it |
/// | when an attempt has begun, and when it has ended | there | tells of what is not told yet |
/// | after the receiver took an event, before that is recorded | there | tells of it again, with the same id |
fn kill_before_it_is_told(database: fn() -> Database) {
    for point in ["before-commit", "after-commit", "fax-sending", "fax-recorded", "fax-event-sent"] {
        let office = Office::new(database(), |_| true);
        let is_early = point.ends_with("-commit");
        let receiver = Receiver::reacting(Reaction::Answer(if is_early { 503 } else { 200 }));
        let url = receiver.url();
        let request = |server: &Server| fax(server, KEY, TO, Some(&url));
        let launch = |more| {
            office.launch_with(&format!("mintfax.webhook_retry_delays_seconds = [0.01, 0.01, 0.01]\n{more}"))
        };
        // It looks for work when it is told to, and then only.
        let server = launch("scheduler.poll_seconds = 3600").env("FAILPOINT", point).start();
        let unanswered = request(&server).open();
        at(point, &server);
        server.kill();
        drop(unanswered);
        receiver.react(Reaction::Answer(200));
        let before = receiver.received();
        if is_early {
            assert_eq!(before.len(), 0, "{point}");
        }

        let server = launch("").start();
        let answer = ask_until_answered(point, SOON, || Some(request(&server)));
        office.all_ended();
        eventually("every event is taken", || {
            let states = office.database.ask(
                "SELECT CAST(c.state AS TEXT) FROM retry_cycles c JOIN retry_subjects s ON s.id = c.id \
                 WHERE s.namespace = 'mintfax-event'",
            );
            (states == [RESOLVED; 3]).then_some(())
        });
        let heard = receiver.received();
        if point == "fax-event-sent" {
            assert!(heard.len() >= 3 + before.len(), "what was not recorded is sent again");
        }
        let of_fax = |name: &'static str| {
            let events =
                heard.iter().map(support::Received::json).filter(move |event| event["event"] == name);
            let ids = events.map(|event| {
                assert_eq!(event["data"]["id"], answer.json()["id"], "{point}");
                event["event_id"].to_string()
            });
            ids.collect::<BTreeSet<_>>().len()
        };
        let counts = ["fax.queued", "fax.sending", "fax.delivered"].map(of_fax);
        assert_eq!(counts, [1, 1, 1], "{point}: {heard:?}");
    }
}

/// The state of a cycle that came to a good end.
const RESOLVED: &str = "1";

/// A document of which no server remembers anything, and one that is needed.
fn kill_amid_an_upload_and_a_delivery(database: Database) {
    let office = Office::new(database, |_| true);
    let server = office.launch().env("FAILPOINT", "fax-sending").start();
    let waiting = fax(&server, KEY, TO, None).send();
    at("fax-sending", &server);
    let mut half = Form::head(&server, LIVE).key("half").header("Content-Length", "1000000").open();
    half.write(&Form::default().field("to", TO).file(&vec![b'x'; 500_000]).begun());
    eventually("it comes in", || (office.files().len() == 2).then_some(()));
    server.kill();
    office.age();
    // One that sends nothing, so that the document that is needed stays needed.
    let server = office.launch().env("FAILPOINT", "fax-sending").start();
    let id = waiting.json()["id"].as_str().expect("an id").to_owned();
    eventually("one is left", || (office.files() == BTreeSet::from([id.clone()])).then_some(()));
    server.kill();
    let _server = office.launch().start();
    office.all_ended();
    assert_eq!(office.rows().states, ["delivered"]);
}

#[test]
fn a_kill_within_a_request_for_a_fax_leaves_all_of_it_or_nothing_on_sqlite() {
    kill_in_a_request(Database::sqlite);
}

#[test]
fn a_kill_within_a_request_for_a_fax_leaves_all_of_it_or_nothing_on_postgres() {
    kill_in_a_request(Database::postgres);
}

#[test]
fn a_kill_within_a_delivery_of_a_fax_ends_it_once_on_sqlite() {
    kill_in_a_delivery(Database::sqlite);
}

#[test]
fn a_kill_within_a_delivery_of_a_fax_ends_it_once_on_postgres() {
    kill_in_a_delivery(Database::postgres);
}

#[test]
fn whatever_was_committed_of_a_fax_is_told_of_on_sqlite() {
    kill_before_it_is_told(Database::sqlite);
}

#[test]
fn whatever_was_committed_of_a_fax_is_told_of_on_postgres() {
    kill_before_it_is_told(Database::postgres);
}

#[test]
fn of_the_documents_that_a_kill_leaves_those_without_a_fax_go_and_no_other() {
    kill_amid_an_upload_and_a_delivery(Database::sqlite());
}
