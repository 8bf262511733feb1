//! `POST /v1/validate-ocr`. The receipts are drawn, and what they say is what the sandbox goes by.

use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use support::{Request, Response, Server, demo_key, eventually, launch};

use super::validations::{data, on_both, payment, read, validate};
use super::{code, codes, demo, framed};

const RECEIPT: &[u8] = include_bytes!("../../fixtures/receipt.png");
const NOT_FOUND: &[u8] = include_bytes!("../../fixtures/receipt-not-found.png");
const NO_RECEIPT: &[u8] = include_bytes!("../../fixtures/landscape.png");

fn post(server: &Server, body: &Value) -> Request {
    server.post("/v1/validate-ocr").bearer(&demo_key('1')).json(body)
}

fn base64(picture: &[u8]) -> String {
    BASE64_STANDARD.encode(picture)
}

fn image(picture: &[u8]) -> Value {
    json!({"image": base64(picture)})
}

fn with(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("no object: {fields}") };
    body.as_object_mut().expect("it is one").extend(fields);
    body
}

#[test]
fn what_the_receipt_says_is_asked_about() {
    for launch in on_both() {
        let server = launch.start();
        let answer = data(&post(&server, &image(RECEIPT)).send());
        let attributes = &answer["attributes"];
        assert_eq!((&attributes["validation_type"], &attributes["status"]), (&json!("ocr"), &json!("valid")));
        let expected = json!({
            "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": "MXBA20250315001234",
            "referencia_numerica": "1234567", "cuenta_beneficiaria": "012180004412345678", "emisor": "40002",
            "receptor": "40012",
        });
        assert_eq!(attributes["request_data"], expected, "{answer}");
        assert_eq!(attributes["ocr_result"]["clave_rastreo"], "MXBA20250315001234", "{answer}");
        assert_eq!(attributes["ocr_result"]["monto"], json!(15000.5), "{answer}");
        assert!(
            attributes["ocr_confidence"].as_f64().is_some_and(|sure| (0.5..=1.0).contains(&sure)),
            "{answer}"
        );
        assert_eq!(attributes.get("account_conflict"), None, "{answer}");
        assert!(answer["links"]["cep_xml"].is_string(), "{answer}");
        let this = answer["links"]["self"].as_str().expect("a link");
        assert_eq!(data(&read(&server, this)), answer);

        let id = answer["id"].as_str().expect("an id");
        assert_eq!(attributes["image_retained"], true, "{answer}");
        assert_eq!(attributes["image_path"], format!("comprobantes/{id}.png"), "{answer}");
        let picture = read(&server, &format!("{this}/image"));
        assert_eq!((picture.status, &picture.body[..]), (200, RECEIPT));
        for (header, value) in [
            ("content-type", "image/png"),
            ("content-disposition", &format!("inline; filename=\"comprobante-{id}.png\"")),
            ("cache-control", "private, max-age=3600"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(picture.header(header), Some(value));
        }
        let other = server.get(&format!("{this}/image")).bearer(&demo_key('2')).send();
        assert_eq!((other.status, code(&other).as_str()), (404, "not_found"), "it is somebody else's");
        let list = data(&read(&server, "/v1/validations?type=ocr"));
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(data(&read(&server, "/v1/validations?type=direct")), json!([]));
    }
}

#[test]
fn what_is_sent_takes_the_place_of_what_is_read() {
    let server = demo();
    let sent = json!({
        "cuenta_beneficiaria": "002010077777777771", "banco_emisor": "40012", "banco_receptor": "40002",
        "client_ref": "orden-4812", "retain_image": false,
        "retry_policy": {"enabled": true, "max_retries": 2, "interval_seconds": 600, "outcomes": ["not_found"]},
    });
    let answer = data(&post(&server, &with(image(NOT_FOUND), sent)).send());
    let attributes = &answer["attributes"];
    assert_eq!(
        (&attributes["status"], &attributes["client_ref"]),
        (&json!("not_found"), &json!("orden-4812"))
    );
    assert_eq!(attributes["request_data"]["cuenta_beneficiaria"], "002010077777777771", "{answer}");
    assert_eq!(attributes["request_data"]["emisor"], "40012", "{answer}");
    assert_eq!(
        attributes["account_conflict"],
        json!({"sent_last4": "7771", "read_last4": "5678"}),
        "{answer}"
    );
    assert_eq!(attributes["retry_state"]["terminal_state"], "pending", "{answer}");
    assert_eq!(attributes["image_retained"], false, "{answer}");
    assert_eq!(attributes.get("image_path"), None, "{answer}");
    let this = answer["links"]["self"].as_str().expect("a link");
    let answer = read(&server, &format!("{this}/image"));
    assert_eq!((answer.status, code(&answer).as_str()), (410, "image_not_retained"));
}

#[test]
fn a_validation_without_a_receipt_has_no_picture() {
    let server = demo();
    let answer = data(&validate(&server, payment("MX1")).send());
    let this = answer["links"]["self"].as_str().expect("a link");
    let answer = read(&server, &format!("{this}/image"));
    assert_eq!((answer.status, code(&answer).as_str()), (404, "image_not_available"));
    let answer = read(&server, "/v1/validations/1/image");
    assert_eq!((answer.status, code(&answer).as_str()), (422, "invalid_uuid"));
}

#[test]
fn no_table_holds_a_picture_in_clear() {
    let folder = tempfile::tempdir().expect("the directory for temporary files takes one");
    let file = folder.path().join("server.db");
    let start = || launch().demo().database(&format!("sqlite://{}", file.display())).start();
    let server = start();
    let answer = data(&post(&server, &image(RECEIPT)).key("kept").send());
    assert!(server.stop().status.success());
    let mut kept = Vec::new();
    for name in ["server.db", "server.db-wal"] {
        kept.extend(std::fs::read(folder.path().join(name)).unwrap_or_default());
    }
    let holds = |bytes: &[u8]| kept.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(answer["id"].as_str().expect("an id").as_bytes()));
    // So many bytes as make whole groups of base64.
    let middle = &RECEIPT[3999..4065];
    assert!(!holds(middle) && !holds(base64(middle).as_bytes()));
    // With its key beside it, the picture is there for the next server.
    let this = answer["links"]["self"].as_str().expect("a link");
    assert_eq!(&read(&start(), &format!("{this}/image")).body[..], RECEIPT);
}

#[test]
fn in_the_background_the_receipt_is_read_at_once_and_asked_about_later() {
    for launch in on_both() {
        let server = launch.start();
        let request = server.post("/v1/validate-ocr?async=1").bearer(&demo_key('1')).json(image(NOT_FOUND));
        let accepted = request.send();
        assert_eq!((accepted.status, accepted.header("etag")), (202, Some("W/\"0-queued\"")), "{accepted:?}");
        let path = accepted.header("location").expect("it says where").to_owned();
        let shown = eventually("a verdict", || {
            let shown = data(&read(&server, &path));
            (shown["attributes"]["status"] == "not_found").then_some(shown)
        });
        assert_eq!(shown["attributes"]["ocr_result"]["clave_rastreo"], "MXBA20250315-NOTFOUND", "{shown}");
    }
}

#[test]
fn what_is_no_receipt_is_refused_by_what_is_wrong_with_it_and_costs_nothing() {
    let server = launch().demo().config("veriko.plans.pro.monthly_quota = 1").start();
    let cut = &RECEIPT[..RECEIPT.len() / 2];
    for (body, expected) in [
        (json!({}), &["image_or_image_url_required"][..]),
        (json!({"image": "¿?"}), &["invalid_image"]),
        (image(b"GIF89a, or so it says"), &["invalid_image_format"]),
        (image(cut), &["invalid_image"]),
        (image(&vec![0; 12 * 1024 * 1024 + 1]), &["image_too_large"]),
        (image(NO_RECEIPT), &["required", "required", "clave_or_ref_required"]),
        (json!({"image_url": "nowhere"}), &["invalid_url"]),
        (json!({"image_url": "http://example.com/receipt.png"}), &["invalid_url_scheme"]),
        (json!({"image_url": "https://127.0.0.1/receipt.png"}), &["url_ssrf_blocked"]),
        (json!({"image_url": "https://[::ffff:169.254.169.254]/"}), &["url_ssrf_blocked"]),
        (json!({"image_url": "https://receipt.invalid/"}), &["image_url_unreachable"]),
        (with(image(RECEIPT), json!({"retain_image": "no"})), &["invalid_retain_image"]),
        (with(image(RECEIPT), json!({"cuenta_beneficiaria": "1"})), &["invalid_account_length"]),
    ] {
        let answer = post(&server, &body).send();
        assert_eq!(
            (answer.status, codes(&answer)),
            (422, expected.iter().map(ToString::to_string).collect())
        );
    }
    let answer = server.post("/v1/validate-ocr").bearer(&demo_key('4')).json(image(RECEIPT)).send();
    assert_eq!((answer.status, code(&answer).as_str()), (403, "forbidden"));
    assert_eq!(framed(&read(&server, "/v1/validations"))["meta"]["pagination"]["total"], 0);
    assert_eq!(post(&server, &image(RECEIPT)).send().status, 200);
    assert_eq!(code(&post(&server, &image(RECEIPT)).send()), "quota_exceeded");
}

#[test]
fn only_this_operation_takes_large_bodies_and_it_has_a_bound_too() {
    let server = demo();
    // More than the other operations take; of the right size for a picture, which this is not.
    let large = json!({"image": "A".repeat(15 * 1024 * 1024)});
    assert_eq!(code(&post(&server, &large).key("large").send()), "invalid_image_format");
    let answer = server.post("/v1/validate").bearer(&demo_key('1')).json(&large).send();
    assert_eq!((answer.status, code(&answer).as_str()), (413, "body_too_large"));
    let too_large = json!({"image": "A".repeat(17 * 1024 * 1024)});
    for request in [post(&server, &too_large), post(&server, &too_large).key("too-large")] {
        let answer = request.send();
        assert_eq!((answer.status, code(&answer).as_str()), (413, "body_too_large"));
    }
}

#[test]
fn a_key_reads_a_receipt_once() {
    let server = demo();
    let request = post(&server, &image(RECEIPT)).key("one");
    let answers: Vec<Response> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| request.send())).collect();
        clients.into_iter().map(|client| client.join().expect("it is answered")).collect()
    });
    let first = answers.iter().find(|answer| answer.status == 200).expect("one is answered");
    for answer in &answers {
        match answer.status {
            200 => assert_eq!(answer.lasting(), first.lasting()),
            _ => assert_eq!(code(answer), "idempotency_key_in_progress"),
        }
    }
    assert_eq!(request.send().lasting(), first.lasting());
    assert_eq!(framed(&read(&server, "/v1/validations"))["meta"]["pagination"]["total"], 1);
}

#[test]
fn without_the_program_receipts_are_not_read_and_the_log_says_so() {
    let server = launch().demo().config("veriko.ocr.program = \"/no/such/tesseract\"").start();
    let answer = post(&server, &image(RECEIPT)).key("later").send();
    assert_eq!((answer.status, code(&answer).as_str()), (503, "ocr_unavailable"));
    assert_eq!(answer.header("idempotent-replayed"), Some("false"));
    let said = server.stop().stderr;
    assert_eq!(said.matches("receipts cannot be read").count(), 1, "{said}");
}
