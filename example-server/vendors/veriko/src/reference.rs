//! The parts of the `OpenAPI` document that are not derived from the routes.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};

use super::envelope::{meta_example, shared_schemas};
use super::errors::CODES;
use super::user::Veriko;
use platform::openapi::{Body, Documented, Failures, Header, Implied, On};

impl Documented for Veriko {
    const TITLE: &'static str = "Veriko";
    const PREFIX: &'static str = "/v1";
    const INTRODUCTION: &'static str = include_str!("introduction.md");
    const TAGS: &'static [(&'static str, &'static str)] = &[
        ("Validations", "Verification of SPEI payments by their CEPs, with automatic retries."),
        ("Users", "The account and its default settings for validations."),
        ("Webhooks", "Notifications of events, as an alternative to polling."),
        ("Usage", "The plan's limits and how much of them is used."),
        ("Banxico Status", "The availability of Banxico's site."),
        ("Public", "Operations that need no key."),
    ];
    const KEY: (&'static str, &'static str) = (
        "mxcep_<64 hex>",
        "`mxcep_` or `veriko_` and 64 hexadecimal digits. A server started with `--demo` accepts `mxcep_` and 64 times `1`.",
    );
    const CODES: &'static [(&'static str, &'static str)] = CODES;
    const IMPLIED: Implied = Implied {
        by_id: &[(404, &["not_found"]), (422, &["invalid_uuid"])],
        takes_body: &[(400, &["body_empty", "invalid_json"])],
        reads_body: &[
            (400, &["body_unreadable"]),
            (408, &["request_timeout"]),
            (413, &["body_too_large"]),
            (415, &["unsupported_media_type"]),
        ],
        idempotent: &[
            (400, &["invalid_idempotency_key"]),
            (
                409,
                &[
                    "idempotency_key_in_progress",
                    "idempotent_response_unavailable",
                    "idempotent_outcome_unknown",
                ],
            ),
            (422, &["idempotency_key_reused"]),
            (503, &["idempotency_unavailable", "rolled_back", "outcome_unknown"]),
        ],
        // 503: the keys are in the database.
        key: &[(401, &["unauthorized"]), (429, &["rate_limit_exceeded"]), (503, &["service_unavailable"])],
        permission: &[(403, &["forbidden"])],
        any: &[(500, &["internal_error"])],
    };

    fn id() -> Value {
        json!({ "type": "string", "format": "uuid", "example": "018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f" })
    }

    fn idempotency_key() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,255}$" })
    }

    fn parameters() -> Vec<Value> {
        vec![json!({
            "name": "Accept-Language", "in": "header", "required": false,
            "description": "The language of `detail`: `en` (the default) or `es`.",
            "schema": { "type": "string" },
        })]
    }

    fn headers() -> Vec<Header> {
        vec![
            Header {
                name: "X-Request-Id",
                on: On::Every,
                description: "The id of the request; the same as `meta.request_id`.",
                schema: json!({ "type": "string", "pattern": "^[0-9a-f]{12}$" }),
            },
            Header {
                name: "Idempotent-Replayed",
                on: On::Engaged,
                description: "On requests with an `Idempotency-Key`: whether this is the response to an earlier request.",
                schema: json!({ "type": "string", "enum": ["true", "false"] }),
            },
            Header {
                name: "Content-Language",
                on: On::Failure,
                description: "The language of `detail`.",
                schema: json!({ "type": "string", "enum": ["en", "es"] }),
            },
        ]
    }

    fn schemas() -> Vec<(String, RefOr<Schema>)> {
        shared_schemas()
    }

    fn failure(failures: &Failures<'_>) -> Body {
        let Failures { status, codes, may_say_when } = *failures;
        let status = status.to_string();
        let mut more = json!({
            "errors": { "items": { "properties": { "status": { "const": status }, "code": { "enum": codes } } } },
        });
        if may_say_when {
            let description = "When to retry, in seconds; the same as the header `Retry-After`.";
            more["meta"]["properties"]["retry_after"] =
                json!({ "type": "integer", "minimum": 1, "example": 1, "description": description });
        }
        for (name, schema) in codes.iter().filter_map(|code| in_meta(code)) {
            more["meta"]["properties"][name] = schema;
        }
        let schema =
            json!({ "allOf": [{ "$ref": "#/components/schemas/ErrorDocument" }, { "properties": more }] });

        let first = &codes[0];
        let mut meta = meta_example();
        if may_say_when {
            meta["retry_after"] = json!(1);
        }
        if let Some((name, schema)) = in_meta(first) {
            meta[name] = schema["example"].clone();
        }
        let error = json!({ "status": status, "code": first, "detail": Self::meaning(first) });
        Body { schema, example: json!({ "errors": [error], "meta": meta }) }
    }
}

/// Returns the additional `meta` field of a failure with this code.
fn in_meta(code: &str) -> Option<(&'static str, Value)> {
    Some(match code {
        "retry_policy_invalid" => {
            let example = json!([{ "field": "max_retries", "reason": "above_max", "min": 1, "max": 10 }]);
            let items = json!({ "$ref": "#/components/schemas/Violation" });
            ("violations", json!({ "type": "array", "items": items, "example": example }))
        }
        "webhook_limit_reached" => ("limit", json!({ "type": "integer", "minimum": 0, "example": 10 })),
        // Any JSON value: the event is returned as it was sent.
        "webhook_event_invalid" => ("event", json!({ "example": "validation.done" })),
        _ => return None,
    })
}
