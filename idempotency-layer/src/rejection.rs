//! Rejections: the layer's own responses.

use std::error::Error;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header};

use crate::key::InvalidKey;
use crate::store::Tombstone;

/// Why the layer answered in place of the handler.
///
/// The response carries it as an extension, so that middleware outside the layer can render it
/// again, in the client's language or with a request id. Use
/// [`Contract::rejection`](crate::Contract::rejection) if this value is all that the rendering
/// needs.
///
/// ```
/// use http::Response;
/// use idempotency_layer::Rejection;
///
/// fn log<B>(response: &Response<B>) {
///     if let Some(rejection) = response.extensions().get::<Rejection>() {
///         println!("{}: {rejection}", rejection.code());
///     }
/// }
/// # log(&Response::new(()));
/// ```
#[derive(Clone)]
pub struct Rejection {
    pub(crate) kind: RejectionKind,
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    header: HeaderName,
    documentation: Option<Uri>,
}

/// The reasons for a [`Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The contract requires a key, and the request has none.
    KeyMissing,
    /// The header holds no valid key, or it was sent twice.
    KeyInvalid(InvalidKey),
    /// The key was used for another request.
    KeyReused,
    /// Another request with this key is running.
    InProgress,
    /// A request with this key was carried out or begun, and there is no response to replay.
    Tombstone(Tombstone),
    /// The request body is longer than the layer reads, or than a limit outside the layer allows.
    BodyTooLarge {
        /// The limit in bytes ([`Builder::max_request_bytes`](crate::Builder::max_request_bytes)).
        /// `None` for a limit outside the layer.
        limit: Option<usize>,
    },
    /// The request body broke off while the layer read it.
    BodyUnreadable,
    /// The function set with [`Builder::scope`](crate::Builder::scope) returned `None`.
    ScopeMissing,
    /// The handler uses an extractor that no layer provides, or uses it wrongly. This is a mistake
    /// in the server. [`Rejection::source`] returns the details.
    Misconfigured,
    /// Too many requests whose clients disconnected are still running
    /// ([`Builder::max_detached`](crate::Builder::max_detached)). Nothing was done.
    Overloaded,
    /// The store was not reached, and nothing was done.
    StoreUnavailable,
    /// The request was carried out, but its response could not be recorded, so it is not sent.
    NotRecorded,
    /// The handler's rows could not be committed with the response and were rolled back.
    RolledBack,
    /// A request without a key was carried out, and it is unknown whether its rows were committed.
    CommitUnknown,
    /// The request was carried out, but its response broke off.
    ResponseUnreadable,
}

impl Rejection {
    pub(crate) fn new(
        kind: RejectionKind,
        status: StatusCode,
        header: HeaderName,
        documentation: Option<Uri>,
    ) -> Self {
        Self { kind, status, retry_after: None, source: None, header, documentation }
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Arc<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the reason.
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// Returns the cause, if there is one:
    ///
    /// - [`BodyUnreadable`](RejectionKind::BodyUnreadable): the error of the body, such as a
    ///   time-out,
    /// - [`BodyTooLarge`](RejectionKind::BodyTooLarge): the error of a limit outside the layer,
    /// - [`Misconfigured`](RejectionKind::Misconfigured): what is missing or wrong,
    /// - a `CoCommitError` that the handler returned.
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// Returns the header in which the contract takes keys.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Returns the header as texts write it, such as `Idempotency-Key`.
    pub(crate) fn header_name(&self) -> impl fmt::Display {
        TitleCase(&self.header)
    }

    /// Returns the page set with [`Contract::documentation`](crate::Contract::documentation).
    pub fn documentation(&self) -> Option<&Uri> {
        self.documentation.as_ref()
    }

    /// Returns the HTTP status that the contract gives to the rejection.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the value of the `Retry-After` header in whole seconds, at least 1. `None` if a
    /// retry does not help.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// Returns a stable code for the reason, for logs, metrics and error bodies.
    pub fn code(&self) -> &'static str {
        match self.kind {
            RejectionKind::KeyMissing => "idempotency_key_missing",
            RejectionKind::KeyInvalid(_) => "invalid_idempotency_key",
            RejectionKind::KeyReused => "idempotency_key_reused",
            RejectionKind::InProgress => "idempotency_key_in_progress",
            RejectionKind::Tombstone(Tombstone::Unreplayable) => "idempotent_response_unavailable",
            RejectionKind::Tombstone(Tombstone::Unknown) => "idempotent_outcome_unknown",
            RejectionKind::BodyTooLarge { .. } => "body_too_large",
            RejectionKind::BodyUnreadable => "body_unreadable",
            RejectionKind::ScopeMissing
            | RejectionKind::Misconfigured
            | RejectionKind::ResponseUnreadable => "internal_error",
            RejectionKind::Overloaded => "idempotency_overloaded",
            RejectionKind::StoreUnavailable | RejectionKind::NotRecorded => "idempotency_unavailable",
            RejectionKind::RolledBack => "rolled_back",
            RejectionKind::CommitUnknown => "outcome_unknown",
        }
    }

    /// Makes a response with the rejection's status from a body.
    pub(crate) fn render(&self, body: String, content_type: &'static str) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// Leaves out the source, because the error of a body may show parts of it.
impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, status, retry_after, .. } = self;
        f.debug_struct("Rejection")
            .field("kind", kind)
            .field("status", status)
            .field("retry_after", retry_after)
            .finish_non_exhaustive()
    }
}

/// A sentence for people, in English. It names the contract's own header.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.header_name();
        match self.kind {
            RejectionKind::KeyMissing => write!(f, "This operation needs the header {key}."),
            RejectionKind::KeyInvalid(why) => write!(f, "The {key} is not valid: {why}."),
            RejectionKind::KeyReused => write!(f, "This {key} was used for a different request."),
            RejectionKind::InProgress => write!(f, "A request with this {key} is still being processed."),
            RejectionKind::Tombstone(Tombstone::Unreplayable) => {
                write!(f, "The request with this {key} was processed; its response cannot be repeated.")
            }
            RejectionKind::Tombstone(Tombstone::Unknown) => {
                write!(f, "A request with this {key} was begun; whether it was carried out is not known.")
            }
            RejectionKind::BodyTooLarge { limit: Some(limit) } => {
                write!(f, "The request body is longer than {limit} bytes.")
            }
            RejectionKind::BodyTooLarge { limit: None } => f.write_str("The request body is too long."),
            RejectionKind::BodyUnreadable => f.write_str("The request body could not be read to its end."),
            RejectionKind::Misconfigured if cfg!(debug_assertions) && self.source.is_some() => {
                let source = self.source.iter().map(ToString::to_string);
                write!(f, "Internal error: {}.", source.collect::<String>())
            }
            RejectionKind::ScopeMissing
            | RejectionKind::Misconfigured
            | RejectionKind::ResponseUnreadable => f.write_str("Internal error."),
            RejectionKind::Overloaded => f.write_str(
                "Too many earlier requests are still being finished; nothing was done. Try again later.",
            ),
            RejectionKind::StoreUnavailable => {
                f.write_str("Idempotency is not available at the moment; nothing was done.")
            }
            RejectionKind::RolledBack => f.write_str("The request could not be committed; nothing was done."),
            RejectionKind::CommitUnknown => f.write_str("Whether the request was carried out is not known."),
            RejectionKind::NotRecorded => {
                write!(
                    f,
                    "The response could not be recorded; retry with the same {key} to learn the outcome."
                )
            }
        }
    }
}

/// A header name with a capital letter at the start of each word.
struct TitleCase<'a>(&'a HeaderName);

impl fmt::Display for TitleCase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut begins_word = true;
        self.0.as_str().chars().try_for_each(|character| {
            let shown = if begins_word { character.to_ascii_uppercase() } else { character };
            begins_word = character == '-';
            f.write_char(shown)
        })
    }
}
