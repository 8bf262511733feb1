use serde_json::{Value, json};

use super::*;
use crate::engines::identity::IdentityCheck;
use platform::testing::outbound;

fn read(body: &[u8]) -> Result<Request, Failure> {
    Request::read(body, &outbound())
}

fn body() -> Value {
    json!({"document_front": "Zm9v", "country": "MA", "document_type": "cin"})
}

/// Returns the plain request with this member changed or removed.
fn with(name: &str, value: Value) -> Result<Request, Failure> {
    let mut body = body();
    if value == json!("(none)") {
        body.as_object_mut().unwrap().remove(name);
    } else {
        body[name] = value;
    }
    read(body.to_string().as_bytes())
}

#[test]
fn an_invalid_field_is_refused_by_name() {
    for (name, value, code) in [
        ("document_front", json!("(none)"), "missing_parameter"),
        ("document_front", json!(null), "missing_parameter"),
        ("document_front", json!(""), "invalid_document"),
        ("document_front", json!("no base64"), "invalid_document"),
        ("document_front", json!(7), "invalid_parameter"),
        ("country", json!("(none)"), "missing_parameter"),
        ("country", json!("Morocco"), "unsupported_country"),
        ("country", json!(["MA"]), "invalid_parameter"),
        ("document_type", json!("(none)"), "missing_parameter"),
        ("document_type", json!("library_card"), "unsupported_document"),
        ("document_type", json!(1), "invalid_parameter"),
        ("document_back", json!("!"), "invalid_document"),
        ("selfie", json!("!"), "invalid_document"),
        ("checks", json!([]), "invalid_parameter"),
        ("checks", json!("ocr"), "invalid_parameter"),
        ("mode", json!("later"), "invalid_parameter"),
        ("webhook_url", json!("http://example.com/hook"), "invalid_parameter"),
        ("webhook_url", json!("https://127.0.0.1/hook"), "invalid_parameter"),
        ("webhook_url", json!("example.com"), "invalid_parameter"),
        ("metadata", json!("x"), "invalid_parameter"),
    ] {
        let Err(failure) = with(name, value.clone()) else { panic!("{name} {value}") };
        let refused = (failure.status.as_u16(), failure.code, failure.param.as_deref());
        assert_eq!(refused, (400, code, Some(name)), "{value}");
    }
    let Err(failure) = with("checks", json!(["ocr", "astrology"])) else { panic!("no check") };
    assert_eq!(failure.param.as_deref(), Some("checks[1]"));
}

#[test]
fn without_checks_all_possible_ones_are_made() {
    use IdentityCheck::{FaceMatch, Fraud, Liveness, Ocr};
    assert_eq!(with("mode", json!("sync")).ok().unwrap().checks, [Ocr, Fraud]);
    assert_eq!(with("selfie", json!("Zm9v")).ok().unwrap().checks, [Ocr, FaceMatch, Liveness, Fraud]);
    assert_eq!(with("checks", json!(["liveness"])).ok().unwrap().checks, [Liveness]);
}

#[test]
fn a_page_has_20_entries_by_default() {
    let read = |query: &str| Page::read(query).map(|page| (page.limit, page.starting_after));
    let id = ids::new("ver");
    assert_eq!(read("").unwrap(), (20, None));
    assert_eq!(read("limit=1&other=x").unwrap(), (1, None));
    assert_eq!(read(&format!("limit=100&starting_after={id}")).unwrap(), (100, Some(id)));
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("starting_after=", "starting_after"),
        ("starting_after=ver_1", "starting_after"),
    ] {
        assert_eq!(read(query).unwrap_err().param.as_deref(), Some(param), "{query}");
    }
}
