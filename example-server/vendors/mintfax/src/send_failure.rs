//! Failures to deliver a fax.

use std::borrow::Cow;
use std::time::Duration;

/// The failure of an attempt to deliver a fax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SendFailure {
    /// The code, for programs.
    pub(super) code: Cow<'static, str>,
    /// The message, for people.
    pub(super) message: Cow<'static, str>,
    /// Whether retrying is pointless.
    pub(super) is_terminal: bool,
    /// Whether the carrier reported it. If not, the fax may even have been sent.
    pub(super) is_verdict: bool,
    /// The minimum delay before the next attempt, where it is longer than usual.
    pub(super) retry_after: Option<Duration>,
}

impl SendFailure {
    /// A failure that the carrier reported and that a retry may avoid.
    const fn transient(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: true, retry_after: None }
    }

    /// A failure that the carrier reported and that is permanent.
    const fn terminal(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: true, is_verdict: true, retry_after: None }
    }

    /// A failure without a report from a carrier.
    const fn unreported(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: false, retry_after: None }
    }

    /// A failure that ends the fax before a carrier could report anything.
    const fn abandoned(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: true, is_verdict: false, retry_after: None }
    }

    /// Sets the minimum delay before the next attempt.
    pub(super) fn retry_after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }
}

pub(super) const BUSY: SendFailure = SendFailure::transient("busy", "The line was busy.");
pub(super) const NO_ANSWER: SendFailure = SendFailure::transient("no_answer", "Nobody answered the call.");
pub(super) const LINE_QUALITY: SendFailure =
    SendFailure::transient("line_quality", "The line quality was too low to transmit the pages.");
pub(super) const TRANSIENT: SendFailure =
    SendFailure::transient("transient_error", "The attempt failed for a temporary reason.");
pub(super) const INVALID_NUMBER: SendFailure =
    SendFailure::terminal("invalid_number", "There is no fax machine at this number.");
pub(super) const NO_ANSWER_OF_CARRIER: SendFailure =
    SendFailure::unreported("timeout", "The carrier did not report the outcome of the attempt in time.");
/// The document is missing: deleted, or not restored with the database. It may be on a disk that is
/// temporarily unavailable, so this is retried like any other failure.
pub(super) const NO_DOCUMENT: SendFailure =
    SendFailure::unreported("document_unavailable", "The document is no longer available.");
pub(super) const NO_CARRIER: SendFailure =
    SendFailure::abandoned("carrier_unavailable", "No carrier became available for the fax in time.");
pub(super) const CANCELLED: SendFailure = SendFailure::abandoned("cancelled", "The delivery was cancelled.");
pub(super) const CARRIER_ERROR: SendFailure =
    SendFailure::unreported("carrier_error", "The carrier did not report the outcome of the attempt.");
