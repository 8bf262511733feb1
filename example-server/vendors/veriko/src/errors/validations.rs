//! What can be wrong with asking for a validation or for its retries, beyond the fields.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::Failure;

impl Failure {
    /// The id in the path is no UUID.
    pub fn invalid_uuid() -> Self {
        Self::conflict("invalid_uuid", "The id in the path is not a UUID.", "El id de la ruta no es un UUID.")
    }

    /// There is no CEP of this validation to fetch.
    pub fn cep_not_available() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "cep_not_available",
            "There is no CEP for this validation.",
            "El CEP no está disponible para esta validación.",
        )
    }

    /// A CEP was asked for in a format there is none in.
    pub fn invalid_export_format() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_export_format",
            "format is xml or pdf.",
            "format es xml o pdf.",
        )
    }

    /// There is no cycle to cancel.
    pub fn retry_not_active() -> Self {
        Self::conflict(
            "retry_not_active",
            "This validation has no active retry cycle.",
            "Esta validación no tiene un ciclo de reintentos activo.",
        )
    }

    /// Its status is none that is retried.
    pub fn retry_not_applicable() -> Self {
        Self::conflict(
            "retry_not_applicable",
            "A validation can be retried while its status is not_found, cep_unavailable or error.",
            "Una validación se puede reintentar mientras su estado es not_found, cep_unavailable o error.",
        )
    }

    /// A retry has found the payment.
    pub fn retry_already_resolved() -> Self {
        Self::conflict(
            "retry_already_resolved",
            "The retry cycle of this validation is resolved.",
            "El ciclo de reintentos de esta validación ya se resolvió.",
        )
    }

    /// The validation is older than the plan's `max_age_seconds`, or would be at the next attempt.
    pub fn retry_age_exceeded(max_age_seconds: u64) -> Self {
        Self::conflict(
            "retry_age_exceeded",
            format!(
                "A validation is retried until {max_age_seconds} s after it was made, and this one is too old."
            ),
            format!(
                "Una validación se reintenta hasta {max_age_seconds} s después de hecha, y esta ya es muy antigua."
            ),
        )
    }

    /// The account has as many cycles, or as many attempts of the last day, as its plan allows.
    pub fn retry_pending_cap_exceeded() -> Self {
        Self::conflict(
            "retry_pending_cap_exceeded",
            "The account has as many pending retries as its plan allows.",
            "La cuenta tiene tantos reintentos pendientes como permite su plan.",
        )
    }

    /// The cycle was begun again as often as the plan's `max_reactivations` allows.
    pub fn reactivation_cap_exceeded(max_reactivations: u32) -> Self {
        Self::conflict(
            "reactivation_cap_exceeded",
            format!(
                "The retry cycle of this validation cannot be reactivated more than {max_reactivations} times."
            ),
            format!(
                "El ciclo de reintentos de esta validación no se puede reactivar más de {max_reactivations} veces."
            ),
        )
    }

    /// The plan's validations of this month are spent; there are new ones in `wait`.
    pub fn quota_exceeded(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "quota_exceeded",
            "The validations of the plan are used up for this month.",
            "Las validaciones del plan de este mes se agotaron.",
        )
        .retry_after(wait)
    }

    /// Banxico takes no more queries for now. No 4xx: it is not the caller's doing, and is not to be replayed.
    pub fn banxico_rate_limit_exhausted() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "banxico_rate_limit_exhausted",
            "Banxico is not available at the moment. Try again in a few minutes.",
            "Banxico no está disponible por el momento. Vuelve a intentarlo en unos minutos.",
        )
    }

    /// 422 for what stands against the request as a whole.
    fn conflict(
        code: &'static str,
        english: impl Into<Cow<'static, str>>,
        spanish: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, english, spanish)
    }
}
