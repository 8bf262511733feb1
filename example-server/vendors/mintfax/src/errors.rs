//! The API's errors: code, message, and what to do about each.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::Response;
use http::{StatusCode, header};
use idempotency_layer::{CoCommitError, Rejection, RejectionKind};
use retry_scheduler::SchedulerError;
use serde_json::{Map, Value, json};

use platform::clock;
use platform::envelope::unavailable_after;
use platform::rate_limit::TooManyKeys;
use platform::server::is_body_timeout;

/// An error response, before it is rendered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Stable: clients branch on it.
    pub(super) code: &'static str,
    /// The message, for people.
    pub(super) message: Cow<'static, str>,
    /// What a program can do about the error.
    pub(super) action: &'static str,
    /// Further details.
    pub(super) context: Option<Value>,
    pub(super) retry_after_seconds: Option<u64>,
}

/// The errors in the fields of a request.
#[derive(Debug, Default)]
pub(super) struct FieldErrors(Vec<(&'static str, String)>);

const FIX: &str = "fix_request";
const WAIT: &str = "wait_and_retry";
const SUPPORT: &str = "contact_support";

impl Failure {
    fn new(
        status: StatusCode,
        code: &'static str,
        action: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into(), action, context: None, retry_after_seconds: None }
    }

    /// Sets `Retry-After`, rounded up to at least one second: `0` would mean "at once".
    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_seconds = Some(clock::whole_seconds(wait).max(1));
        self
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", FIX, message)
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "check_api_key",
            "The API key is missing or is not valid.",
        )
    }

    pub(super) fn insufficient_balance() -> Self {
        Self::new(
            StatusCode::PAYMENT_REQUIRED,
            "insufficient_balance",
            "top_up_balance",
            "The balance is too low for this fax.",
        )
    }

    /// The documents of the account's faxes that have not ended would be too large together.
    pub(super) fn too_many_documents(most_bytes: u64) -> Self {
        let message = format!(
            "With this one, the documents of the faxes that have not ended would exceed {} MiB. Send it again when some have ended.",
            most_bytes / (1024 * 1024)
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_documents", WAIT, message)
            .retry_after(Duration::from_secs(30))
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", FIX, "There is no such resource.")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            FIX,
            "This resource does not support the request's method.",
        )
    }

    pub(super) fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "retry",
            "The request body did not arrive in time.",
        )
    }

    pub(super) fn file_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "file_too_large",
            FIX,
            "The request is too large. A file can have at most 10 MB.",
        )
    }

    pub(super) fn rate_limit_exceeded() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            WAIT,
            "Too many requests. Please slow down.",
        )
    }

    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "retry",
            "Something went wrong on our side.",
        )
    }

    pub(super) fn service_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            WAIT,
            "The service is not available at the moment; nothing was done.",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// There is no carrier for live faxes.
    pub(super) fn carrier_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "carrier_unavailable",
            WAIT,
            "No carrier is available at the moment; nothing was sent.",
        )
        .retry_after(Duration::from_mins(1))
    }

    /// Logs an internal error, and returns a response without its details.
    pub(super) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = error, "fax request failed");
        Self::service_unavailable()
    }

    /// Returns the response to a body that broke off or was too slow.
    pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Self {
        if is_body_timeout(error) {
            Self::request_timeout()
        } else {
            Self::bad_request("The request body could not be read to its end.")
        }
    }

    /// Returns the error for a bare response, from its status.
    pub(super) fn of_bare(bare: &Response) -> Self {
        let status = bare.status();
        let mut failure = match status {
            StatusCode::UNAUTHORIZED => Self::unauthenticated(),
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed(),
            StatusCode::REQUEST_TIMEOUT => Self::request_timeout(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::file_too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                status,
                "unsupported_media_type",
                FIX,
                "The encoding or the character set of the request body is not supported: send plain UTF-8.",
            ),
            StatusCode::TOO_MANY_REQUESTS if bare.extensions().get::<TooManyKeys>().is_some() => {
                let message =
                    "Too many idempotency keys of this account are kept. Earlier requests can be repeated.";
                Self { message: message.into(), ..Self::rate_limit_exceeded() }
            }
            StatusCode::TOO_MANY_REQUESTS => Self::rate_limit_exceeded(),
            StatusCode::SERVICE_UNAVAILABLE => Self::service_unavailable(),
            _ if status.is_client_error() => {
                Self { status, ..Self::bad_request("The request cannot be understood.") }
            }
            _ => Self { status, ..Self::internal() },
        };
        let wait =
            bare.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        failure.retry_after_seconds = wait.or(failure.retry_after_seconds);
        failure
    }

    /// Returns the error for a rejection by the idempotency layer.
    pub(super) fn of_rejection(rejection: &Rejection) -> Self {
        let status = rejection.status();
        let mut failure = match rejection.kind() {
            RejectionKind::KeyInvalid(_) => FieldErrors::of("Idempotency-Key", rejection.to_string()).into(),
            RejectionKind::InProgress => Self::new(status, rejection.code(), WAIT, rejection.to_string()),
            RejectionKind::BodyTooLarge { .. } => Self::file_too_large(),
            RejectionKind::BodyUnreadable => {
                let source = rejection.source().map(|source| source as &(dyn std::error::Error + 'static));
                source.map_or_else(|| Self::bad_request(rejection.to_string()), Self::unreadable)
            }
            RejectionKind::StoreUnavailable
            | RejectionKind::NotRecorded
            | RejectionKind::RolledBack
            | RejectionKind::CommitUnknown => {
                Self::new(status, "service_unavailable", WAIT, rejection.to_string())
            }
            _ => Self::new(status, rejection.code(), SUPPORT, rejection.to_string()),
        };
        failure.retry_after_seconds = rejection.retry_after_seconds();
        failure
    }
}

impl FieldErrors {
    pub(super) fn of(field: &'static str, message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, message);
        errors
    }

    pub(super) fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push((field, message.into()));
    }

    /// Adds the message, unless the field already has one.
    pub(super) fn add_if_none(&mut self, field: &'static str, message: impl Into<String>) {
        if self.0.iter().all(|(name, _)| *name != field) {
            self.add(field, message);
        }
    }

    /// Checks that there are no errors.
    ///
    /// # Errors
    /// If there is one.
    pub(super) fn none(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

/// Returns 422 with all messages by field, the first of them as the message.
impl From<FieldErrors> for Failure {
    fn from(errors: FieldErrors) -> Self {
        let first = errors.0.first().map_or_else(String::new, |(_, message)| message.clone());
        let mut fields = Map::new();
        for (field, message) in errors.0 {
            let messages = fields.entry(field).or_insert_with(|| json!([]));
            messages.as_array_mut().expect("every entry is an array").push(message.into());
        }
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", FIX, first);
        failure.context = Some(json!({ "errors": fields }));
        failure
    }
}

unavailable_after!(Failure: sqlx::Error, SchedulerError, CoCommitError, std::io::Error);
