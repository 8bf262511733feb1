//! Errors of webhook endpoints.

use http::StatusCode;

use super::{Failure, FieldError};
use platform::outbound::{OutboundError, UrlError};

impl Failure {
    /// The update has no field to change.
    pub(crate) fn no_valid_fields() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_valid_fields",
            "There is nothing to change: send url, events, description or status.",
            "No hay nada que cambiar: indica url, events, description o status.",
        )
    }

    /// The account has the maximum number of endpoints.
    pub(crate) fn webhook_limit_reached(limit: u32) -> Self {
        let failure = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "webhook_limit_reached",
            format!("An account has at most {limit} endpoints."),
            format!("Una cuenta tiene como máximo {limit} endpoints."),
        );
        Self { limit: Some(limit), ..failure }
    }

    /// The URL leads to an address that must not be called.
    pub(crate) fn url_ssrf_blocked() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "url_ssrf_blocked",
            "The URL leads to an address that is not public.",
            "La URL lleva a una dirección que no es pública.",
        )
    }

    /// The URL's host does not resolve.
    pub(crate) fn url_dns_failed() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "url_dns_failed",
            "The URL's host name does not resolve.",
            "El nombre del servidor de la URL no se resuelve.",
        )
    }

    /// Converts the error of an address check.
    pub(crate) fn of_address(error: OutboundError) -> Self {
        match error {
            OutboundError::Url(UrlError::Blocked) => Self::url_ssrf_blocked(),
            _ => Self::url_dns_failed(),
        }
    }
}

impl FieldError {
    pub(crate) fn webhook_url_required() -> Self {
        Self::of("url", "webhook_url_required", "url is required.", "El campo url es obligatorio.")
    }

    pub(crate) fn webhook_url_empty() -> Self {
        Self::of("url", "webhook_url_empty", "url must not be empty.", "url no puede estar vacío.")
    }

    pub(crate) fn webhook_url_invalid_type() -> Self {
        Self::of("url", "webhook_url_invalid_type", "url must be text.", "url debe ser texto.")
    }

    pub(crate) fn webhook_url_too_long() -> Self {
        Self::of(
            "url",
            "webhook_url_too_long",
            "url must have at most 2048 characters.",
            "url debe tener 2048 caracteres como máximo.",
        )
    }

    pub(crate) fn webhook_url_invalid_format() -> Self {
        Self::of(
            "url",
            "webhook_url_invalid_format",
            "url must be a URL with a host and without a user.",
            "url debe ser una URL con servidor y sin usuario.",
        )
    }

    pub(crate) fn webhook_url_not_https() -> Self {
        Self::of("url", "webhook_url_not_https", "url must begin with https.", "url debe empezar con https.")
    }

    pub(crate) fn webhook_events_required() -> Self {
        Self::of(
            "events",
            "webhook_events_required",
            "events must be a list of at least one event.",
            "events debe ser una lista de al menos un evento.",
        )
    }

    pub(crate) fn webhook_events_too_many() -> Self {
        Self::of(
            "events",
            "webhook_events_too_many",
            "events must have at most 10 events.",
            "events debe tener 10 eventos como máximo.",
        )
    }

    /// The event is named in `meta.event`.
    pub(crate) fn webhook_event_invalid() -> Self {
        Self::of(
            "events",
            "webhook_event_invalid",
            "There is no such event; meta.event has its name.",
            "No existe ese evento; se nombra en meta.event.",
        )
    }

    pub(crate) fn webhook_description_invalid_type() -> Self {
        Self::of(
            "description",
            "webhook_description_invalid_type",
            "description must be text.",
            "description debe ser texto.",
        )
    }

    pub(crate) fn webhook_description_too_long() -> Self {
        Self::of(
            "description",
            "webhook_description_too_long",
            "description must have at most 255 characters.",
            "description debe tener 255 caracteres como máximo.",
        )
    }

    pub(crate) fn webhook_status_invalid() -> Self {
        Self::of(
            "status",
            "webhook_status_invalid",
            "status must be active or disabled.",
            "status debe ser active o disabled.",
        )
    }
}
