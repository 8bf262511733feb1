//! Answers that say what is wrong.

use serde_json::{Value, json};

use crate::veriko;

/// The answer with this status: which codes it can have, and an example of the first.
pub(super) fn response(status: u16, codes: &[String]) -> Value {
    let described: Vec<_> = codes.iter().map(|code| format!("- `{code}`: {}", meaning(code))).collect();
    let mut more = json!({
        "errors": { "items": { "properties": {
            "status": { "const": status.to_string() },
            "code": { "enum": codes },
        }}},
    });
    if may_say_when(status) {
        let description = "When to come back, in seconds; the same as the header `Retry-After`.";
        more["meta"]["properties"]["retry_after"] =
            json!({ "type": "integer", "minimum": 1, "example": 1, "description": description });
    }
    if codes.iter().any(|code| code == POLICY_INVALID) {
        more["meta"]["properties"]["violations"] =
            json!({ "type": "array", "items": { "$ref": "#/components/schemas/Violation" } });
    }
    json!({
        "description": described.join("\n"),
        "content": { "application/json": {
            "schema": { "allOf": [
                { "$ref": "#/components/schemas/ErrorDocument" },
                { "properties": more },
            ]},
            "example": codes.first().map(|code| example(status, code)),
        }},
    })
}

fn example(status: u16, code: &str) -> Value {
    let mut meta = veriko::meta_example();
    if may_say_when(status) {
        meta["retry_after"] = json!(1);
    }
    if code == POLICY_INVALID {
        meta["violations"] = json!([{ "field": "max_retries", "reason": "above_max", "min": 1, "max": 10 }]);
    }
    json!({ "errors": [{ "status": status.to_string(), "code": code, "detail": meaning(code) }], "meta": meta })
}

/// Whether an answer with this status can say when to come back.
pub(super) fn may_say_when(status: u16) -> bool {
    matches!(status, 409 | 429 | 503)
}

const POLICY_INVALID: &str = "retry_policy_invalid";

fn meaning(code: &str) -> &'static str {
    veriko::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
}
