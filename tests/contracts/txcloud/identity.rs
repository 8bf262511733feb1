//! Verifications and sessions: what is kept, for whom, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{Server, eventually, launch};

use super::{
    FRONT, LIVE, OTHER, TEST, at_once, demo, demos, get, post, refused, verification, verifications,
};

/// `TAMPERED` and `SPOOF`, in base64.
const TAMPERED: &str = "VEFNUEVSRUQ=";
const SPOOF: &str = "U1BPT0Y=";

fn verify(server: &Server, change: &Value) -> Value {
    let mut body = verification();
    for (member, value) in change.as_object().expect("an object") {
        body[member] = value.clone();
    }
    let answer = post(server, "/identity/verify", &body).send();
    assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
    answer.json()
}

#[test]
fn a_verification_has_what_the_vendor_shows_and_can_be_read_again() {
    for server in demos() {
        let metadata = json!({"user_id": "usr_1", "nested": {"a": [1, null]}});
        let made = verify(
            &server,
            &json!({"metadata": metadata, "selfie": FRONT, "checks": ["ocr", "face_match", "liveness", "fraud", "duplicate"]}),
        );
        let mut names: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "checks",
                "country",
                "created_at",
                "document_type",
                "extracted_data",
                "fraud_signals",
                "id",
                "metadata",
                "object",
                "risk_level",
                "risk_score",
                "status",
                "updated_at",
            ]
        );
        assert_eq!(
            (&made["status"], &made["risk_level"], &made["metadata"]),
            (&json!("verified"), &json!("low"), &metadata)
        );
        for check in ["ocr", "face_match", "liveness", "fraud", "duplicate"] {
            assert_eq!(made["checks"][check]["status"], "passed", "{made}");
        }
        let id = made["id"].as_str().unwrap();
        assert!(id.starts_with("ver_"), "{id}");
        for path in [
            "/identity/verify",
            "/v1/identity/verify",
            "/identity/verifications",
            "/v1/identity/verifications",
        ] {
            let read = get(&server, &format!("{path}/{id}")).send();
            assert_eq!((read.status, read.json()), (200, made.clone()), "{path}");
        }
    }
}

#[test]
fn what_the_images_hold_decides() {
    let server = demo();
    for (change, status, signal) in [
        (json!({"document_front": TAMPERED}), "failed", "document_tampered"),
        (json!({"document_back": TAMPERED}), "failed", "document_tampered"),
        (json!({"selfie": SPOOF, "checks": ["liveness"]}), "failed", "liveness_failed"),
        (json!({"checks": ["face_match"]}), "failed", "face_not_detected"),
        // `REVIEW`
        (json!({"document_front": "UkVWSUVX"}), "manual_review", "data_inconsistent"),
    ] {
        let made = verify(&server, &change);
        assert_eq!(
            (&made["status"], &made["fraud_signals"][0]["code"]),
            (&json!(status), &json!(signal)),
            "{change}"
        );
    }
}

#[test]
fn a_document_that_came_before_is_a_duplicate_for_its_owner_alone() {
    for server in demos() {
        let body = json!({"document_front": FRONT, "country": "MA", "document_type": "cin", "checks": ["duplicate"]});
        let status = |key: &str| {
            server.post("/identity/verify").bearer(key).json(&body).send().json()["status"].clone()
        };
        assert_eq!(
            [status(TEST), status(TEST), status(LIVE), status(OTHER)],
            ["verified", "failed", "verified", "verified"]
        );
    }
}

#[test]
fn a_verification_in_the_background_is_pending_until_it_is_judged() {
    for server in demos() {
        let made = verify(&server, &json!({"mode": "async", "document_front": TAMPERED}));
        assert_eq!(
            (&made["status"], &made["checks"], &made["risk_score"]),
            (&json!("pending"), &json!({}), &Value::Null)
        );
        let path = format!("/identity/verify/{}", made["id"].as_str().unwrap());
        let judged = eventually("it is judged", || {
            let read = get(&server, &path).send().json();
            (read["status"] != "pending").then_some(read)
        });
        assert_eq!((&judged["status"], &judged["created_at"]), (&json!("failed"), &made["created_at"]));
        assert_eq!(judged["checks"]["fraud"]["tampering_detected"], true, "{judged}");
    }
}

#[test]
fn of_thirty_verifications_of_one_document_at_once_one_is_the_first() {
    const AT_ONCE: usize = 30;
    for server in demos() {
        for round in 0..4 {
            let document = format!("{round}AAA");
            let asked = AtomicUsize::new(0);
            let ids = at_once(AT_ONCE, || {
                // None, all, half or a third of them.
                let number = asked.fetch_add(1, Ordering::Relaxed);
                let in_background = [false, true, number.is_multiple_of(2), number.is_multiple_of(3)][round];
                let mode = if in_background { "async" } else { "sync" };
                let change = json!({"document_front": document, "checks": ["duplicate"], "mode": mode});
                verify(&server, &change)["id"].as_str().expect("an id").to_owned()
            });
            let judgement = |id: &String| {
                eventually("it is judged", || {
                    let read = get(&server, &format!("/identity/verify/{id}")).send().json();
                    (read["status"] != "pending").then(|| read["checks"]["duplicate"]["status"].clone())
                })
            };
            let judgements: Vec<_> = ids.iter().map(judgement).collect();
            let count = |status: &str| judgements.iter().filter(|judgement| *judgement == status).count();
            assert_eq!((count("passed"), count("failed")), (1, AT_ONCE - 1), "round {round}");
        }
    }
}

#[test]
fn a_list_goes_back_in_time_page_by_page() {
    for server in demos() {
        let mut ids: Vec<_> =
            (0..5).map(|_| verify(&server, &json!({}))["id"].as_str().unwrap().to_owned()).collect();
        ids.reverse();
        let mut seen = Vec::new();
        let mut query = "?limit=2".to_owned();
        for (has_more, length) in [(true, 2), (true, 2), (false, 1)] {
            let page = get(&server, &format!("/identity/verifications{query}")).send().json();
            assert_eq!(
                (&page["object"], &page["total_count"], &page["has_more"]),
                (&json!("list"), &json!(5), &json!(has_more))
            );
            let data = page["data"].as_array().unwrap();
            assert_eq!(data.len(), length);
            seen.extend(data.iter().map(|made| made["id"].as_str().unwrap().to_owned()));
            assert_eq!(page["next_cursor"].as_str(), seen.last().map(String::as_str).filter(|_| has_more));
            query = format!("?limit=2&starting_after={}", seen.last().unwrap());
        }
        assert_eq!(seen, ids);
    }
}

#[test]
fn accounts_and_environments_do_not_see_each_other() {
    for server in demos() {
        let made = verify(&server, &json!({}));
        let session = post(&server, "/identity/sessions", &json!({"document_type": "cin", "country": "MA"}))
            .send()
            .json();
        for (kind, id) in
            [("verify", &made["id"]), ("verifications", &made["id"]), ("sessions", &session["id"])]
        {
            let path = format!("/identity/{kind}/{}", id.as_str().unwrap());
            assert_eq!(get(&server, &path).send().status, 200, "{path}");
            for key in [LIVE, OTHER] {
                let answer = server.get(&path).bearer(key).send();
                assert_eq!(
                    (answer.status, refused(&answer).0.as_str()),
                    (404, "not_found_error"),
                    "{path} {key}"
                );
            }
        }
        assert_eq!(verifications(&server), 1);
        for key in [LIVE, OTHER] {
            let list = server.get("/identity/verifications").bearer(key).send().json();
            assert_eq!((&list["total_count"], &list["data"]), (&json!(0), &json!([])), "{key}");
        }
    }
}

#[test]
fn a_session_is_pending_for_fifteen_minutes() {
    for server in demos() {
        let body =
            json!({"document_type": "passport", "country": "MA", "checks": ["ocr"], "metadata": {"a": 1}});
        let made = post(&server, "/identity/sessions", &body).send();
        assert_eq!(made.status, 201, "{made:?}");
        let session = made.json();
        assert!(session["id"].as_str().is_some_and(|id| id.starts_with("sess_")), "{session}");
        assert_eq!((&session["object"], &session["status"]), (&json!("identity.session"), &json!("pending")));
        assert_eq!((&session["documents"], &session["selfie_uploaded"]), (&json!([]), &json!(false)));
        for name in ["document_type", "country", "checks", "metadata"] {
            assert_eq!(session[name], body[name], "{name}");
        }
        let minute = |name: &str| {
            let text = session[name].as_str().unwrap();
            assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
            let number = |range| text.get(range).and_then(|part: &str| part.parse::<u32>().ok()).unwrap();
            number(11..13) * 60 + number(14..16)
        };
        assert_eq!((minute("expires_at") + 24 * 60 - minute("created_at")) % (24 * 60), 15);
        let read = get(&server, &format!("/v1/identity/sessions/{}", session["id"].as_str().unwrap())).send();
        assert_eq!((read.status, read.json()), (200, session));
    }
}

#[test]
fn a_session_expires_and_its_creation_is_replayed_as_it_was() {
    let server = launch().demo().config("[txcloud]\nsession_seconds = 1\n").start();
    let request = post(&server, "/identity/sessions", &json!({"document_type": "cin", "country": "MA"}))
        .key("session-key-1");
    let made = request.send();
    let path = format!("/identity/sessions/{}", made.json()["id"].as_str().unwrap());
    eventually("it expires", || (get(&server, &path).send().json()["status"] == "expired").then_some(()));
    let replay = request.send();
    assert_eq!((replay.header("idempotent-replayed"), replay.lasting()), (Some("true"), made.lasting()));
}
