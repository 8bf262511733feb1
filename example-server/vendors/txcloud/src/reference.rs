//! The parts of the `OpenAPI` document that do not come from the routes.

use http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::envelope::ErrorEnvelope;
use super::errors::{CODES, ErrorType, Failure};
use super::user::Txcloud;
use platform::openapi::{Body, Documented, Failures, Header, Implied, On};

impl Documented for Txcloud {
    const TITLE: &'static str = "TXCloud";
    const PREFIX: &'static str = "";
    const SERVERS: &'static [(&'static str, &'static str)] =
        &[("/", "This server"), ("/v1", "The same server, at its other path")];
    const INTRODUCTION: &'static str = include_str!("introduction.md");
    const TAGS: &'static [(&'static str, &'static str)] = &[
        ("Identity", "Verification of identity documents."),
        ("Transactions", "Risk scoring of transactions before they are made."),
        ("Lending", "Assessment of loan applications."),
        ("KYB", "Verification of businesses."),
        ("Watchlist", "Screening against lists of sanctions, politically exposed persons and adverse media."),
    ];
    const KEY: (&'static str, &'static str) = (
        "txc_test_… or txc_live_…",
        "`txc_test_` or `txc_live_`, and 12 to 64 letters and digits. A server started with `--demo` \
         has the key `txc_test_abc123def456`.",
    );
    const CODES: &'static [(&'static str, &'static str)] = CODES;
    const IMPLIED: Implied = Implied {
        by_id: &[(404, &["not_found"])],
        takes_body: &[(400, &["invalid_request"])],
        reads_body: &[
            (400, &["invalid_request"]),
            (408, &["request_timeout"]),
            (413, &["body_too_large"]),
            (415, &["unsupported_media_type"]),
        ],
        idempotent: &[
            (400, &["invalid_idempotency_key"]),
            (
                409,
                &[
                    "idempotency_key_conflict",
                    "idempotency_key_in_progress",
                    "idempotent_response_unavailable",
                    "idempotent_outcome_unknown",
                ],
            ),
            (503, &["idempotency_unavailable", "rolled_back", "outcome_unknown"]),
        ],
        // 503: the database with the keys may be unavailable.
        key: &[(401, &["unauthorized"]), (429, &["rate_limit_exceeded"]), (503, &["service_unavailable"])],
        permission: &[(403, &["forbidden"])],
        any: &[(500, &["internal_error"])],
    };

    fn id() -> Value {
        json!({ "type": "string", "example": "ver_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a" })
    }

    fn idempotency_key() -> Value {
        json!({
            "type": "string", "pattern": "^[A-Za-z0-9_:-]{10,255}$",
            "description": "Colons are refused if the server is configured with `strict_keys`.",
        })
    }

    fn headers() -> Vec<Header> {
        vec![
            Header {
                name: "X-Request-Id",
                on: On::Every,
                description: "The id of this request; on a replay, the id of the original request.",
                schema: json!({ "type": "string", "pattern": "^req_[0-9a-f]{12}$" }),
            },
            Header {
                name: "Idempotent-Replayed",
                on: On::Engaged,
                description: "Present only if this is the response to an earlier request with the same `Idempotency-Key`.",
                schema: json!({ "type": "string", "const": "true" }),
            },
        ]
    }

    fn schemas() -> Vec<(String, RefOr<Schema>)> {
        let mut schemas = vec![(ErrorEnvelope::name().into_owned(), ErrorEnvelope::schema())];
        ErrorEnvelope::schemas(&mut schemas);
        schemas
    }

    fn failure(failures: &Failures<'_>) -> Body {
        let Failures { status, codes, may_say_when } = *failures;
        let kind = kind(status);
        let properties = json!({ "code": { "enum": codes }, "type": { "const": kind } });
        let schema = json!({ "allOf": [
            { "$ref": "#/components/schemas/ErrorEnvelope" },
            { "properties": { "error": { "properties": properties } } },
        ]});

        let message = Self::meaning(&codes[0]).trim_end_matches('.');
        let mut error =
            json!({ "code": codes[0], "message": message, "type": kind, "request_id": "req_a1b2c3d4e5f6" });
        if may_say_when {
            error["retry_after"] = json!(1);
        }
        Body { schema, example: json!({ "error": error }) }
    }
}

/// Returns the type of all errors with this status.
fn kind(status: u16) -> &'static str {
    let kind = match StatusCode::from_u16(status) {
        Ok(StatusCode::CONFLICT) => ErrorType::Idempotency,
        Ok(status) => Failure::of_status(status).kind,
        Err(_) => ErrorType::Api,
    };
    kind.as_str()
}
