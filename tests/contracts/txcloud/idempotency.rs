//! `Idempotency-Key`, by the vendor's rules: a retried request happens once.

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Request, Response, eventually, launch};

use super::{
    LIVE, OTHER, TEST, at_once, demo, demos, get, judged, operations, post, refused, request_id, transaction,
    verification, verifications,
};

fn replayed(answer: &Response) -> bool {
    let header = answer.header("idempotent-replayed");
    assert!(matches!(header, None | Some("true")), "{answer:?}");
    header.is_some()
}

/// Sends until the answer is not "still running", as a client does.
fn answered(request: &Request) -> Response {
    eventually("the key is free or answered", || {
        let answer = request.send();
        if answer.status != 409 {
            return Some(answer);
        }
        assert_eq!(refused(&answer), ("idempotency_error".into(), "idempotency_key_in_progress".into()));
        assert_eq!(answer.json()["error"]["retry_after"], answer.number("retry-after"));
        None
    })
}

#[test]
fn of_every_operation_a_retry_gets_the_same_answer_and_the_same_request_id() {
    for server in demos() {
        for (path, body, status) in operations() {
            let request = post(&server, path, &body).key("user_123_verify_2025-01-15T10:30:00Z");
            let fresh = request.send();
            assert_eq!((fresh.status, replayed(&fresh)), (status, false), "{path}: {fresh:?}");
            let before = judged(&server);
            for _ in 0..3 {
                let replay = request.send();
                assert!(replayed(&replay), "{path}: {replay:?}");
                assert_eq!(
                    (replay.lasting(), request_id(&replay)),
                    (fresh.lasting(), request_id(&fresh)),
                    "{path}"
                );
                assert_eq!(replay.body, fresh.body, "{path}");
            }
            assert_eq!(judged(&server), before, "{path}");
        }
        assert_eq!(verifications(&server), 1);
    }
}

#[test]
fn an_endpoint_is_the_same_at_the_root_and_under_v1() {
    for server in demos() {
        for (path, body, _) in operations() {
            let root = post(&server, path, &body).key("same-endpoint").send();
            let below = post(&server, &format!("/v1{path}"), &body).key("same-endpoint").send();
            assert_eq!((replayed(&root), replayed(&below)), (false, true), "{path}");
            assert_eq!(below.lasting(), root.lasting(), "{path}");
            let other =
                server.post(&format!("/v1{path}")).bearer(TEST).key("same-endpoint").json(json!({})).send();
            assert_eq!(
                (other.status, refused(&other).1.as_str()),
                (409, "idempotency_key_conflict"),
                "{path}"
            );
        }
    }
}

#[test]
fn the_same_key_is_another_one_elsewhere_and_for_somebody_else() {
    for server in demos() {
        let first = post(&server, "/transactions/score", &transaction()).key("shared-key-1").send();
        assert!(!replayed(&first));
        for key in [LIVE, OTHER] {
            let other =
                server.post("/transactions/score").bearer(key).key("shared-key-1").json(transaction()).send();
            assert_eq!((other.status, replayed(&other)), (200, false), "{key}");
            assert_ne!(other.json()["id"], first.json()["id"]);
        }
        let elsewhere = post(&server, "/identity/verify", &verification()).key("shared-key-1").send();
        assert_eq!((elsewhere.status, replayed(&elsewhere)), (200, false));
        assert!(replayed(&post(&server, "/transactions/score", &transaction()).key("shared-key-1").send()));
    }
}

#[test]
fn another_body_is_a_conflict_and_changes_nothing() {
    for server in demos() {
        let request = post(&server, "/identity/verify", &verification()).key("conflicting");
        let first = request.send();
        let mut other = verification();
        other["country"] = json!("FR");
        for body in [other, json!({}), Value::Null] {
            let answer = post(&server, "/identity/verify", &body).key("conflicting").send();
            assert_eq!(answer.status, 409, "{answer:?}");
            assert_eq!(refused(&answer), ("idempotency_error".into(), "idempotency_key_conflict".into()));
            assert!(!replayed(&answer));
            assert_ne!(request_id(&answer), request_id(&first));
        }
        assert_eq!(request.send().lasting(), first.lasting());
        assert_eq!((verifications(&server), judged(&server)), (json!(1), 1));
    }
}

#[test]
fn what_is_no_key_is_refused_and_nothing_runs() {
    let server = demo();
    let too_long = "k".repeat(256);
    let malformed: [&[u8]; 10] = [
        b"",
        b"         ",
        b"nine-char",
        too_long.as_bytes(),
        b"with a blank",
        b"with,commas",
        b"\"in-quotes\"",
        b"dots.are.out",
        "clave-espa\u{f1}ola".as_bytes(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for (path, body, _) in operations() {
        for value in malformed {
            let answer = post(&server, path, &body).header("Idempotency-Key", value).send();
            assert_eq!(answer.status, 400, "{path} {:?}", String::from_utf8_lossy(value));
            assert_eq!(
                refused(&answer),
                ("validation_error".into(), "invalid_idempotency_key".into()),
                "{path}"
            );
        }
        for second in ["twice-the-same", "another-one"] {
            let answer = post(&server, path, &body).key("twice-the-same").key(second).send();
            assert_eq!(
                (answer.status, refused(&answer).1.as_str()),
                (400, "invalid_idempotency_key"),
                "{path}"
            );
        }
    }
    assert_eq!((judged(&server), verifications(&server)), (0, json!(0)));
}

#[test]
fn a_key_has_10_to_255_characters_and_may_have_colons_unless_it_must_not() {
    let keys = ["k".repeat(10), "k".repeat(255), "AZaz09_-AZ".to_owned()];
    let server = demo();
    let strict = launch().demo().config("[txcloud]\nstrict_keys = true\n").start();
    for server in [&server, &strict] {
        for key in &keys {
            let request = post(server, "/transactions/score", &transaction()).key(key);
            assert_eq!((replayed(&request.send()), replayed(&request.send())), (false, true), "{key}");
        }
    }
    let colons = "verify_2025-01-15T10:30:00Z";
    assert_eq!(post(&server, "/transactions/score", &transaction()).key(colons).send().status, 200);
    let refusal = post(&strict, "/transactions/score", &transaction()).key(colons).send();
    assert_eq!((refusal.status, refused(&refusal).1.as_str()), (400, "invalid_idempotency_key"));
}

#[test]
fn a_key_means_nothing_where_nothing_is_made() {
    let server = demo();
    for key in ["not a key", "", "a-key-of-a-reader"] {
        let answer = get(&server, "/identity/verifications").key(key).send();
        assert_eq!((answer.status, replayed(&answer)), (200, false), "{key}");
    }
}

#[test]
fn a_refusal_is_replayed_with_its_request_id() {
    for server in demos() {
        let request = post(&server, "/kyb/verify", &json!({})).key("refused-body");
        let first = request.send();
        let second = request.send();
        assert_eq!((first.status, replayed(&first), replayed(&second)), (400, false, true));
        assert_eq!(second.lasting(), first.lasting());
        assert_eq!(refused(&second), ("validation_error".into(), "missing_parameter".into()));
    }
}

#[test]
fn of_thirty_requests_at_once_with_one_key_one_is_recorded() {
    const AT_ONCE: usize = 30;
    for server in demos() {
        for (round, path) in (1..=8).zip(["/identity/verify", "/v1/identity/verify"].into_iter().cycle()) {
            let request = post(&server, path, &verification()).key(&format!("race-number-{round}"));
            let answers = at_once(AT_ONCE, || answered(&request));
            assert_eq!(answers.iter().filter(|answer| !replayed(answer)).count(), 1, "round {round}");
            assert!(answers.iter().all(|answer| answer.lasting() == answers[0].lasting()), "round {round}");
            assert_eq!((verifications(&server), judged(&server)), (json!(round), round));
        }
    }
}

#[test]
fn two_api_keys_of_one_account_share_its_verifications_and_no_idempotency_keys() {
    let folder = tempfile::tempdir().unwrap();
    for database in [format!("sqlite://{}/it.db", folder.path().display()), shared_database()] {
        let keys = [(); 2].map(|()| made_key(&database));
        let server = launch().database(&database).start();
        let verify = |key: &str| {
            server.post("/identity/verify").bearer(key).key("the-same-key").json(verification()).send()
        };
        let [first, second] = [verify(&keys[0]), verify(&keys[1])];
        assert_eq!((first.status, second.status, replayed(&second)), (200, 200, false));
        assert_ne!(first.json()["id"], second.json()["id"]);
        for key in &keys {
            assert!(replayed(&verify(key)));
            let list = server.get("/identity/verifications").bearer(key).send().json();
            assert_eq!(list["total_count"], 2);
        }
    }
}

/// A new test key of the account `acme`, which may do everything.
fn made_key(database: &str) -> String {
    let arguments = ["keys", "create", "--api", "txcloud", "--account", "acme", "--test"];
    let launch = arguments.iter().fold(launch().database(database), |launch, argument| launch.arg(argument));
    let printed = String::from_utf8(launch.output().stdout).expect("a key is text");
    printed.trim_end().to_owned()
}
