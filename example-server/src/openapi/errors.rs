//! Answers that say what is wrong.

use serde_json::{Map, Value, json};

use crate::veriko;

/// The answer with this status: which codes it can have, and an example of each.
pub(super) fn response(status: u16, codes: &[String]) -> Value {
    let described: Vec<_> = codes.iter().map(|code| format!("- `{code}`: {}", meaning(code))).collect();
    let examples: Map<_, _> =
        codes.iter().map(|code| (code.clone(), json!({ "value": example(status, code) }))).collect();
    json!({
        "description": described.join("\n"),
        "content": { "application/json": {
            "schema": { "allOf": [
                { "$ref": "#/components/schemas/ErrorDocument" },
                { "properties": { "errors": { "items": { "properties": {
                    "status": { "const": status.to_string() },
                    "code": { "enum": codes },
                }}}}},
            ]},
            "examples": examples,
        }},
    })
}

fn example(status: u16, code: &str) -> Value {
    let mut meta = veriko::meta_example();
    if matches!(status, 409 | 429) {
        meta["retry_after"] = json!(1);
    }
    json!({ "errors": [{ "status": status.to_string(), "code": code, "detail": meaning(code) }], "meta": meta })
}

fn meaning(code: &str) -> &'static str {
    veriko::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
}
