//! Each operation, in the shape that the vendor shows.

use serde_json::{Value, json};

use super::{TEST, application, demo, get, operations, post, request_id, transaction};

/// The names of an object's members, in alphabetical order.
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_operation_answers_at_the_root_and_under_v1() {
    let server = demo();
    for (path, body, status) in operations() {
        for path in [path.to_owned(), format!("/v1{path}")] {
            let answer = post(&server, &path, &body).send();
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            assert_eq!(answer.header("idempotent-replayed"), None, "{path}");
            request_id(&answer);
        }
    }
}

#[test]
fn a_transaction_is_scored_and_the_rules_say_why() {
    let server = demo();
    let plain = post(&server, "/transactions/score", &transaction()).send().json();
    assert_eq!(
        members(&plain),
        [
            "checks",
            "decision",
            "id",
            "object",
            "processing_time_ms",
            "risk_level",
            "risk_score",
            "rules_triggered",
            "signals",
        ]
    );
    assert!(plain["id"].as_str().is_some_and(|id| id.starts_with("trs_")), "{plain}");
    assert!(plain["processing_time_ms"].is_u64(), "{plain}");
    let judgement = (&plain["decision"], &plain["risk_score"], &plain["risk_level"]);
    assert_eq!(judgement, (&json!("approve"), &json!(180), &json!("low")));
    assert_eq!(plain["signals"], json!({"positive": ["normal_amount"], "negative": []}));

    let mut risky = transaction();
    risky["amount"] = json!(150_000.5);
    risky["type"] = json!("international_transfer");
    for (context, decision) in [
        (json!({}), "challenge"),
        (json!({"vpn": true}), "challenge"),
        (json!({"vpn": true, "rooted": true}), "decline"),
        (json!({"known_recipient": true, "known_device": true}), "review"),
    ] {
        risky["context"] = context.clone();
        let score = post(&server, "/transactions/score", &risky).send().json();
        assert_eq!(score["decision"], decision, "{context}: {score}");
        assert_eq!(score["rules_triggered"][0]["code"], "unusual_amount", "{score}");
        assert_eq!(score["checks"]["amount"]["passed"], false, "{score}");
    }
}

#[test]
fn a_loan_is_assessed_with_sums_as_they_were_sent() {
    let server = demo();
    let assessment = post(&server, "/lending/assess", &application()).send().json();
    assert_eq!(
        members(&assessment),
        ["affordability", "credit_score", "decision", "id", "income_analysis", "object", "pricing", "status",]
    );
    assert!(assessment["id"].as_str().is_some_and(|id| id.starts_with("lra_")), "{assessment}");
    assert_eq!(assessment["status"], "completed");
    assert_eq!(members(&assessment["decision"]), ["confidence", "max_approved_amount", "recommendation"]);
    for name in ["score", "grade", "percentile"] {
        assert!(!assessment["credit_score"][name].is_null(), "{assessment}");
    }
    assert_eq!(assessment["decision"]["recommendation"], "approve");

    let mut exact = application();
    exact["loan_request"]["amount"] = json!(0.29);
    let assessment = post(&server, "/lending/assess", &exact).send();
    assert!(assessment.text().contains(r#""max_approved_amount":0.29"#), "{assessment:?}");
}

#[test]
fn a_business_is_verified() {
    let server = demo();
    let verify = |number: &str| {
        let business = json!({"legal_name": "Bakery", "registration_number": number, "country": "MA"});
        post(&server, "/kyb/verify", &json!({"business": business, "checks": ["registry"]})).send().json()
    };
    let fine = verify("RC-1001");
    assert_eq!(members(&fine), ["checks", "created_at", "id", "object", "risk_level", "status"]);
    assert_eq!((&fine["object"], &fine["status"]), (&json!("kyb.verification"), &json!("verified")));
    assert_eq!(fine["checks"], json!({"registry": {"status": "passed", "findings": []}}));
    let gone = verify("RC-1001-DISSOLVED");
    assert_eq!((&gone["status"], &gone["risk_level"]), (&json!("failed"), &json!("high")));
}

#[test]
fn a_name_is_screened() {
    let server = demo();
    let screen = |body: Value| post(&server, "/watchlist/screen", &body).send().json();
    let clear = screen(json!({"entity": {"type": "individual", "name": "Amina Exemple"}}));
    assert_eq!(
        members(&clear),
        [
            "entity",
            "hits",
            "id",
            "matches",
            "object",
            "processing_time_ms",
            "risk_level",
            "screened_against",
            "status",
        ]
    );
    assert!(clear["id"].as_str().is_some_and(|id| id.starts_with("scr_")), "{clear}");
    assert_eq!(
        (&clear["status"], &clear["hits"], &clear["risk_level"]),
        (&json!("clear"), &json!(0), &json!("low"))
    );
    assert_eq!(clear["entity"], json!({"type": "individual", "name": "Amina Exemple"}));

    let entity = json!({"type": "individual", "name": "Boris Fictivof"});
    let alike = screen(json!({"entity": entity}));
    assert_eq!((&alike["status"], &alike["hits"]), (&json!("potential_match"), &json!(1)));
    assert_eq!(
        members(&alike["matches"][0]),
        ["id", "list", "match_details", "matched_entity", "score", "status"]
    );
    for (more, status) in [
        (json!({"fuzziness": "exact"}), "clear"),
        (json!({"threshold": 1}), "clear"),
        (json!({"lists": ["pep", "adverse_media"]}), "clear"),
        (json!({"fuzziness": "fuzzy", "threshold": 0.9, "include_aliases": false}), "potential_match"),
    ] {
        let mut body = json!({"entity": entity});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(screen(body)["status"], status, "{more}");
    }
    let hit = screen(json!({"entity": {"type": "individual", "name": "BORIS FICTIVOV"}}));
    assert_eq!((&hit["status"], &hit["risk_level"]), (&json!("confirmed_hit"), &json!("critical")));
}

#[test]
fn the_same_case_gets_the_same_judgement() {
    let server = demo();
    for (path, body, _) in operations() {
        let judgement = || {
            let mut answer = post(&server, path, &body).send().json();
            for passing in ["id", "created_at", "updated_at", "expires_at", "processing_time_ms"] {
                answer.as_object_mut().unwrap().remove(passing);
            }
            answer
        };
        assert_eq!(judgement(), judgement(), "{path}");
    }
}

#[test]
fn a_head_or_a_client_of_another_api_is_answered_in_this_apis_words() {
    let server = demo();
    let veriko = server.get("/identity/verifications").bearer(&support::demo_key('1')).send();
    assert_eq!((veriko.status, &veriko.json()["error"]["code"]), (401, &json!("unauthorized")));
    let elsewhere = server.get("/v1/users/me/retry-policy").bearer(TEST).send();
    assert_eq!((elsewhere.status, &elsewhere.json()["errors"][0]["code"]), (401, &json!("unauthorized")));
    assert_eq!(get(&server, "/identity/verifications").send().status, 200);
}
