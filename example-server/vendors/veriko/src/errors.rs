//! The failures of this API: statuses, codes and descriptions in both languages.

mod codes;
mod field;
mod pictures;
mod validations;
mod webhooks;

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use account_retry_policy::Violations;
use axum::response::Response;
use http::{StatusCode, header};
use idempotency_layer::CoCommitError;
use retry_scheduler::SchedulerError;
use serde_json::Value;

use platform::bodies::BodyCapacityExceeded;
use platform::clock;
use platform::encryption::SealError;
use platform::envelope::unavailable_after;
use platform::json::JsonError;
use platform::language::Language;
use platform::rate_limit::TooManyKeys;
use platform::server::is_body_timeout;
use platform::webhooks::{AnnounceError, SendError};

pub(crate) use codes::CODES;
pub use field::FieldForm;

/// A failed request, before its envelope and language are applied.
#[derive(Debug)]
pub struct Failure {
    pub(crate) status: StatusCode,
    /// The errors; at least one.
    pub(crate) errors: Vec<FieldError>,
    /// The errors in machine-readable form, if a policy is out of range.
    pub(crate) violations: Option<Violations>,
    pub(crate) retry_after_seconds: Option<u64>,
    /// The limit that was reached, if the failure reports one.
    pub(crate) limit: Option<u32>,
    /// The unknown event, as the request named it.
    pub(crate) event: Option<Value>,
}

/// One error.
#[derive(Debug)]
pub struct FieldError {
    /// Stable: clients branch on it.
    pub(crate) code: &'static str,
    /// The description for people.
    pub(crate) detail: Text,
    /// The field that caused the error, if any.
    pub(crate) pointer: Option<String>,
}

/// A sentence in both languages.
#[derive(Debug)]
pub struct Text {
    pub(crate) english: Cow<'static, str>,
    pub(crate) spanish: Cow<'static, str>,
}

impl Text {
    pub(crate) fn in_language(&self, language: Language) -> &str {
        match language {
            Language::English => &self.english,
            Language::Spanish => &self.spanish,
        }
    }
}

impl Failure {
    /// Creates a failure with one error that belongs to no field.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        english: impl Into<Cow<'static, str>>,
        spanish: impl Into<Cow<'static, str>>,
    ) -> Self {
        let detail = Text { english: english.into(), spanish: spanish.into() };
        Self {
            status,
            errors: vec![FieldError { code, detail, pointer: None }],
            violations: None,
            retry_after_seconds: None,
            limit: None,
            event: None,
        }
    }

    /// Sets `Retry-After`. It is at least one second, because `0` would mean "at once".
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_seconds = Some(clock::whole_seconds(wait).max(1));
        self
    }

    /// Creates the failure for a database error, which is logged but not shown.
    pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = error, "the database failed");
        Self::service_unavailable()
    }

    fn service_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "The service is not available at the moment; nothing was done.",
            "El servicio no está disponible por el momento; no se hizo nada.",
        )
        .retry_after(Duration::from_secs(1))
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Authentication credentials are missing or invalid.",
            "Faltan las credenciales de autenticación o no son válidas.",
        )
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "This API key lacks the permission for this operation.",
            "Esta clave de API no tiene el permiso para esta operación.",
        )
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such resource.", "El recurso no existe.")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This resource does not support the request's method.",
            "El recurso no admite el método de la petición.",
        )
    }

    pub(crate) fn rate_limit_exceeded(wait: Duration) -> Self {
        let seconds = clock::whole_seconds(wait).max(1);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            format!("Too many requests. Try again in {seconds} s."),
            format!("Demasiadas peticiones. Vuelve a intentarlo en {seconds} s."),
        )
        .retry_after(wait)
    }

    /// As many idempotency keys are kept as an account can have.
    fn too_many_keys(wait: Duration) -> Self {
        let seconds = clock::whole_seconds(wait).max(1);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            format!(
                "Too many idempotency keys of this account are kept. Earlier requests can be repeated; try a new key \
                 in {seconds} s."
            ),
            format!(
                "Se conservan demasiadas claves de idempotencia de esta cuenta. Puedes repetir peticiones anteriores; \
                 usa una clave nueva en {seconds} s."
            ),
        )
        .retry_after(wait)
    }

    pub(crate) fn body_empty() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "body_empty",
            "The request needs a body and has none.",
            "La petición necesita un cuerpo y no lo trae.",
        )
    }

    pub(crate) fn invalid_json() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            "The request body is not JSON.",
            "El cuerpo de la petición no es JSON.",
        )
    }

    pub(crate) fn body_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The request body is too large.",
            "El cuerpo de la petición es demasiado grande.",
        )
    }

    /// Creates the failure for an unreadable body: 408 if reading it timed out, otherwise 400.
    pub(crate) fn of_unreadable_body(rejection: &(dyn Error + 'static)) -> Self {
        if is_body_timeout(rejection) { Self::request_timeout() } else { Self::body_unreadable() }
    }

    pub(crate) fn body_unreadable() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "body_unreadable",
            "The request body could not be read to its end.",
            "No se pudo leer el cuerpo de la petición hasta el final.",
        )
    }

    pub(crate) fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The request body did not arrive in time.",
            "El cuerpo de la petición no llegó a tiempo.",
        )
    }

    /// Creates the failure for a bare response, which has a status but no body of this API.
    pub(crate) fn of_bare(bare: &Response) -> Self {
        if bare.extensions().get::<BodyCapacityExceeded>().is_some() {
            return Self::ocr_busy();
        }
        let mut failure = Self::of_status(bare.status());
        let wait =
            bare.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = wait {
            failure = match failure.status {
                StatusCode::TOO_MANY_REQUESTS if bare.extensions().get::<TooManyKeys>().is_some() => {
                    Self::too_many_keys(Duration::from_secs(seconds))
                }
                StatusCode::TOO_MANY_REQUESTS => Self::rate_limit_exceeded(Duration::from_secs(seconds)),
                _ => failure.retry_after(Duration::from_secs(seconds)),
            };
        }
        failure
    }

    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::FORBIDDEN => Self::forbidden(),
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed(),
            StatusCode::REQUEST_TIMEOUT => Self::request_timeout(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::body_too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                status,
                "unsupported_media_type",
                "The encoding or the character set of the request body is not supported: send UTF-8 without a content encoding.",
                "La codificación o el juego de caracteres del cuerpo no se admite: envíalo en UTF-8, tal cual.",
            ),
            StatusCode::SERVICE_UNAVAILABLE => Self::service_unavailable(),
            _ if status.is_client_error() => Self::new(
                status,
                "bad_request",
                "The request cannot be understood.",
                "No se puede entender la petición.",
            ),
            _ => Self::new(
                status,
                "internal_error",
                "Something went wrong on our side.",
                "Algo falló de nuestro lado.",
            ),
        }
    }
}

unavailable_after!(Failure: sqlx::Error, SchedulerError, CoCommitError, AnnounceError, SendError, SealError);

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Empty => Self::body_empty(),
            JsonError::Malformed => Self::invalid_json(),
        }
    }
}
