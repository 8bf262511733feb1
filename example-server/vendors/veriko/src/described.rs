//! Schemas of what is read or written by hand, or by another crate. Nothing but the `OpenAPI` document knows them; tests
//! hold them against what is really read and written.

#![expect(dead_code, reason = "the fields are read by the derive alone")]

use utoipa::ToSchema;

use super::model::Outcome;

/// What is retried, how often and how far apart.
#[derive(ToSchema)]
pub(super) struct RetryPolicy {
    enabled: bool,
    /// 0 if not enabled.
    #[schema(example = 3)]
    max_retries: u32,
    /// From the end of an attempt to the next; 0 if not enabled.
    #[schema(example = 600)]
    interval_seconds: u32,
    /// What is retried.
    outcomes: Vec<Outcome>,
}

/// A retry policy, whole: what is left out is not kept as it was.
#[derive(ToSchema)]
pub(super) struct RetryPolicyInput {
    /// Without retries, nothing else of it counts.
    #[schema(example = true)]
    enabled: bool,
    /// From 1 to the plan's `max_retries_cap`.
    #[schema(nullable = false, minimum = 1, example = 3)]
    max_retries: Option<u32>,
    /// From the plan's `min_interval_seconds` to its `max_interval_seconds`.
    #[schema(nullable = false, minimum = 1, example = 600)]
    interval_seconds: Option<u32>,
    /// At least one, each once, of the plan's `eligible_outcomes`.
    #[schema(nullable = false, min_items = 1)]
    outcomes: Option<Vec<Outcome>>,
}

/// The body of what sets a retry policy.
#[derive(ToSchema)]
pub(super) struct RetryPolicyRequest {
    retry_policy: RetryPolicyInput,
}

/// What the account's plan lets a retry policy say.
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

/// One thing that a retry policy may not say.
#[derive(ToSchema)]
pub(super) struct Violation {
    #[schema(example = "max_retries")]
    field: String,
    #[schema(example = "above_max")]
    reason: String,
    /// The least that is allowed.
    #[schema(nullable = false, example = 1)]
    min: Option<u32>,
    /// The most that is allowed.
    #[schema(nullable = false, example = 10)]
    max: Option<u32>,
    /// What is allowed.
    #[schema(nullable = false, example = json!(["not_found"]))]
    allowed: Option<Vec<String>>,
}

/// A receipt to validate. `image` or `image_url` is needed; of both, the latter counts.
#[derive(ToSchema)]
pub(super) struct PictureRequest {
    /// A JPEG, PNG or WebP in base64, 12 MB at the most before that; `data:image/png;base64,` before it is let pass.
    #[schema(
        example = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )]
    image: Option<String>,
    /// Where the same is to be fetched, by https from a public address.
    #[schema(max_length = 2048, example = "https://storage.example.com/receipts/receipt.png")]
    image_url: Option<String>,
    /// In place of the account on the receipt.
    #[schema(example = "012180004412345678")]
    cuenta_beneficiaria: Option<String>,
    /// The SPEI code of the sending bank, in place of the one on the receipt.
    #[schema(example = "40002")]
    banco_emisor: Option<String>,
    /// The SPEI code of the receiving bank, in place of the one on the receipt.
    #[schema(example = "40012")]
    banco_receptor: Option<String>,
    /// Whether the picture is kept, to be had from `GET /v1/validations/{id}/image`.
    #[schema(default = true, example = true)]
    retain_image: Option<bool>,
    /// For this validation alone, in the place of the account's.
    retry_policy: Option<RetryPolicyInput>,
    /// Your own name for it: no control characters, no emoji.
    #[schema(min_length = 1, max_length = 64, example = "orden-4812")]
    client_ref: Option<String>,
}

/// A payment to validate. `null` is a field that was not sent.
#[derive(ToSchema)]
pub(super) struct PaymentRequest {
    /// The day it was sent.
    #[schema(format = Date, example = "2025-03-15")]
    fecha: String,
    /// How much, in pesos: at most two decimals.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 999_999_999_999.99, example = 15000.5)]
    monto: f64,
    /// *Clave de rastreo*, without `<`, `>` and `\`. It or the reference is needed; it counts if both are there.
    #[schema(nullable = false, min_length = 1, max_length = 30, example = "MXBA20250315001234")]
    clave_rastreo: Option<String>,
    /// *Referencia numérica*.
    #[schema(nullable = false, pattern = "^[0-9 ]{1,14}$", example = "1234567")]
    referencia_numerica: Option<String>,
    /// The sending bank: its name, or its SPEI code.
    #[schema(nullable = false, max_length = 255, example = "BANAMEX")]
    emisor: Option<String>,
    /// The receiving bank; where it is not there, the account's counts.
    #[schema(nullable = false, max_length = 255, example = "BBVA MEXICO")]
    receptor: Option<String>,
    /// A CLABE of 18 digits, a card of 16 or a mobile number of 10; spaces and hyphens in it mean nothing.
    #[schema(nullable = false, example = "012180004412345678")]
    cuenta_beneficiaria: Option<String>,
    /// 1 if the payment went to the receiving bank itself, as what pays back a credit does; else 0.
    #[schema(maximum = 1, example = 0)]
    receptor_participante: Option<u8>,
    /// For this validation alone, in the place of the account's.
    #[schema(nullable = false)]
    retry_policy: Option<RetryPolicyInput>,
    /// Your own name for it: no control characters, no emoji.
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
    fn what_is_written_has_the_fields_that_are_described() {
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
    fn every_field_that_is_described_is_read() {
        let of_no_use: Map<_, _> =
            described::<PaymentRequest>().into_iter().map(|name| (name, json!([]))).collect();
        let body = Value::from(of_no_use).to_string();
        let refused = payment::PaymentRequest::parse(body.as_bytes(), &caps()).unwrap_err();
        let at_fault: BTreeSet<_> = refused
            .faults
            .iter()
            .filter_map(|error| error.pointer.as_deref()?.strip_prefix("/data/attributes/"))
            .map(str::to_owned)
            .collect();
        assert_eq!(at_fault, described::<PaymentRequest>());
    }
}
