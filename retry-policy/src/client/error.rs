use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response};
use tower::BoxError;

/// The error of a request whose last try brought no response.
///
/// A response is never an error: when the tries are used up, the last one is returned as it is, whatever its status. Where an
/// earlier try had a response and the last one had none, the error keeps it: see [`response`](Self::response).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    key: Option<HeaderValue>,
    source: Option<BoxError>,
    response: Option<Box<Response<Bytes>>>,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The body is a stream, which can be sent only once. Nothing was sent. Collect the body first, or set
    /// [`max_tries`](super::Retries::max_tries) to 1.
    NotReplayable,
    /// The last try failed with an error of the HTTP client, which is the [source](std::error::Error::source). The request may
    /// have taken effect.
    Client,
    /// The last try took longer than [`try_timeout`](super::Retries::try_timeout). The request may have taken effect.
    TryTimeout,
    /// The [`deadline`](super::Retries::deadline) passed. The request may have taken effect.
    Deadline,
}

impl Error {
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self { kind, key: None, source: None, response: None }
    }

    pub(super) fn client(source: BoxError) -> Self {
        Self { source: Some(source), ..Self::new(ErrorKind::Client) }
    }

    pub(super) fn with(self, key: Option<HeaderValue>, response: Option<Response<Bytes>>) -> Self {
        Self { key, response: response.map(Box::new), ..self }
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the key of the request, generated or given. The same request can be sent again under it, and takes effect
    /// once. `None` if the request has no key. The value is marked as sensitive.
    pub fn idempotency_key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }

    /// Returns the last response that an earlier try had; `None` if no try had one.
    ///
    /// Its body holds the first [`MAX_KEPT_BODY_BYTES`](super::MAX_KEPT_BODY_BYTES) bytes, as far as they had arrived before
    /// the next try began.
    pub fn response(&self) -> Option<&Response<Bytes>> {
        self.response.as_deref()
    }

    /// Takes the last response out.
    pub fn into_response(self) -> Option<Response<Bytes>> {
        self.response.map(|response| *response)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::NotReplayable => {
                f.write_str("the body can be sent only once, so the request was not sent")?;
            }
            ErrorKind::Client => f.write_str("the request failed")?,
            ErrorKind::TryTimeout => f.write_str("no response within the timeout of a try")?,
            ErrorKind::Deadline => f.write_str("no response before the deadline")?,
        }
        if let Some(response) = &self.response {
            write!(f, " (an earlier try was answered with {})", response.status())?;
        }
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
