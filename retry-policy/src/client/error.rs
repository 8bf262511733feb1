use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use tower::BoxError;

/// A request without an answer.
#[derive(Debug)]
pub struct Error {
    pub(super) kind: ErrorKind,
    pub(super) key: Option<HeaderValue>,
    pub(super) source: Option<BoxError>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The body is a stream, which can be sent once only; nothing was sent. Collect it first, or do without retries.
    NotReplayable,
    /// The client's own error, in the last try: it is the [source](std::error::Error::source). The request may have taken
    /// effect.
    Client,
    /// The last try brought no answer in the time a try has. The request may have taken effect.
    TryTimeout,
    /// There was no answer before the deadline. The request may have taken effect.
    Deadline,
    /// The server asks for more time than is left, so trying again would be of no use: it would be too early, or too late.
    RetryAfterTooLong {
        /// What it asks for.
        wait: Duration,
        /// What was left until the deadline.
        left: Duration,
    },
}

impl Error {
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self { kind, key: None, source: None }
    }

    /// Which kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The key of the request, made or given: under it the same request can be sent again, and happens once. `None` if the
    /// request had none and none was made for it. It is marked as sensitive.
    pub fn idempotency_key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::NotReplayable => {
                f.write_str("the body can be sent only once, so the request was not sent")
            }
            ErrorKind::Client => f.write_str("the request failed"),
            ErrorKind::TryTimeout => f.write_str("no answer in the time a try has"),
            ErrorKind::Deadline => f.write_str("no answer before the deadline"),
            ErrorKind::RetryAfterTooLong { wait, left } => {
                write!(f, "the server asks to wait {wait:?}, and {left:?} are left until the deadline")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
