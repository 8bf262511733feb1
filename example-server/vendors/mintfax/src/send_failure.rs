//! Why a fax did not arrive.

use std::borrow::Cow;

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
}

impl SendFailure {
    /// What a carrier says, and what may be otherwise the next time.
    const fn passing(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: true }
    }

    /// What a carrier says, and what stays so.
    const fn terminal(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: true, is_verdict: true }
    }

    /// What no carrier said.
    const fn unheard(code: &'static str, message: &'static str) -> Self {
        let (code, message) = (Cow::Borrowed(code), Cow::Borrowed(message));
        Self { code, message, is_terminal: false, is_verdict: false }
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
pub(super) const CARRIER_ERROR: SendFailure =
    SendFailure::unheard("carrier_error", "The carrier did not say what came of the attempt.");
