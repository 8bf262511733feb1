//! The parts of the `OpenAPI` document that do not come from the routes.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::envelope::{DOCS, ErrorDocument};
use super::user::Mintfax;
use platform::openapi::{Body, Documented, Failures, Header, Implied, On};

impl Documented for Mintfax {
    const TITLE: &'static str = "mintfax";
    const PREFIX: &'static str = "/v1";
    const INTRODUCTION: &'static str = include_str!("introduction.md");
    const TAGS: &'static [(&'static str, &'static str)] = &[
        ("Faxes", "Sending faxes, and their status."),
        ("Account", "The balance and the default settings."),
    ];
    const KEY: (&'static str, &'static str) = (
        "mfx_test_… or mfx_live_…",
        "`mfx_test_` or `mfx_live_`, and 8 to 64 letters and digits. A server started with `--demo` \
         has the key `mfx_test_abc123def456`.",
    );
    const CODES: &'static [(&'static str, &'static str)] = &[
        ("bad_request", "The request cannot be understood."),
        ("unauthenticated", "The API key is missing or is not valid."),
        ("insufficient_balance", "The balance is too low for this fax."),
        ("not_found", "There is no such resource."),
        ("method_not_allowed", "The resource does not support the request's method."),
        ("request_timeout", "The request body did not arrive in time."),
        ("file_too_large", "The request is too large. A file can have at most 10 MB."),
        ("unsupported_media_type", "The encoding or the character set of the request body is not supported."),
        ("validation_failed", "A field or the Idempotency-Key is not valid: `context.errors` says which."),
        ("idempotency_key_in_progress", "A request with this Idempotency-Key is still being processed."),
        (
            "idempotent_response_unavailable",
            "The request was processed, but its response cannot be replayed.",
        ),
        (
            "idempotent_outcome_unknown",
            "A request with this Idempotency-Key was started; its outcome is unknown.",
        ),
        ("rate_limit_exceeded", "Too many requests."),
        ("too_many_documents", "The documents of the faxes that have not ended are too large together."),
        ("internal_error", "Something went wrong on our side."),
        ("service_unavailable", "The service is not available at the moment."),
        ("carrier_unavailable", "No carrier is available at the moment; nothing was sent."),
    ];
    const IMPLIED: Implied = Implied {
        by_id: &[(404, &["not_found"])],
        takes_body: &[],
        reads_body: &[
            (400, &["bad_request"]),
            (408, &["request_timeout"]),
            (413, &["file_too_large"]),
            (415, &["unsupported_media_type"]),
        ],
        idempotent: &[
            (
                409,
                &[
                    "idempotency_key_in_progress",
                    "idempotent_response_unavailable",
                    "idempotent_outcome_unknown",
                ],
            ),
            (422, &["validation_failed"]),
        ],
        // 503: the database with the keys may be unavailable.
        key: &[(401, &["unauthenticated"]), (429, &["rate_limit_exceeded"]), (503, &["service_unavailable"])],
        permission: &[],
        any: &[(500, &["internal_error"])],
    };

    fn id() -> Value {
        json!({ "type": "string", "example": "fax_01KB2T7Q3NF8S9W4X5Y6Z7A8BC" })
    }

    fn idempotency_key() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 255 })
    }

    fn headers() -> Vec<Header> {
        vec![
            Header {
                name: "X-Request-Id",
                on: On::Every,
                description: "The id of this request; on a replay, the id of the original request.",
                schema: json!({ "type": "string", "pattern": "^req_[0-9A-HJKMNP-TV-Z]{26}$" }),
            },
            Header {
                name: "X-Idempotency-Key",
                on: On::Idempotent,
                description: "The request's `Idempotency-Key`, if it has one.",
                schema: json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
            },
            Header {
                name: "Idempotency-Replayed",
                on: On::Engaged,
                description: "Present only if this is the response to an earlier request with the same `Idempotency-Key`.",
                schema: json!({ "type": "string", "const": "true" }),
            },
        ]
    }

    fn schemas() -> Vec<(String, RefOr<Schema>)> {
        vec![(ErrorDocument::name().into_owned(), ErrorDocument::schema())]
    }

    fn failure(failures: &Failures<'_>) -> Body {
        let codes = failures.codes;
        let mut actions: Vec<_> = codes.iter().map(|code| action(code)).collect();
        actions.sort_unstable();
        actions.dedup();
        let mut properties = json!({ "error": { "enum": codes }, "action": { "enum": actions } });
        let first = &codes[0];
        let mut example = json!({
            "error": first, "message": Self::meaning(first), "action": action(first),
            "docs": format!("{DOCS}{}", first.replace('_', "-")), "request_id": "req_01KB2T7Q3NF8S9W4X5Y6Z7A8BC",
        });
        if first == "validation_failed" {
            let messages = json!({ "type": "array", "minItems": 1, "items": { "type": "string", "example": "The to field is required." } });
            let context = json!({
                "type": "object", "required": ["errors"],
                "properties": { "errors": { "type": "object", "additionalProperties": messages } },
            });
            properties["context"] = context;
            example["message"] = json!("The to field is required.");
            example["context"] = json!({ "errors": { "to": ["The to field is required."] } });
        }
        let schema = json!({ "allOf": [
            { "$ref": "#/components/schemas/ErrorDocument" }, { "properties": properties },
        ]});
        Body { schema, example }
    }
}

/// Returns what a program can do about an error with this code.
fn action(code: &str) -> &'static str {
    match code {
        "unauthenticated" => "check_api_key",
        "insufficient_balance" => "top_up_balance",
        "request_timeout" | "internal_error" => "retry",
        "idempotency_key_in_progress"
        | "rate_limit_exceeded"
        | "service_unavailable"
        | "carrier_unavailable" => "wait_and_retry",
        "idempotent_response_unavailable" | "idempotent_outcome_unknown" => "contact_support",
        _ => "fix_request",
    }
}
