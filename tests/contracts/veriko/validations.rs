//! `POST /v1/validate`, and what is read of validations.

use std::thread;

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Launch, Request, Response, Server, demo_key, launch};

use super::{code, codes, demo, framed};

/// The demo on each kind of database.
pub(super) fn on_both() -> [Launch; 2] {
    [launch().demo(), launch().demo().database(&shared_database())]
}

/// A payment of which the sandbox says what the end of this key says.
pub(super) fn payment(key: &str) -> Value {
    json!({"fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": key, "cuenta_beneficiaria": "012180004412345678"})
}

/// The same with more, or other, fields.
fn with(key: &str, fields: Value) -> Value {
    let mut payment = payment(key);
    let Value::Object(fields) = fields else { panic!("no object: {fields}") };
    payment.as_object_mut().expect("it is one").extend(fields);
    payment
}

/// A `POST /v1/validate` by `demo-pro`.
pub(super) fn validate(server: &Server, body: Value) -> Request {
    server.post("/v1/validate").bearer(&demo_key('1')).json(body)
}

/// What is read of this path by `demo-pro`.
pub(super) fn read(server: &Server, path: &str) -> Response {
    server.get(path).bearer(&demo_key('1')).send()
}

/// The `data` of an answer that went well.
pub(super) fn data(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    framed(response)["data"].clone()
}

/// How many validations `demo-pro` has.
fn total(server: &Server) -> u64 {
    framed(&read(server, "/v1/validations"))["meta"]["pagination"]["total"].as_u64().expect("a number")
}

/// How often the sandbox was asked.
fn asked(server: &Server) -> u64 {
    server.counted("cep_queries_total", &[])
}

#[test]
fn the_verdict_is_the_answer_and_is_kept() {
    let server = demo();
    for (key, status, error) in [
        ("MX1", "valid", None),
        ("MX1-NOTFOUND", "not_found", None),
        ("MX1-UNAVAILABLE", "cep_unavailable", None),
        ("MX1-RETURNED", "returned", None),
        ("MX1-ERROR", "error", Some("network")),
        ("MX1-SLOW500-NOTFOUND", "not_found", None),
    ] {
        let answer = data(&validate(&server, payment(key)).send());
        let attributes = &answer["attributes"];
        assert_eq!(
            (&answer["type"], &attributes["status"]),
            (&json!("validation"), &json!(status)),
            "{answer}"
        );
        assert_eq!(attributes["banxico_status"], status, "{answer}");
        assert_eq!(attributes["request_data"], payment(key), "{answer}");
        assert_eq!(attributes.get("error_code"), error.map(|code| json!(code)).as_ref(), "{answer}");
        assert_eq!(attributes["retry_state"]["terminal_state"], json!(null), "{answer}");
        let slow = key.contains("SLOW500");
        assert_eq!(
            attributes["processing_time_ms"].as_u64().is_some_and(|took| took >= 500),
            slow,
            "{answer}"
        );

        let this = format!("/v1/validations/{}", answer["id"].as_str().expect("an id"));
        assert_eq!(answer["links"]["self"], this, "{answer}");
        assert_eq!(answer["links"].get("cep_xml").is_some(), status == "valid", "{answer}");
        assert_eq!(data(&read(&server, &this)), answer);
        assert_eq!(data(&read(&server, &format!("{this}/retry-attempts"))), json!([]));
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_nothing_is_asked() {
    let server = demo();
    let wrong = json!({
        "fecha": "2025-02-30", "monto": 0.001, "cuenta_beneficiaria": "012180004412345670", "emisor": "No Bank",
        "receptor": [], "client_ref": "", "retry_policy": {"enabled": true, "max_retries": 99, "interval_seconds": 1},
    });
    let answer = validate(&server, wrong).send();
    assert_eq!(answer.status, 422, "{answer:?}");
    let expected = [
        "invalid_date",
        "invalid_amount",
        "clave_or_ref_required",
        "invalid_clabe_checksum",
        "invalid_bank_code",
        "invalid_field_type",
        "retry_policy_invalid",
        "retry_policy_invalid",
        "retry_policy_invalid",
        "invalid_client_ref",
    ];
    assert_eq!(codes(&answer), expected);
    assert_eq!(framed(&answer)["meta"]["violations"].as_array().map(Vec::len), Some(3));

    for (body, status, wanted) in
        [("", 400, "body_empty"), ("{", 400, "invalid_json"), ("[]", 422, "required")]
    {
        let answer = server.post("/v1/validate").bearer(&demo_key('1')).json(body).send();
        assert_eq!((answer.status, codes(&answer)[0].as_str()), (status, wanted));
    }
    assert_eq!((total(&server), asked(&server)), (0, 0));
}

#[test]
fn a_key_validates_once_and_its_replay_is_the_same_to_the_byte() {
    for launch in on_both() {
        let server = launch.start();
        let request = validate(&server, payment("MX1-NOTFOUND")).key("order-4812");
        let first = request.send();
        assert_eq!((first.status, first.header("idempotent-replayed")), (200, Some("false")), "{first:?}");
        for _ in 0..3 {
            let again = request.send();
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.lasting(), first.lasting());
        }
        assert_eq!((total(&server), asked(&server)), (1, 1));

        let other = validate(&server, payment("MX2-NOTFOUND")).key("order-4812").send();
        assert_eq!((other.status, code(&other).as_str()), (422, "idempotency_key_reused"));
        assert_eq!((total(&server), asked(&server)), (1, 1));
    }
}

#[test]
fn of_many_requests_with_one_key_at_once_one_validates() {
    for launch in on_both() {
        let server = launch.start();
        for round in 0..10 {
            let request = validate(&server, payment("MX1-NOTFOUND")).key(&format!("round-{round}"));
            let statuses: Vec<u16> = thread::scope(|scope| {
                let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| request.send().status)).collect();
                sent.into_iter().map(|sent| sent.join().expect("it sends")).collect()
            });
            assert!(statuses.contains(&200), "{statuses:?}");
            assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
            assert_eq!((total(&server), asked(&server)), (round + 1, round + 1));
        }
    }
}

#[test]
fn banxico_refusing_for_volume_is_503_and_leaves_nothing() {
    let server = demo();
    let request = validate(&server, payment("MX1-RATELIMITED")).key("the-key");
    for run in 1..=2 {
        let answer = request.send();
        assert_eq!((answer.status, code(&answer).as_str()), (503, "banxico_rate_limit_exhausted"));
        assert_eq!(answer.header("idempotent-replayed"), Some("false"), "it is not stored");
        assert_eq!((total(&server), asked(&server)), (0, run));
    }
}

#[test]
fn a_spent_quota_is_429_and_neither_replays_nor_refusals_spend_any() {
    for launch in on_both() {
        let server = launch.config("[veriko.plans.pro]\nmonthly_quota = 2\n").start();
        let first = validate(&server, payment("MX1-NOTFOUND")).key("first");
        assert_eq!(first.send().status, 200);
        for _ in 0..3 {
            assert_eq!(first.send().header("idempotent-replayed"), Some("true"));
            assert_eq!(validate(&server, json!({})).send().status, 422);
            assert_eq!(validate(&server, payment("MX1-RATELIMITED")).send().status, 503);
        }
        assert_eq!(validate(&server, payment("MX2")).send().status, 200);
        let before = asked(&server);

        let third = validate(&server, payment("MX3")).key("third");
        for _ in 0..2 {
            let answer = third.send();
            assert_eq!((answer.status, code(&answer).as_str()), (429, "quota_exceeded"));
            assert_eq!(answer.header("idempotent-replayed"), Some("false"), "it is not stored");
        }
        assert_eq!((total(&server), asked(&server)), (2, before), "nobody is asked in vain");
        // Another account has its own.
        let other = server.post("/v1/validate").bearer(&demo_key('2')).json(payment("MX1")).send();
        assert_eq!(other.status, 200, "{other:?}");
    }
}

#[test]
fn however_many_ask_at_once_the_quota_is_not_overdrawn() {
    for launch in on_both() {
        let server = launch.config("[veriko.plans.pro]\nmonthly_quota = 5\n").start();
        let request = validate(&server, payment("MX1"));
        let granted = thread::scope(|scope| {
            let sent: Vec<_> = (0..16).map(|_| scope.spawn(|| request.send().status)).collect();
            sent.into_iter()
                .map(|sent| sent.join().expect("it sends"))
                .filter(|status| *status == 200)
                .count()
        });
        assert_eq!((granted, total(&server)), (5, 5));
    }
}

#[test]
fn who_may_not_validate_may_read() {
    let server = demo();
    let readonly = demo_key('4');
    let answer = server.post("/v1/validate").bearer(&readonly).json(payment("MX1")).send();
    assert_eq!((answer.status, code(&answer).as_str()), (403, "forbidden"));
    let answer = server.get("/v1/validations").bearer(&readonly).send();
    assert_eq!(data(&answer), json!([]));
}

#[test]
fn a_validation_has_a_tag_and_is_not_sent_again_to_who_has_it() {
    let server = demo();
    let made = data(&validate(&server, payment("MX1")).send());
    let this = made["links"]["self"].as_str().expect("a link").to_owned();
    let first = read(&server, &this);
    assert_eq!(first.header("etag"), Some(r#"W/"1-valid""#), "{first:?}");
    assert_eq!(first.header("retry-after"), None, "it is final");
    assert_eq!(framed(&first)["meta"].get("next_poll_after_seconds"), None);

    let held = |tag: &str| server.get(&this).bearer(&demo_key('1')).header("If-None-Match", tag).send();
    for tag in [r#"W/"1-valid""#, r#""1-valid""#, "*", r#""x", W/"1-valid""#] {
        let answer = held(tag);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}: {answer:?}");
        assert_eq!(answer.header("etag"), Some(r#"W/"1-valid""#), "{tag}");
        assert_eq!(answer.header("x-request-id").map(str::len), Some(12), "{tag}");
    }
    for tag in [r#"W/"0-valid""#, r#"W/"1-not_found""#, "1-valid"] {
        assert_eq!(held(tag).status, 200, "{tag}");
    }
}

#[test]
fn what_is_not_there_or_anothers_is_404_and_what_is_no_id_422() {
    let server = demo();
    let made = data(&validate(&server, payment("MX1-NOTFOUND")).send());
    let foreign = made["id"].as_str().expect("an id");
    let unknown = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    let policy = json!({"retry_policy": {"enabled": false}});
    for (method, path) in
        [("GET", ""), ("GET", "/retry-attempts"), ("PUT", "/retry-policy"), ("POST", "/cancel-retries")]
    {
        for (id, status, wanted) in [
            (foreign, 404, "not_found"),
            (unknown, 404, "not_found"),
            ("4812", 422, "invalid_uuid"),
            ("f47ac10b58cc4372a5670e02b2c3d479", 422, "invalid_uuid"),
        ] {
            let path = format!("/v1/validations/{id}{path}");
            let request = server.request(method, &path).bearer(&demo_key('2'));
            let answer = if method == "PUT" { request.json(&policy) } else { request }.send();
            assert_eq!((answer.status, code(&answer).as_str()), (status, wanted), "{method} {path}");
        }
    }
    assert_eq!(read(&server, &format!("/v1/validations/{foreign}")).status, 200);
}

#[test]
fn a_list_holds_what_its_filters_let_through_the_latest_first() {
    for launch in on_both() {
        let server = launch.start();
        assert_eq!(data(&read(&server, "/v1/validations")), json!([]));
        let retried =
            json!({"enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["not_found"]});
        for (name, fields) in [
            ("A", with("MXA", json!({"client_ref": "Año 1", "monto": 1}))),
            ("B", with("MXB-NOTFOUND", json!({"retry_policy": retried, "monto": "20.25"}))),
            ("C", with("MXC-ERROR", json!({"emisor": "BANCO NACIONAL DE MEXICO", "monto": 300}))),
            ("D", with("MXD-50%_-UNAVAILABLE", json!({"referencia_numerica": "0000777", "monto": 4000}))),
        ] {
            assert_eq!(validate(&server, fields).send().status, 200, "{name}");
        }
        let foreign = server.post("/v1/validate").bearer(&demo_key('2')).json(payment("MXZ")).send();
        assert_eq!(foreign.status, 200);

        let mut wrong = Vec::new();
        for (query, expected) in [
            ("", "DCBA"),
            ("per_page=3", "DCB"),
            ("per_page=3&page=2", "A"),
            ("per_page=3&page=9", ""),
            ("per_page=0", "D"),
            ("per_page=1000", "DCBA"),
            ("status=valid", "A"),
            ("status=valid,error", "CA"),
            ("status=not_found,cep_unavailable", "DB"),
            ("type=direct", "DCBA"),
            ("type=ocr", ""),
            ("from=2020-01-01&to=2999-12-31", "DCBA"),
            ("date_from=2999-01-01", ""),
            ("date_to=2020-01-01", ""),
            ("search=mxb", "B"),
            ("search=MXC", "C"),
            ("search=a%C3%B1o", "A"),
            ("search=A%C3%91O", "A"),
            ("search=nacional", "C"),
            ("search=0000777", "D"),
            ("search=50%25_", "D"),
            ("search=5%25", ""),
            ("search=5__", ""),
            ("search=012-180+0044", "DCBA"),
            ("search=nothing", ""),
            ("client_ref=A%C3%B1o+1", "A"),
            ("client_ref=a%C3%B1o+1", ""),
            ("amount_min=20.25", "DCB"),
            ("amount_max=20.25", "BA"),
            ("amount_min=20.26&amount_max=300", "C"),
            ("retry_state=pending", "B"),
            ("retry_state=resolved", ""),
            ("status=not_found&amount_max=1", ""),
            ("status=valid&search=mxa&client_ref=A%C3%B1o+1&amount_min=1&amount_max=1&type=direct", "A"),
        ] {
            let answer = read(&server, &format!("/v1/validations?{query}"));
            let listed: String = data(&answer)
                .as_array()
                .expect("a list")
                .iter()
                .map(|item| &item["attributes"]["tracking_key"].as_str().expect("a key")[2..3])
                .collect();
            if listed != expected {
                wrong.push(format!("{query}: {listed}, not {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");

        let page = framed(&read(&server, "/v1/validations?per_page=3&page=2"))["meta"]["pagination"].clone();
        assert_eq!(page, json!({"page": 2, "per_page": 3, "total": 4, "total_pages": 2}));
        let refused = read(&server, "/v1/validations?amount_min=x&retry_state=none&from[]=2025-01-01");
        assert_eq!((refused.status, codes(&refused)), (422, vec!["invalid_filter".to_owned(); 3]));
    }
}
