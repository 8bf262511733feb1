use super::*;
use crate::engines::identity::IdentityCheck;

fn field(json: &str) -> Field<'_> {
    Field { json, param: "here".into() }
}

/// Returns the code of the error, which must be about the field.
fn refused<T: std::fmt::Debug>(read: Result<T, Failure>) -> &'static str {
    let failure = read.unwrap_err();
    assert!(failure.param.as_deref().is_some_and(|param| param.starts_with("here")), "{failure:?}");
    assert!(failure.message.starts_with("here"), "{failure:?}");
    failure.code
}

#[test]
fn a_body_is_an_object() {
    for (body, message) in [
        ("", "The request body is missing"),
        ("  \n", "The request body is missing"),
        ("{", "The request body is not JSON"),
        ("[]", "The request body is not a JSON object"),
        ("\"a\"", "The request body is not a JSON object"),
        ("null", "The request body is not a JSON object"),
    ] {
        let failure = Object::body(body.as_bytes()).unwrap_err();
        assert_eq!((failure.code, failure.message.as_ref()), ("invalid_request", message), "{body}");
    }
}

#[test]
fn a_missing_field_is_named_with_its_path() {
    let body = Object::body(br#"{"a": {"b": null}, "c": 1}"#).unwrap();
    assert_eq!(body.required("d").unwrap_err().param.as_deref(), Some("d"));
    let inner = body.required("a").unwrap().object().unwrap();
    let failure = inner.required("b").unwrap_err();
    assert_eq!((failure.code, failure.param.as_deref()), ("missing_parameter", Some("a.b")));
    let failure = body.required("c").unwrap().object().unwrap_err();
    assert_eq!((failure.code, failure.param.as_deref()), ("invalid_parameter", Some("c")));
}

#[test]
fn texts_are_bounded() {
    assert_eq!(field(r#""ñandú""#).text(5).unwrap(), "ñandú");
    for json in [r#""""#, r#"" ""#, r#""sixsix""#, r#""a\u0000""#, "1", "true", "[]", "{}"] {
        assert_eq!(refused(field(json).text(5)), "invalid_parameter", "{json}");
    }
    assert_eq!(field(r#""\ud800""#).text(5).unwrap_err().code, "invalid_request");
}

#[test]
fn an_array_of_enum_values_is_distinct_and_not_empty() {
    let read = |json: &'static str| field(json).some_of(IdentityCheck::ALL);
    assert_eq!(read(r#"["ocr", "fraud"]"#).unwrap(), [IdentityCheck::Ocr, IdentityCheck::Fraud]);
    for json in ["[]", r#"["ocr","ocr"]"#, r#"["OCR"]"#, "[1]", "[null]", r#""ocr""#, "{}"] {
        assert_eq!(refused(read(json)), "invalid_parameter", "{json}");
    }
    assert_eq!(read(r#"["ocr", "x"]"#).unwrap_err().param.as_deref(), Some("here[1]"));
    assert_eq!(
        refused(field(r#"["ocr","ocr","ocr","ocr","ocr","ocr"]"#).some_of(IdentityCheck::ALL)),
        "invalid_parameter"
    );
}

#[test]
fn numbers_are_parsed_from_their_digits() {
    for (json, parts) in
        [("0.85", 8500), ("0", 0), ("1", 10_000), ("1.0", 10_000), ("0.00004", 0), ("8.5e-1", 8500)]
    {
        assert_eq!(field(json).fraction().unwrap(), parts, "{json}");
    }
    for json in ["-0.1", "1.0001", "1.01", "1e9", "1e28", "1e999", r#""0.5""#, "true"] {
        assert_eq!(refused(field(json).fraction()), "invalid_parameter", "{json}");
    }
    assert_eq!(field("12").integer(1..=480).unwrap(), 12);
    for json in ["0", "481", "-1", "1.0", "1e2", "99999999999", r#""12""#] {
        assert_eq!(refused(field(json).integer(1..=480)), "invalid_parameter", "{json}");
    }
    assert_eq!(refused(field("0").money_above_zero(None)), "invalid_parameter");
    assert_eq!(refused(field(r#""5""#).money(None)), "invalid_parameter");
    assert_eq!(refused(field("1.001").money("MAD".parse().ok())), "invalid_parameter");
}

#[test]
fn dates_exist_and_have_one_notation() {
    assert_eq!(field(r#""2024-02-29""#).date().unwrap().to_string(), "2024-02-29");
    for json in [r#""2025-02-29""#, r#""20250315""#, r#""2025-3-15""#, r#""15-03-2025""#, "20250315"] {
        assert_eq!(refused(field(json).date()), "invalid_parameter", "{json}");
    }
    assert!(field(r#""2025-01-15T10:30:00Z""#).timestamp().is_ok());
    assert_eq!(refused(field(r#""2025-01-15""#).timestamp()), "invalid_parameter");
}

#[test]
fn an_image_is_base64_of_something() {
    assert_eq!(field(r#""Zm9v""#).image().unwrap(), b"foo");
    for json in [r#""""#, r#""Zm9v!""#, r#""Zm9""#, r#""data:image/png;base64,Zm9v""#] {
        assert_eq!(refused(field(json).image()), "invalid_document", "{json}");
    }
    assert_eq!(refused(field("1").image()), "invalid_parameter");
    let of_bytes = |bytes: usize| format!("\"{}\"", BASE64_STANDARD.encode(vec![0; bytes]));
    assert_eq!(field(&of_bytes(IMAGE_BYTES)).image().unwrap().len(), IMAGE_BYTES);
    assert_eq!(refused(field(&of_bytes(IMAGE_BYTES + 1)).image()), "invalid_document");
}

#[test]
fn countries_and_currencies_exist() {
    assert_eq!(refused(field(r#""XX""#).country()), "unsupported_country");
    assert_eq!(refused(field("1").country()), "invalid_parameter");
    assert_eq!(refused(field(r#""XXX""#).currency()), "invalid_parameter");
}

#[test]
fn free_form_data_is_bounded() {
    assert_eq!(field(r#"{"a":{"b":[1,2]}}"#).free_form().unwrap().as_json(), r#"{"a":{"b":[1,2]}}"#);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(FreeForm::MAX_BYTES));
    let members: Vec<_> = (0..=FreeForm::MAX_MEMBERS).map(|member| format!(r#""{member}":1"#)).collect();
    let many = format!("{{{}}}", members.join(","));
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    for json in [&long, &many, &deep, "[]", "1", r#"{"a":"\u0000"}"#] {
        assert_eq!(refused(field(json).free_form()), "invalid_parameter", "{}", json.len());
    }
}
