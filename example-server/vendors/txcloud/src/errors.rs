//! The API's errors. A response reports only one, because its format has no room for more.

use std::borrow::Cow;

use axum::response::Response;
use http::{StatusCode, header};
use idempotency_layer::{CoCommitError, Rejection, RejectionKind};
use retry_scheduler::SchedulerError;

use super::engines::EngineError;
use platform::envelope::unavailable_after;
use platform::json::JsonError;
use platform::rate_limit::TooManyKeys;
use platform::server::is_body_timeout;
use platform::text::text_enum;

/// An error response, before it is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Stable: clients branch on it.
    pub(super) code: &'static str,
    pub(super) kind: ErrorType,
    /// The message, for people.
    pub(super) message: Cow<'static, str>,
    /// The field with the error. A nested field has its path, separated by dots.
    pub(super) param: Option<String>,
    pub(super) retry_after_seconds: Option<u64>,
}

text_enum! {
    /// The type of an error.
    pub(crate) enum ErrorType {
        Validation = "validation_error",
        Authentication = "authentication_error",
        Authorization = "authorization_error",
        NotFound = "not_found_error",
        RateLimit = "rate_limit_error",
        Idempotency = "idempotency_error",
        Api = "api_error",
    }
}

/// Every code with its meaning. The vendor's own codes come before ours.
pub(crate) const CODES: &[(&str, &str)] = &[
    ("invalid_request", "The request body is missing, is not a JSON object, or is incomplete."),
    ("missing_parameter", "A required field is missing."),
    ("invalid_parameter", "A field has an invalid value."),
    ("invalid_document", "An image is not base64, is empty, or is too large."),
    ("unsupported_country", "The code is not an ISO 3166-1 alpha-2 country code."),
    ("unsupported_document", "Documents of this type cannot be verified."),
    ("unauthorized", "The API key is missing or invalid."),
    ("forbidden", "The API key lacks the permission for this operation."),
    ("rate_limit_exceeded", "Too many requests."),
    ("not_found", "There is no such resource."),
    ("method_not_allowed", "The resource does not support the request's method."),
    ("request_timeout", "The request body did not arrive in time."),
    ("body_too_large", "The request body is too large."),
    ("unsupported_media_type", "The encoding or the character set of the request body is not supported."),
    ("invalid_idempotency_key", "The Idempotency-Key is malformed or was sent twice."),
    ("idempotency_key_conflict", "The Idempotency-Key was already used with another body."),
    ("idempotency_key_in_progress", "A request with this Idempotency-Key is still being processed."),
    ("idempotent_response_unavailable", "The request was processed, but its response cannot be replayed."),
    (
        "idempotent_outcome_unknown",
        "A request with this Idempotency-Key was started; its outcome is unknown.",
    ),
    ("idempotency_unavailable", "Idempotency is not available at the moment."),
    ("rolled_back", "The request could not be committed; nothing was done."),
    ("outcome_unknown", "It is unknown whether the request took effect."),
    ("service_unavailable", "The service is not available at the moment; nothing was done."),
    ("internal_error", "Something went wrong on our side."),
];

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        kind: ErrorType,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        debug_assert!(CODES.iter().any(|(known, _)| *known == code), "unlisted code: {code}");
        Self { status, code, kind, message: message.into(), param: None, retry_after_seconds: None }
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::invalid(param, "missing_parameter", format!("{param} is required"))
    }

    /// `why` is the rest of the message after the field's name, such as "must be a number".
    pub(super) fn invalid_parameter(param: &str, why: impl AsRef<str>) -> Self {
        Self::invalid(param, "invalid_parameter", format!("{param} {}", why.as_ref()))
    }

    pub(super) fn invalid(param: &str, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let failure = Self::new(StatusCode::BAD_REQUEST, ErrorType::Validation, code, message);
        Self { param: Some(param.to_owned()), ..failure }
    }

    pub(super) fn invalid_request(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorType::Validation, "invalid_request", message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorType::NotFound, "not_found", "There is no such resource")
    }

    /// Logs an internal error, and returns a response without its details.
    fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = error, "check failed");
        Self::service_unavailable()
    }

    fn service_unavailable() -> Self {
        let message = "The service is not available at the moment; nothing was done";
        let failure =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorType::Api, "service_unavailable", message);
        Self { retry_after_seconds: Some(1), ..failure }
    }

    /// Returns the error for a bare response, from its status.
    pub(super) fn of_bare(bare: &Response) -> Self {
        let mut failure = Self::of_status(bare.status());
        let wait: Option<u64> =
            bare.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = wait {
            if failure.kind == ErrorType::RateLimit {
                let what = match bare.extensions().get::<TooManyKeys>() {
                    Some(_) => "Too many idempotency keys are kept. Please use a new one",
                    None => "Too many requests. Please retry",
                };
                failure.message = format!("{what} after {seconds} seconds").into();
            }
            failure.retry_after_seconds = wait;
        }
        failure
    }

    pub(super) fn of_status(status: StatusCode) -> Self {
        let (kind, code, message) = match status {
            StatusCode::UNAUTHORIZED => {
                (ErrorType::Authentication, "unauthorized", "The API key is missing or invalid")
            }
            StatusCode::FORBIDDEN => {
                (ErrorType::Authorization, "forbidden", "The API key lacks the permission for this operation")
            }
            StatusCode::NOT_FOUND => return Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => (
                ErrorType::Validation,
                "method_not_allowed",
                "The resource does not support the request's method",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                (ErrorType::Validation, "request_timeout", "The request body did not arrive in time")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                (ErrorType::Validation, "body_too_large", "The request body is too large")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                ErrorType::Validation,
                "unsupported_media_type",
                "The encoding or the character set of the request body is not supported: send plain UTF-8",
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                (ErrorType::RateLimit, "rate_limit_exceeded", "Too many requests")
            }
            StatusCode::SERVICE_UNAVAILABLE => return Self::service_unavailable(),
            _ if status.is_client_error() => {
                (ErrorType::Validation, "invalid_request", "The request cannot be understood")
            }
            _ => (ErrorType::Api, "internal_error", "Something went wrong on our side"),
        };
        Self::new(status, kind, code, message)
    }

    /// Returns the error for a rejection by the idempotency layer. Keeps its status, and its code
    /// for most kinds.
    pub(super) fn of_rejection(rejection: &Rejection) -> Self {
        let (kind, code) = match rejection.kind() {
            RejectionKind::KeyReused => (ErrorType::Idempotency, "idempotency_key_conflict"),
            RejectionKind::InProgress | RejectionKind::Tombstone(_) => {
                (ErrorType::Idempotency, rejection.code())
            }
            RejectionKind::KeyInvalid(_) => (ErrorType::Validation, rejection.code()),
            RejectionKind::StoreUnavailable
            | RejectionKind::NotRecorded
            | RejectionKind::RolledBack
            | RejectionKind::CommitUnknown => (ErrorType::Api, rejection.code()),
            RejectionKind::BodyUnreadable => {
                return Self::unreadable(rejection.source().map(|source| source as _));
            }
            _ => return Self::of_status(rejection.status()),
        };
        let message = rejection.to_string();
        let failure = Self::new(rejection.status(), kind, code, message.trim_end_matches('.').to_owned());
        Self { retry_after_seconds: rejection.retry_after_seconds(), ..failure }
    }

    /// Returns the error for a body that broke off: a time-out, if that was the cause.
    pub(super) fn unreadable(why: Option<&(dyn std::error::Error + 'static)>) -> Self {
        if why.is_some_and(is_body_timeout) {
            return Self::of_status(StatusCode::REQUEST_TIMEOUT);
        }
        Self::invalid_request("The request body could not be read to its end")
    }
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Self {
        Self::invalid_request(match error {
            JsonError::Empty => "The request body is missing",
            JsonError::Malformed => "The request body is not JSON",
        })
    }
}

unavailable_after!(Failure: sqlx::Error, SchedulerError, CoCommitError, EngineError);

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn every_status_has_an_error() {
        for (status, kind, code) in [
            (401, "authentication_error", "unauthorized"),
            (403, "authorization_error", "forbidden"),
            (404, "not_found_error", "not_found"),
            (405, "validation_error", "method_not_allowed"),
            (408, "validation_error", "request_timeout"),
            (413, "validation_error", "body_too_large"),
            (415, "validation_error", "unsupported_media_type"),
            (418, "validation_error", "invalid_request"),
            (429, "rate_limit_error", "rate_limit_exceeded"),
            (500, "api_error", "internal_error"),
            (502, "api_error", "internal_error"),
            (503, "api_error", "service_unavailable"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::of_bare(&status.into_response());
            assert_eq!((failure.status, failure.kind.as_str(), failure.code), (status, kind, code));
        }
    }

    #[test]
    fn a_failing_database_or_engine_is_a_temporary_503() {
        for failure in [
            Failure::from(sqlx::Error::PoolClosed),
            Failure::from(CoCommitError::Over),
            Failure::from(EngineError("out of order: db-7".into())),
        ] {
            assert_eq!((failure.status.as_u16(), failure.code), (503, "service_unavailable"));
            assert_eq!(failure.retry_after_seconds, Some(1));
            assert!(!failure.message.contains("db-7"), "{failure:?}");
        }
    }

    #[test]
    fn a_bare_response_keeps_its_retry_after() {
        let bare = (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "30")]).into_response();
        let failure = Failure::of_bare(&bare);
        assert_eq!(failure.retry_after_seconds, Some(30));
        assert!(failure.message.contains("30 seconds"), "{}", failure.message);
    }
}
