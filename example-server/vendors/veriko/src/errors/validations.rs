//! Errors of validations and of their retries that do not belong to a field.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::Failure;

impl Failure {
    /// The id in the path is not a UUID.
    pub fn invalid_uuid() -> Self {
        Self::conflict("invalid_uuid", "The id in the path is not a UUID.", "El id de la ruta no es un UUID.")
    }

    /// The validation has no CEP.
    pub fn cep_not_available() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "cep_not_available",
            "There is no CEP for this validation.",
            "El CEP no está disponible para esta validación.",
        )
    }

    /// The requested format of the CEP does not exist.
    pub fn invalid_export_format() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_export_format",
            "format must be xml or pdf.",
            "format es xml o pdf.",
        )
    }

    /// There is no active cycle to cancel.
    pub fn retry_not_active() -> Self {
        Self::conflict(
            "retry_not_active",
            "This validation has no active retry cycle.",
            "Esta validación no tiene un ciclo de reintentos activo.",
        )
    }

    /// The validation's status is not one that is retried.
    pub fn retry_not_applicable() -> Self {
        Self::conflict(
            "retry_not_applicable",
            "A validation can be retried while its status is not_found, cep_unavailable or error.",
            "Una validación se puede reintentar mientras su estado es not_found, cep_unavailable o error.",
        )
    }

    /// A retry has already found the payment.
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
                "A validation is retried for at most {max_age_seconds} s after its creation; this one is too old."
            ),
            format!(
                "Una validación se reintenta hasta {max_age_seconds} s después de hecha, y esta ya es muy antigua."
            ),
        )
    }

    /// The account has reached its plan's limit of pending retry cycles.
    pub fn retry_pending_cap_exceeded() -> Self {
        Self::conflict(
            "retry_pending_cap_exceeded",
            "The account has as many pending retries as its plan allows.",
            "La cuenta tiene tantos reintentos pendientes como permite su plan.",
        )
    }

    /// The cycle was reactivated as often as the plan's `max_reactivations` allows.
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

    /// The plan's validations of this month are used up. The next ones are available after `wait`.
    pub fn quota_exceeded(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "quota_exceeded",
            "The validations of the plan are used up for this month.",
            "Las validaciones del plan de este mes se agotaron.",
        )
        .retry_after(wait)
    }

    /// Banxico accepts no more queries for now. It is not a 4xx, because the caller did not cause
    /// it and it must not be replayed.
    pub fn banxico_rate_limit_exhausted() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "banxico_rate_limit_exhausted",
            "Banxico is not available at the moment. Try again in a few minutes.",
            "Banxico no está disponible por el momento. Vuelve a intentarlo en unos minutos.",
        )
    }

    /// Creates a 422 that concerns the request as a whole.
    fn conflict(
        code: &'static str,
        english: impl Into<Cow<'static, str>>,
        spanish: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, english, spanish)
    }
}
