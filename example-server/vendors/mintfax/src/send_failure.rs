//! Why a fax did not arrive.

use std::borrow::Cow;
use std::time::Duration;

/// Why a fax did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SendFailure {
    /// For programs.
    pub(super) code: Cow<'static, str>,
    /// For people.
    pub(super) message: Cow<'static, str>,
    /// Whether another attempt cannot succeed.
    pub(super) is_terminal: bool,
    /// Whether the carrier said so. If not, it may even have sent it.
    pub(super) is_verdict: bool,
    /// How long to wait before the next attempt, where that is longer than usual.
    pub(super) retry_after: Option<Duration>,
}

impl SendFailure {
    /// What a carrier says, and what may be otherwise the next time.
    const fn passing(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: true, retry_after: None }
    }

    /// What a carrier says, and what stays so.
    const fn terminal(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: true, is_verdict: true, retry_after: None }
    }

    /// What no carrier said.
    const fn unheard(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: false, retry_after: None }
    }

    /// Why the fax is given up before a carrier could say anything.
    const fn given_up(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: true, is_verdict: false, retry_after: None }
    }

    /// The same, after which the next attempt waits at least this long.
    pub(super) fn retry_after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }
}

pub(super) const BUSY: SendFailure = SendFailure::passing("busy", "The line was busy.");
pub(super) const NO_ANSWER: SendFailure = SendFailure::passing("no_answer", "Nobody answered the call.");
pub(super) const LINE_QUALITY: SendFailure =
    SendFailure::passing("line_quality", "The line was too bad for the pages to get through.");
pub(super) const TRANSIENT: SendFailure =
    SendFailure::passing("transient_error", "The attempt failed for a reason that passes.");
pub(super) const INVALID_NUMBER: SendFailure =
    SendFailure::terminal("invalid_number", "There is no fax at this number.");
pub(super) const NO_ANSWER_OF_CARRIER: SendFailure =
    SendFailure::unheard("timeout", "The carrier did not say in time what came of the attempt.");
/// The document is gone: deleted, or not restored with the database. It may lie on a disk that is away, so this is
/// tried as often as anything else that fails.
pub(super) const NO_DOCUMENT: SendFailure =
    SendFailure::unheard("document_unavailable", "The document is not available any more.");
pub(super) const NO_CARRIER: SendFailure = SendFailure::given_up(
    "carrier_unavailable",
    "There was no carrier for the fax in all the time it could wait.",
);
pub(super) const CANCELLED: SendFailure = SendFailure::given_up("cancelled", "The delivery was cancelled.");
pub(super) const CARRIER_ERROR: SendFailure =
    SendFailure::unheard("carrier_error", "The carrier did not say what came of the attempt.");
