//! Schemas of types that are serialised or parsed by hand, or that belong to another crate. Only
//! the `OpenAPI` document uses them. Tests compare them with what is really read and written.

#![expect(dead_code, reason = "the fields are read by the derive alone")]

use utoipa::ToSchema;

use super::model::Outcome;

/// Which outcomes are retried, how often and at which interval.
#[derive(ToSchema)]
pub(super) struct RetryPolicy {
    enabled: bool,
    /// 0 if not enabled.
    #[schema(example = 3)]
    max_retries: u32,
    /// From the end of one attempt to the start of the next; 0 if not enabled.
    #[schema(example = 600)]
    interval_seconds: u32,
    /// The outcomes that are retried.
    outcomes: Vec<Outcome>,
}

/// A complete retry policy. It replaces the saved one; fields that are left out are not merged.
#[derive(ToSchema)]
pub(super) struct RetryPolicyInput {
    /// If false, the other fields are ignored.
    #[schema(example = true)]
    enabled: bool,
    /// From 1 to the plan's `max_retries_cap`.
    #[schema(nullable = false, minimum = 1, example = 3)]
    max_retries: Option<u32>,
    /// From the plan's `min_interval_seconds` to its `max_interval_seconds`.
    #[schema(nullable = false, minimum = 1, example = 600)]
    interval_seconds: Option<u32>,
    /// At least one of the plan's `eligible_outcomes`, each at most once.
    #[schema(nullable = false, min_items = 1)]
    outcomes: Option<Vec<Outcome>>,
}

/// The request body that sets a retry policy.
#[derive(ToSchema)]
pub(super) struct RetryPolicyRequest {
    retry_policy: RetryPolicyInput,
}

/// The limits of the account's plan for retry policies.
#[derive(ToSchema)]
pub(super) struct Caps {
    #[schema(example = 10)]
    max_retries_cap: u32,
    #[schema(example = 300)]
    min_interval_seconds: u32,
    #[schema(example = 86400)]
    max_interval_seconds: u32,
    #[schema(example = 604_800)]
    max_age_seconds: u32,
    #[schema(example = 1000)]
    max_pending_per_user: u32,
    #[schema(example = 10000)]
    max_dispatched_per_day_per_user: u32,
    #[schema(example = 3)]
    max_reactivations: u32,
    eligible_outcomes: Vec<Outcome>,
}

/// A violation of the plan's limits by a retry policy.
#[derive(ToSchema)]
pub(super) struct Violation {
    #[schema(example = "max_retries")]
    field: String,
    #[schema(example = "above_max")]
    reason: String,
    /// The minimum.
    #[schema(nullable = false, example = 1)]
    min: Option<u32>,
    /// The maximum.
    #[schema(nullable = false, example = 10)]
    max: Option<u32>,
    /// The allowed values.
    #[schema(nullable = false, example = json!(["not_found"]))]
    allowed: Option<Vec<String>>,
}

/// A receipt to validate. `image` or `image_url` is required; if both are sent, `image_url` is
/// used.
#[derive(ToSchema)]
pub(super) struct PictureRequest {
    /// A JPEG, PNG or WebP of at most 12 MB, in base64. A prefix such as `data:image/png;base64,`
    /// is allowed.
    #[schema(
        example = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )]
    image: Option<String>,
    /// The https URL of the picture, at a public address.
    #[schema(max_length = 2048, example = "https://storage.example.com/receipts/receipt.png")]
    image_url: Option<String>,
    /// Replaces the account on the receipt.
    #[schema(example = "012180004412345678")]
    cuenta_beneficiaria: Option<String>,
    /// The SPEI code of the sending bank. It replaces the bank on the receipt.
    #[schema(example = "40002")]
    banco_emisor: Option<String>,
    /// The SPEI code of the receiving bank. It replaces the bank on the receipt.
    #[schema(example = "40012")]
    banco_receptor: Option<String>,
    /// Whether the picture is kept and can be downloaded from `GET /v1/validations/{id}/image`.
    #[schema(default = true, example = true)]
    retain_image: Option<bool>,
    /// The policy for this validation only, instead of the account's.
    retry_policy: Option<RetryPolicyInput>,
    /// The client's own reference, without control characters and emoji.
    #[schema(min_length = 1, max_length = 64, example = "orden-4812")]
    client_ref: Option<String>,
}

/// A payment to validate. `null` is treated as a missing field.
#[derive(ToSchema)]
pub(super) struct PaymentRequest {
    /// The day on which the payment was sent.
    #[schema(format = Date, example = "2025-03-15")]
    fecha: String,
    /// The amount in pesos, with at most two decimals.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 999_999_999_999.99, example = 15000.5)]
    monto: f64,
    /// *Clave de rastreo* (tracking key), without `<`, `>` and `\`. This or the reference is
    /// required; if both are sent, this is used.
    #[schema(nullable = false, min_length = 1, max_length = 30, example = "MXBA20250315001234")]
    clave_rastreo: Option<String>,
    /// *Referencia numérica* (numeric reference).
    #[schema(nullable = false, pattern = "^[0-9 ]{1,14}$", example = "1234567")]
    referencia_numerica: Option<String>,
    /// The name or the SPEI code of the sending bank.
    #[schema(nullable = false, max_length = 255, example = "BANAMEX")]
    emisor: Option<String>,
    /// The name or the SPEI code of the receiving bank; by default, the bank of the account.
    #[schema(nullable = false, max_length = 255, example = "BBVA MEXICO")]
    receptor: Option<String>,
    /// A CLABE of 18 digits, a card of 16 or a mobile number of 10. Spaces and hyphens are ignored.
    #[schema(nullable = false, example = "012180004412345678")]
    cuenta_beneficiaria: Option<String>,
    /// 1 if the payment went to the receiving bank itself, as a loan repayment does; otherwise 0.
    #[schema(maximum = 1, example = 0)]
    receptor_participante: Option<u8>,
    /// The policy for this validation only, instead of the account's.
    #[schema(nullable = false)]
    retry_policy: Option<RetryPolicyInput>,
    /// The client's own reference, without control characters and emoji.
    #[schema(nullable = false, min_length = 1, max_length = 64, example = "orden-4812")]
    client_ref: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use account_retry_policy::{Defaults, Plan};
    use serde::Serialize;
    use serde_json::{Map, Value, json};
    use utoipa::PartialSchema;

    use super::super::model;
    use super::super::payment;
    use super::*;

    fn caps() -> model::Caps {
        let outcomes = [Outcome::NotFound, Outcome::CepUnavailable, Outcome::Error];
        model::Caps::merge(&Defaults::new(outcomes), &Plan::new()).unwrap()
    }

    fn described<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        names(&schema["properties"])
    }

    fn names(shown: &impl Serialize) -> BTreeSet<String> {
        let shown = serde_json::to_value(shown).unwrap();
        shown.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_written_fields_are_the_described_ones() {
        assert_eq!(names(&caps()), described::<Caps>());
        let policy = account_retry_policy::RetryPolicyInput::new().enabled(true).max_retries(3);
        let policy = policy.interval_seconds(600).outcomes(["error"]);
        assert_eq!(names(&policy.clone().parse(&caps()).unwrap()), described::<RetryPolicy>());
        assert_eq!(described::<RetryPolicy>(), described::<RetryPolicyInput>());

        let violations = policy.max_retries(9).outcomes(["valid"]).parse(&caps()).unwrap_err();
        let shown: BTreeSet<_> = violations.iter().flat_map(names).collect();
        assert_eq!(shown, described::<Violation>());
    }

    #[test]
    fn every_described_field_is_read() {
        let invalid_values: Map<_, _> =
            described::<PaymentRequest>().into_iter().map(|name| (name, json!([]))).collect();
        let body = Value::from(invalid_values).to_string();
        let failure = payment::PaymentRequest::parse(body.as_bytes(), &caps()).unwrap_err();
        let rejected: BTreeSet<_> = failure
            .errors
            .iter()
            .filter_map(|error| error.pointer.as_deref()?.strip_prefix("/data/attributes/"))
            .map(str::to_owned)
            .collect();
        assert_eq!(rejected, described::<PaymentRequest>());
    }
}
