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
    for (name, schema) in codes.iter().filter_map(|code| in_meta(code)) {
        more["meta"]["properties"][name] = schema;
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
    if let Some((name, schema)) = in_meta(code) {
        meta[name] = schema["example"].clone();
    }
    json!({ "errors": [{ "status": status.to_string(), "code": code, "detail": meaning(code) }], "meta": meta })
}

/// Whether an answer with this status can say when to come back.
pub(super) fn may_say_when(status: u16) -> bool {
    matches!(status, 409 | 429 | 503)
}

/// What a failure with this code says in its `meta`, beside the usual.
fn in_meta(code: &str) -> Option<(&'static str, Value)> {
    Some(match code {
        "retry_policy_invalid" => {
            let example = json!([{ "field": "max_retries", "reason": "above_max", "min": 1, "max": 10 }]);
            let items = json!({ "$ref": "#/components/schemas/Violation" });
            ("violations", json!({ "type": "array", "items": items, "example": example }))
        }
        "webhook_limit_reached" => ("limit", json!({ "type": "integer", "minimum": 0, "example": 10 })),
        // As it was sent, whatever it is.
        "webhook_event_invalid" => ("event", json!({ "example": "validation.done" })),
        _ => return None,
    })
}

fn meaning(code: &str) -> &'static str {
    veriko::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
}
