//! Who is told that a verification has ended.

use serde_json::{Value, json};
use support::{Reaction, Received, Receiver, Server, eventually, launch};

use super::{LIVE, TEST, demos, post, refused, verification, verifications};
use crate::signatures::hmac;

/// What is signed for the demo account's test key, and for its live key.
const SECRETS: [(&str, &str); 2] = [(TEST, "whsec_test_abc123def456"), (LIVE, "whsec_live_abc123def456")];

/// `TAMPERED`, in base64.
const TAMPERED: &str = "VEFNUEVSRUQ=";

/// What is told, after a look at what all of it has.
fn event(received: &Received, secret: &str) -> Value {
    let signature = received.header("x-txcloud-signature");
    let (time, digits) = signature.split_once(",v1=").expect("a time and a signature");
    let time = time.strip_prefix("t=").expect("a time");
    assert!(time.parse::<u64>().is_ok_and(|seconds| seconds > 1_700_000_000), "{signature}");
    let signed = [time.as_bytes(), b".", &received.body].concat();
    assert_eq!(digits, hmac(secret, &signed), "{received:?}");
    assert_eq!(received.header("content-type"), "application/json");
    let event = received.json();
    let mut names: Vec<_> = event.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["api_version", "created_at", "data", "id", "type"]);
    assert!(event["id"].as_str().is_some_and(|id| id.starts_with("evt_")), "{event}");
    event
}

fn verify(server: &Server, key: &str, change: &Value) -> Value {
    let mut body = verification();
    body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    let answer = server.post("/identity/verify").bearer(key).json(body).send();
    assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
    answer.json()
}

fn tried(server: &Server, outcome: &str) -> u64 {
    server.counted("webhook_tries_total", &[&format!("outcome=\"{outcome}\"")])
}

#[test]
fn who_asked_for_it_is_told_once_what_can_be_read_of_a_verification() {
    for server in demos() {
        for (key, secret) in SECRETS {
            for (mode, front, name) in [
                ("sync", "ZnJvbnQ=", "identity.verification.completed"),
                ("async", "ZnJvbnQ=", "identity.verification.completed"),
                ("sync", TAMPERED, "identity.verification.failed"),
                ("async", TAMPERED, "identity.verification.failed"),
            ] {
                let receiver = Receiver::start();
                let change = json!({"mode": mode, "document_front": front, "webhook_url": receiver.url()});
                let made = verify(&server, key, &change);
                let told = event(&receiver.wait_for(1)[0], secret);
                let path = format!("/identity/verify/{}", made["id"].as_str().unwrap());
                let read = server.get(&path).bearer(key).send().json();
                assert_eq!((&told["type"], &told["data"]), (&json!(name), &read), "{mode}");
            }
        }
        eventually("all is recorded", || (tried(&server, "success") == 8).then_some(()));
    }
}

#[test]
fn a_retry_of_the_request_tells_nobody_again_and_a_receiver_that_fails_is_tried_again() {
    let config = "[txcloud]\nwebhook_retry_delays_seconds = [0.01, 0.01]\n";
    let server = launch().demo().config(config).start();
    let receiver = Receiver::reacting(Reaction::Answer(503));
    let mut body = verification();
    body["webhook_url"] = json!(receiver.url());
    let request = post(&server, "/identity/verify", &body).key("told-only-once");
    let first = request.send();
    assert_eq!(request.send().lasting(), first.lasting());
    let tries = receiver.wait_for(3);
    assert!(tries.iter().all(|one| one.body == tries[0].body), "the same words each time");
    eventually("it is given up", || (tried(&server, "failure") == 3).then_some(()));
    receiver.react(Reaction::Answer(200));
    assert_eq!(request.send().lasting(), first.lasting());
    // One more, to have something that comes after.
    verify(&server, TEST, &json!({"webhook_url": receiver.url()}));
    assert_eq!(receiver.wait_for(4).len(), 4);
    assert_eq!(verifications(&server), 2);
}

#[test]
fn what_is_due_is_done_at_once() {
    // It looks for work when it is told to, and then only.
    let server = launch().demo().config("[scheduler]\npoll_seconds = 3600\n").start();
    for mode in ["sync", "async"] {
        let receiver = Receiver::start();
        verify(&server, TEST, &json!({"mode": mode, "webhook_url": receiver.url()}));
        assert_eq!(receiver.wait_for(1).len(), 1, "{mode}");
    }
}

#[test]
fn a_url_that_may_not_be_called_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/it.db", folder.path().display());
    let arguments = ["keys", "create", "--api", "txcloud", "--account", "acme", "--test"];
    let made = arguments.iter().fold(launch().database(&database), |launch, part| launch.arg(part)).output();
    let (printed, said) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let key = printed.trim_end();
    assert!(key.starts_with("txc_test_") && !key.contains(char::is_whitespace), "{printed}");
    assert!(said.contains("secret that webhooks are signed with: whsec_test_"), "{said}");
    let server = launch().database(&database).start();
    for url in ["http://example.com", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "example"]
    {
        let mut body = verification();
        body["webhook_url"] = json!(url);
        let answer = server.post("/identity/verify").bearer(key).json(body).send();
        assert_eq!((answer.status, refused(&answer).1.as_str()), (400, "invalid_parameter"), "{url}");
        assert_eq!(answer.json()["error"]["param"], "webhook_url", "{url}");
    }
}
