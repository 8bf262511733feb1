//! Who sends faxes.

mod http;
mod sandbox;

use std::borrow::Cow;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

pub(super) use self::http::HttpCarrier;
pub(super) use self::sandbox::{Refusal, Sandbox};
use super::fax::Fax;

/// Sends one fax, once.
#[async_trait]
pub(super) trait Carrier: Debug + Send + Sync {
    /// How many pages a fax is likely to have, as far as that can be known before it is sent.
    fn expected_pages(&self, to: &str) -> u32;

    /// Makes one attempt. It may be the same one again ([`Job::key`]), after a crash, or because nothing was heard.
    async fn send(&self, job: &Job<'_>) -> Sent;
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) fax: &'a Fax,
    pub(super) document: &'a Path,
    /// The same for two tries of which only one may be sent.
    pub(super) key: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Delivered {
        pages: u32,
    },
    Failed(Fault),
    /// The document cannot be read now, for a reason that is not the fax's.
    Unreadable,
}

impl Sent {
    /// How long to wait before the next attempt, where that is longer than usual.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(fault) => fault.retry_after,
            Self::Delivered { .. } | Self::Unreadable => None,
        }
    }
}

/// Why a fax did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
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

impl Fault {
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

pub(super) const BUSY: Fault = Fault::passing("busy", "The line was busy.");
pub(super) const NO_ANSWER: Fault = Fault::passing("no_answer", "Nobody answered the call.");
pub(super) const LINE_QUALITY: Fault =
    Fault::passing("line_quality", "The line was too bad for the pages to get through.");
pub(super) const TRANSIENT: Fault =
    Fault::passing("transient_error", "The attempt failed for a reason that passes.");
pub(super) const INVALID_NUMBER: Fault = Fault::terminal("invalid_number", "There is no fax at this number.");
pub(super) const NO_ANSWER_OF_CARRIER: Fault =
    Fault::unheard("timeout", "The carrier did not say in time what came of the attempt.");
/// The document is gone: deleted, or not restored with the database. It may lie on a disk that is away, so this is
/// tried as often as anything else that fails.
pub(super) const NO_DOCUMENT: Fault =
    Fault::unheard("document_unavailable", "The document is not available any more.");
pub(super) const NO_CARRIER: Fault =
    Fault::given_up("carrier_unavailable", "There was no carrier for the fax in all the time it could wait.");
pub(super) const CANCELLED: Fault = Fault::given_up("cancelled", "The delivery was cancelled.");
pub(super) const CARRIER_ERROR: Fault =
    Fault::unheard("carrier_error", "The carrier did not say what came of the attempt.");
