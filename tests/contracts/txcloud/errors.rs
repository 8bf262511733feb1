//! Everything that is refused, in the vendor's words.

use serde_json::{Value, json};
use support::launch;

use super::{LIVE, TEST, application, demo, get, operations, post, refused, transaction, verification};

#[test]
fn who_is_nobody_is_told_so() {
    let server = demo();
    for key in ["", "txc_test_", "txc_test_unknownkey0", "txc_prod_abc123def456", "TXC_TEST_abc123def456"] {
        let answer = server.get("/identity/verifications").bearer(key).send();
        assert_eq!(answer.status, 401, "{key}");
        assert_eq!(refused(&answer), ("authentication_error".into(), "unauthorized".into()), "{key}");
    }
    let answer = server.post("/v1/transactions/score").json(transaction()).send();
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(
        launch().start().get("/identity/verifications").bearer(LIVE).send().status,
        401,
        "no demo, no public keys"
    );
}

#[test]
fn a_key_does_what_its_permissions_say() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("it.db").display());
    let key = |permissions: &[&str]| {
        let mut arguments = vec!["keys", "create", "--api", "txcloud", "--account", "acme", "--test"];
        arguments.extend(permissions.iter().flat_map(|permission| ["--permission", permission]));
        let made = run(&database, &arguments);
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
    };
    let (reader, screener, everything) = (key(&["identity:read"]), key(&["watchlist:write"]), key(&[]));
    assert!(reader.starts_with("txc_test_"), "{reader}");
    let server = launch().database(&database).start();
    for (path, body, status) in operations() {
        for (key, may) in [(&reader, false), (&screener, path.starts_with("/watchlist")), (&everything, true)]
        {
            let answer = server.post(path).bearer(key).json(&body).send();
            if may {
                assert_eq!(answer.status, status, "{path}: {answer:?}");
            } else {
                assert_eq!(answer.status, 403, "{path}");
                assert_eq!(refused(&answer), ("authorization_error".into(), "forbidden".into()), "{path}");
            }
        }
    }
    let reading = |key: &str| server.get("/identity/verifications").bearer(key).send().status;
    assert_eq!([reading(&reader), reading(&screener), reading(&everything)], [200, 403, 200]);
    let unknown = ["keys", "create", "--api", "txcloud", "--account", "acme", "--permission", "fax:write"];
    let refusal = run(&database, &unknown);
    assert!(!refusal.status.success(), "{refusal:?}");
    assert!(String::from_utf8_lossy(&refusal.stderr).contains("fax:write"), "{refusal:?}");
}

#[test]
fn each_permission_opens_its_own_operations_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("it.db").display());
    let families = ["identity", "transactions", "lending", "kyb", "watchlist"];
    let permissions =
        families.iter().flat_map(|family| ["read", "write"].map(|verb| format!("{family}:{verb}")));
    let keys: Vec<_> = permissions
        .map(|permission| {
            let key =
                ["keys", "create", "--api", "txcloud", "--account", "acme", "--permission", &permission];
            let made = run(&database, &key);
            (permission, String::from_utf8(made.stdout).unwrap().trim_end().to_owned())
        })
        .collect();
    let server = launch().database(&database).start();
    let nobody = "00000000000000000000000000000000";
    let reads = [
        "/identity/verifications".to_owned(),
        format!("/identity/verifications/ver_{nobody}"),
        format!("/identity/verify/ver_{nobody}"),
        format!("/identity/sessions/sess_{nobody}"),
    ];
    for (permission, key) in keys {
        for (path, body, _) in operations() {
            let needed = format!("{}:write", path.split('/').nth(1).unwrap());
            let status = server.post(path).bearer(&key).json(&body).send().status;
            assert_eq!(status != 403, permission == needed, "{path} {permission}");
        }
        for path in &reads {
            let status = server.get(path).bearer(&key).send().status;
            assert_eq!(status != 403, permission == "identity:read", "{path} {permission}");
        }
    }
}

fn run(database: &str, arguments: &[&str]) -> std::process::Output {
    arguments.iter().fold(launch().database(database), |launch, argument| launch.arg(argument)).output()
}

#[test]
fn what_is_nowhere_is_not_found_and_what_is_not_done_is_not_allowed() {
    let server = demo();
    for path in [
        "/identity/verify/ver_1",
        "/identity/verify/ver_00000000000000000000000000000000",
        "/identity/sessions/sess_00000000000000000000000000000000",
        "/identity/nothing",
        "/v1/lending/nothing",
        "/transactions/score/more",
    ] {
        let answer = get(&server, path).send();
        assert_eq!(
            (answer.status, refused(&answer)),
            (404, ("not_found_error".into(), "not_found".into())),
            "{path}"
        );
    }
    let answer = server.request("DELETE", "/identity/sessions").bearer(TEST).send();
    assert_eq!(
        (answer.status, refused(&answer).1.as_str(), answer.header("allow")),
        (405, "method_not_allowed", Some("POST"))
    );
}

/// A path, the body it takes, where the body is changed to what, and the code it is refused with.
type Row = (&'static str, Value, &'static str, Value, &'static str);

#[test]
fn what_cannot_be_taken_is_refused_by_name() {
    let server = demo();
    let business = json!({"business": {"legal_name": "B", "registration_number": "R", "country": "MA"}});
    let entity = json!({"entity": {"type": "individual", "name": "A"}});
    let session = json!({"document_type": "cin", "country": "MA"});
    let rows: Vec<Row> = vec![
        ("/identity/verify", verification(), "document_front", Value::Null, "missing_parameter"),
        ("/identity/verify", verification(), "document_front", json!("not base64"), "invalid_document"),
        ("/identity/verify", verification(), "country", json!("XX"), "unsupported_country"),
        ("/identity/verify", verification(), "document_type", json!("library_card"), "unsupported_document"),
        ("/identity/verify", verification(), "checks", json!(["ocr", "ocr"]), "invalid_parameter"),
        ("/identity/verify", verification(), "mode", json!("never"), "invalid_parameter"),
        ("/identity/verify", verification(), "webhook_url", json!("ftp://example.com"), "invalid_parameter"),
        ("/identity/sessions", session.clone(), "document_type", Value::Null, "missing_parameter"),
        ("/identity/sessions", session, "country", json!(1), "invalid_parameter"),
        ("/transactions/score", transaction(), "amount", Value::Null, "missing_parameter"),
        ("/transactions/score", transaction(), "amount", json!("5000"), "invalid_parameter"),
        ("/transactions/score", transaction(), "amount", json!(0), "invalid_parameter"),
        ("/transactions/score", transaction(), "amount", json!(-1), "invalid_parameter"),
        ("/transactions/score", transaction(), "amount", json!(1.001), "invalid_parameter"),
        ("/transactions/score", transaction(), "currency", json!("DIRHAM"), "invalid_parameter"),
        ("/transactions/score", transaction(), "type", json!("gift"), "invalid_parameter"),
        ("/transactions/score", transaction(), "sender", json!([]), "invalid_parameter"),
        ("/transactions/score", transaction(), "sender.ip_address", json!("here"), "invalid_parameter"),
        ("/transactions/score", transaction(), "recipient", Value::Null, "missing_parameter"),
        ("/transactions/score", transaction(), "recipient.name", json!("x".repeat(201)), "invalid_parameter"),
        ("/transactions/score", transaction(), "context.hour", json!(24), "invalid_parameter"),
        ("/lending/assess", application(), "applicant", Value::Null, "missing_parameter"),
        ("/lending/assess", application(), "applicant.phone", Value::Null, "missing_parameter"),
        (
            "/lending/assess",
            application(),
            "applicant.date_of_birth",
            json!("1990-02-30"),
            "invalid_parameter",
        ),
        (
            "/lending/assess",
            application(),
            "applicant.date_of_birth",
            json!("2999-01-01"),
            "invalid_parameter",
        ),
        (
            "/lending/assess",
            application(),
            "applicant.date_of_birth",
            json!("1850-01-01"),
            "invalid_parameter",
        ),
        ("/lending/assess", application(), "loan_request.term_months", json!(0), "invalid_parameter"),
        ("/lending/assess", application(), "loan_request.amount", json!(true), "invalid_parameter"),
        ("/lending/assess", application(), "consent", Value::Null, "missing_parameter"),
        ("/lending/assess", application(), "consent.bureau_check", json!("yes"), "invalid_parameter"),
        ("/lending/assess", application(), "employment.status", json!("idle"), "invalid_parameter"),
        ("/lending/assess", application(), "existing_debts", json!({}), "invalid_parameter"),
        ("/kyb/verify", business.clone(), "business", Value::Null, "missing_parameter"),
        ("/kyb/verify", business.clone(), "business.registration_number", json!(""), "invalid_parameter"),
        ("/kyb/verify", business.clone(), "business.country", json!("ma"), "unsupported_country"),
        ("/kyb/verify", business, "checks", json!(["astrology"]), "invalid_parameter"),
        ("/watchlist/screen", entity.clone(), "entity.name", Value::Null, "missing_parameter"),
        ("/watchlist/screen", entity.clone(), "entity.type", json!("robot"), "invalid_parameter"),
        ("/watchlist/screen", entity.clone(), "threshold", json!(1.1), "invalid_parameter"),
        ("/watchlist/screen", entity.clone(), "lists", json!([]), "invalid_parameter"),
        ("/watchlist/screen", entity, "fuzziness", json!("wild"), "invalid_parameter"),
    ];
    for (path, mut body, name, value, code) in rows {
        let place = name.split('.').fold(&mut body, |place, name| &mut place[name]);
        *place = value.clone();
        let answer = post(&server, path, &body).send();
        let what = format!("{path} {name} {value}: {answer:?}");
        assert_eq!(
            (answer.status, refused(&answer)),
            (400, ("validation_error".into(), code.into())),
            "{what}"
        );
        let param = answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert!(param == name || param.starts_with(&format!("{name}[")), "{what}");
    }
}

#[test]
fn a_body_that_is_none_is_refused_as_a_whole() {
    let server = demo();
    for (path, _, _) in operations() {
        for body in ["", " ", "{", "[]", "\"x\"", "{\"a\":1}}", "\u{feff}{}"] {
            let answer = server.post(path).bearer(TEST).json(body).send();
            assert_eq!(answer.status, 400, "{path} {body:?}");
            assert_eq!(
                refused(&answer),
                ("validation_error".into(), "invalid_request".into()),
                "{path} {body:?}"
            );
            assert!(answer.json()["error"].get("param").is_none(), "{answer:?}");
        }
    }
}

#[test]
fn a_body_that_is_too_large_is_not_read() {
    let server = demo();
    for (path, mut body, _) in operations() {
        // Images may be large.
        let bytes = if path == "/identity/verify" { 17 * 1024 * 1024 } else { 300 * 1024 };
        body["metadata"] = json!({"a": "a".repeat(bytes)});
        for request in [post(&server, path, &body), post(&server, path, &body).key("a-large-body-1")] {
            let answer = request.send();
            assert_eq!((answer.status, refused(&answer).1.as_str()), (413, "body_too_large"), "{path}");
        }
    }
    let mut image = verification();
    image["document_front"] = json!("AAAA".repeat(1024 * 1024));
    assert_eq!(post(&server, "/identity/verify", &image).key("a-large-image-1").send().status, 200);
}
