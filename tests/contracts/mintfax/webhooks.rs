//! Who is told what becomes of a fax.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Launch, Reaction, Received, Receiver, Says, Server, Stub, eventually, launch};

use super::{BUSY, DELIVERED, Form, LIVE, TEST, accepted, demo_with, ended, fields, get, on_both, sent};
use crate::signatures::hmac;

/// What the events of the holder of [`TEST`] are signed with.
const SECRET: &str = "whsec_test_abc123def456";

/// A fax to this number, told of to this receiver.
fn told(to: &str, receiver: &Receiver) -> Form {
    Form::to(to).field("webhook_url", &receiver.url())
}

/// The event, after a look at what every one has.
fn event(received: &Received, secret: &str) -> Value {
    let timestamp = received.header("x-mintfax-timestamp");
    assert!(timestamp.parse::<u64>().is_ok_and(|seconds| seconds > 1_700_000_000), "{timestamp}");
    let signed = [timestamp.as_bytes(), b".", &received.body].concat();
    assert_eq!(received.header("x-mintfax-signature"), hmac(secret, &signed), "{received:?}");
    assert_eq!(received.header("content-type"), "application/json");
    let event = received.json();
    let names: HashSet<_> = event.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, HashSet::from(["event", "event_id", "timestamp", "data"]));
    let id = event["event_id"].as_str().expect("an id");
    assert!(id.starts_with("evt_") && id.len() == 30, "{id}");
    event
}

fn events(received: &[Received]) -> Vec<Value> {
    received.iter().map(|received| event(received, SECRET)).collect()
}

/// Their names in some order, since events may overtake each other.
fn names(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    names.sort_unstable();
    names
}

fn tries(server: &Server, outcome: &str) -> u64 {
    server.counted("webhook_tries_total", &[&format!("outcome=\"{outcome}\"")])
}

#[test]
fn every_step_of_a_fax_is_told_once() {
    // To, and what is told with one retry, in the order of the alphabet.
    let table: &[(&str, &[&str])] = &[
        (DELIVERED, &["fax.delivered", "fax.queued", "fax.sending"]),
        (BUSY, &["fax.failed", "fax.queued", "fax.retry_scheduled", "fax.sending", "fax.sending"]),
        (
            "+15005550004",
            &["fax.delivered", "fax.queued", "fax.retry_scheduled", "fax.sending", "fax.sending"],
        ),
        ("+15005550008", &["fax.failed", "fax.queued", "fax.sending"]),
    ];
    for server in on_both("") {
        let mut all = 0;
        for (to, expected) in table {
            let receiver = Receiver::start();
            let id = sent(&server, &told(to, &receiver).field("retries", "1"));
            let fax = ended(&server, &id);
            let events = events(&receiver.wait_for(expected.len()));
            assert_eq!(names(&events), *expected, "{to}");
            let ids: HashSet<_> = events.iter().map(|event| event["event_id"].to_string()).collect();
            assert_eq!(ids.len(), events.len());
            for event in &events {
                as_it_was(event, &fax);
            }
            all += expected.len() as u64;
        }
        eventually("all are taken", || (tries(&server, "success") == all).then_some(()));
        assert_eq!(tries(&server, "failure"), 0);
    }
}

/// What is told of a fax is the fax as it was then.
fn as_it_was(event: &Value, fax: &Value) {
    let (name, data) = (event["event"].as_str().expect("a name"), &event["data"]);
    assert_eq!((&data["id"], &data["to"]), (&fax["id"], &fax["to"]), "{event}");
    let next = data["next_attempt_at"].is_string();
    assert_eq!(next, name == "fax.retry_scheduled", "{event}");
    match name {
        "fax.queued" => assert_eq!(data["status"], "queued"),
        "fax.sending" => assert_eq!(data["status"], "in_progress"),
        "fax.retry_scheduled" => {
            assert_eq!((&data["status"], data["error_code"].is_null()), (&json!("in_progress"), false));
        }
        _ => assert_eq!(data, fax, "it is told as it is read"),
    }
}

/// Each environment has a secret of its own.
#[test]
fn events_of_live_faxes_are_signed_for_live() {
    let carrier = Stub::saying(|_, _| Says::This(200, r#"{"status": "delivered"}"#));
    let server = demo_with(&format!("carrier_url = '{}'", carrier.url()));
    let receiver = Receiver::start();
    accepted(&told(DELIVERED, &receiver).post(&server, LIVE).send());
    for received in receiver.wait_for(3) {
        event(&received, "whsec_live_abc123def456");
    }
}

#[test]
fn without_a_url_nobody_is_told() {
    let server = demo_with("");
    for form in [Form::to(BUSY), Form::to(DELIVERED).field("webhook_url", "")] {
        let fax = ended(&server, &sent(&server, &form));
        assert_eq!(fax["webhook_url"], json!(null));
    }
    let receiver = Receiver::start();
    sent(&server, &told(DELIVERED, &receiver));
    receiver.wait_for(3);
    eventually("that was all", || (tries(&server, "success") == 3).then_some(()));
    assert_eq!(tries(&server, "failure"), 0);
}

#[test]
fn a_replay_and_a_refusal_tell_of_nothing() {
    let server = demo_with("");
    let receiver = Receiver::start();
    for to in ["+15005550006", "+15005550099"] {
        assert!([402, 422].contains(&told(to, &receiver).post(&server, TEST).send().status));
    }
    for _ in 0..3 {
        accepted(&told(DELIVERED, &receiver).post(&server, TEST).key("one").send());
    }
    ended(&server, &sent(&server, &told(DELIVERED, &receiver)));
    let events = events(&receiver.wait_for(6));
    eventually("that was all", || (tries(&server, "success") == 6).then_some(()));
    assert_eq!(names(&events).iter().filter(|name| **name == "fax.queued").count(), 2);
}

/// | the receiver | is told again |
/// |---|---|
/// | answers 2xx | no |
/// | answers anything else, redirects, hangs up, or takes too long | yes, with the same id and bytes, signed anew |
#[test]
fn an_event_is_sent_until_it_is_taken() {
    for (reaction, again) in [
        (Reaction::Answer(200), false),
        (Reaction::Answer(204), false),
        (Reaction::Answer(400), true),
        (Reaction::Answer(410), true),
        (Reaction::Answer(503), true),
        (Reaction::Redirect, true),
        (Reaction::Close, true),
        (Reaction::Hang, true),
    ] {
        // The first try of each of three events; the second comes a second later, so that it has another time.
        let server = demo_with(
            "webhook_retry_delays_seconds = [1.1, 0.01, 0.01, 0.01]\nwebhook_timeout_seconds = 0.3",
        );
        let receiver = Receiver::reacting(reaction);
        ended(&server, &sent(&server, &told(DELIVERED, &receiver)));
        let first = receiver.wait_for(3);
        receiver.react(Reaction::Answer(200));
        eventually("all are taken", || (tries(&server, "success") == 3).then_some(()));
        let heard = receiver.received();
        if !again {
            assert_eq!(heard.len(), 3, "{reaction:?}");
            continue;
        }
        assert_eq!((heard.len(), tries(&server, "failure")), (6, 3), "{reaction:?}");
        for first in first {
            let id = event(&first, SECRET)["event_id"].clone();
            let tries: Vec<_> = heard.iter().filter(|heard| event(heard, SECRET)["event_id"] == id).collect();
            assert_eq!(tries.len(), 2, "{reaction:?}");
            assert_eq!(tries[0].body, tries[1].body);
            assert_ne!(tries[0].header("x-mintfax-timestamp"), tries[1].header("x-mintfax-timestamp"));
        }
    }
}

#[test]
fn an_event_that_nobody_takes_is_given_up_and_the_fax_is_none_the_worse() {
    let server = demo_with("webhook_retry_delays_seconds = [0.01, 0.01]");
    let (deaf, receiver) = (Receiver::reacting(Reaction::Answer(500)), Receiver::start());
    let fax = ended(&server, &sent(&server, &told(DELIVERED, &deaf)));
    assert_eq!(fax["status"], "delivered");
    eventually("three tries of each", || (tries(&server, "failure") == 9).then_some(()));
    sent(&server, &told(DELIVERED, &receiver));
    receiver.wait_for(3);
    assert_eq!((deaf.received().len(), tries(&server, "failure")), (9, 9));
}

/// Half of the worker's places at the most are taken by receivers that take their time, a quarter by one account's.
#[test]
fn a_receiver_that_hangs_keeps_no_fax_waiting() {
    let server = demo_with("webhook_timeout_seconds = 600");
    let hanging = Receiver::reacting(Reaction::Hang);
    let ids: Vec<_> = (0..10).map(|_| sent(&server, &told(DELIVERED, &hanging))).collect();
    for id in ids {
        assert_eq!(ended(&server, &id)["status"], "delivered");
    }
    assert_eq!(hanging.wait_for(4).len(), 4, "a quarter of sixteen places");
    let receiver = Receiver::start();
    accepted(&told(DELIVERED, &receiver).post(&server, super::OTHER).send());
    for received in receiver.wait_for(3) {
        event(&received, "whsec_test_other0account1");
    }
}

/// A server that is none of the demo, and its database.
fn own(folder: &Path) -> Launch {
    launch().database_of_its_own(folder)
}

/// What making a key of the account `acme` prints.
fn made(launch: Launch, more: &[&str]) -> (String, String) {
    let launch = launch.arg("keys").arg("create").arg("--api").arg("mintfax").arg("--account").arg("acme");
    let output = more.iter().fold(launch, |launch, argument| launch.arg(argument)).output();
    assert!(output.status.success(), "{output:?}");
    let [key, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("it is text"));
    let secret = said.lines().find_map(|line| line.strip_prefix("secret that webhooks are signed with: "));
    (key.trim_end().to_owned(), secret.unwrap_or_else(|| panic!("{said}")).to_owned())
}

#[test]
fn with_a_key_its_accounts_secret_is_printed_and_the_same_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, secret) = made(own(folder.path()), &["--test"]);
    assert!(first.starts_with("mfx_test_") && secret.starts_with("whsec_test_"), "{first}");
    let (second, again) = made(own(folder.path()), &["--test"]);
    assert_ne!(first, second);
    assert_eq!(secret, again);
    let (live, other) = made(own(folder.path()), &[]);
    assert!(live.starts_with("mfx_live_") && other.starts_with("whsec_live_"), "{live}");
    assert_ne!(secret[11..], other[11..]);

    let server = own(folder.path()).demo().start();
    let receiver = Receiver::start();
    for key in [&first, &second] {
        accepted(&told(DELIVERED, &receiver).post(&server, key).send());
    }
    for received in receiver.wait_for(6) {
        event(&received, &secret);
    }
}

#[test]
fn the_secret_is_neither_in_the_database_nor_in_the_log_and_a_lost_key_is_said_to_be_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, secret) = made(own(folder.path()), &["--test"]);
    let server = own(folder.path()).demo().env("RUST_LOG", "trace").start();
    let receiver = Receiver::start();
    accepted(&told(DELIVERED, &receiver).post(&server, &key).send());
    event(&receiver.wait_for(3)[0], &secret);
    let stopped = server.stop();
    assert!(stopped.stderr.len() > 100 && !stopped.stderr.contains(&secret[..27]), "in the log");
    let files = fs::read_dir(folder.path()).expect("it can be read").map(|file| file.expect("a file").path());
    for file in files.filter(|path| path.is_file()) {
        let bytes = fs::read(&file).expect("it can be read");
        let found = bytes.windows(27).any(|window| window == &secret.as_bytes()[..27]);
        assert!(!found, "in {}", file.display());
    }
    fs::remove_file(folder.path().join("example-server.db.key")).expect("it was there");
    let said = own(folder.path()).fail();
    assert!(said.contains("SEALING_KEY") && !said.contains("panicked"), "{said}");
}

#[test]
fn only_what_is_public_may_be_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, _) = made(own(folder.path()), &["--test"]);
    let server = own(folder.path()).start();
    let long = format!("https://example.com/{}", "x".repeat(2048));
    for url in [
        "http://example.com/hook",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0x7f000001/",
        "https://user:password@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        &long,
    ] {
        let refused = Form::to(DELIVERED).field("webhook_url", url).post(&server, &key).send();
        assert_eq!(fields(&refused), ["webhook_url"], "{url}");
    }
    let listed = server.get("/v1/faxes").bearer(&key).send().json();
    assert_eq!(listed["meta"]["total"], 0, "{listed}");
}

/// A URL that was taken is looked at again each time.
#[test]
fn what_was_allowed_when_the_fax_was_sent_is_not_called_once_it_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, _) = made(own(folder.path()), &["--test"]);
    let config = "[mintfax]\nwebhook_retry_delays_seconds = [2, 0.01, 0.01]";
    let server = own(folder.path()).demo().config(config).start();
    let receiver = Receiver::reacting(Reaction::Close);
    accepted(&told(DELIVERED, &receiver).post(&server, &key).send());
    receiver.wait_for(3);
    server.stop();

    receiver.react(Reaction::Answer(200));
    let before = receiver.received().len();
    let server = own(folder.path()).config(config).start();
    eventually("each is tried", || (tries(&server, "failure") >= 3).then_some(()));
    assert_eq!((receiver.received().len(), tries(&server, "success")), (before, 0));
}

/// What waits is sent by whoever serves next.
#[test]
fn an_event_outlives_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |delays: &str| {
        let config = format!("[mintfax]\nwebhook_retry_delays_seconds = {delays}");
        own(folder.path()).demo().config(&config).start()
    };
    let server = start("[2]");
    let receiver = Receiver::reacting(Reaction::Answer(503));
    let id = sent(&server, &told(DELIVERED, &receiver));
    let fax = ended(&server, &id);
    let first = receiver.wait_for(3);
    assert!(server.stop().status.success());
    receiver.react(Reaction::Answer(200));
    let server = start("[2]");
    eventually("all are taken", || (tries(&server, "success") == 3).then_some(()));
    assert_eq!(names(&events(&receiver.received()[3..])), names(&events(&first)));
    assert_eq!(get(&server, &format!("/v1/faxes/{id}")), fax);
}
