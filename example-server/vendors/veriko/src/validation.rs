//! A validation and its representations.

mod attempt;
mod ocr;
mod response;
mod retry_state;

use jiff::Timestamp;
use uuid::Uuid;

use super::client_ref::ClientRef;
use super::errors::Failure;
use super::model::Outcome;
use crate::cep::{BanxicoStatus, Cep, CepVerdict, Payment};
use platform::text::text_enum;

pub use attempt::Attempt;
pub(super) use attempt::Shown as RetryAttempt;
pub use ocr::{AccountConflict, KeptImage, Ocr};
pub(super) use response::{
    Entity, Item, LinkedEntity, QueuedAttributes, RetryStateAttributes, ValidationAttributes,
};
pub use retry_state::{CycleState, Ending, RetryState};

/// A validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The id.
    pub id: Uuid,
    /// The account that it belongs to. Other accounts cannot see it.
    pub account: String,
    /// How it was requested.
    pub kind: Kind,
    /// The payment to verify.
    pub payment: Payment,
    /// The status.
    pub status: Status,
    /// The last status that Banxico reported.
    pub banxico_status: BanxicoStatus,
    /// The duration of the last query in milliseconds; `None` before it ended.
    pub processing_time_ms: Option<u64>,
    /// When it was requested.
    pub created_at: Timestamp,
    /// When it reached its present status; `None` before it is final.
    pub completed_at: Option<Timestamp>,
    /// The client's own reference.
    pub client_ref: Option<ClientRef>,
    /// The code of the error ([`CepVerdict::error_code`]).
    pub error_code: Option<String>,
    /// The error in words.
    pub error_message: Option<String>,
    /// The CEP.
    pub cep: KeptCep,
    /// Incremented at each change, including those of the retry cycle.
    pub etag_version: u32,
    /// The retry cycle.
    pub retry_state: RetryState,
    /// Its time in the queue; `None` if the client waited for the verdict.
    pub queue: Option<Queue>,
    /// The text that was read; `None` if there was no picture.
    pub ocr: Option<Ocr>,
    /// The picture; `None` if there was none.
    pub image: Option<KeptImage>,
}

/// The additional times of a background validation. It was queued when it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// If there is no verdict by then, it ends as an error.
    pub expires_at: Timestamp,
    /// When processing first began.
    pub processing_started_at: Option<Timestamp>,
}

impl Validation {
    /// Parses the id in a path.
    ///
    /// # Errors
    /// 422 `invalid_uuid` if it is not five hyphenated groups of hexadecimal digits.
    pub fn parse_id(text: &str) -> Result<Uuid, Failure> {
        let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        Uuid::try_parse(text).ok().filter(|_| hyphenated).ok_or_else(Failure::invalid_uuid)
    }

    /// Returns the path at which it can be read.
    pub fn location(&self) -> String {
        format!("/v1/validations/{}", self.id)
    }

    /// Returns how long a client should wait before it polls again, in seconds; `None` once the
    /// status is final.
    pub fn next_poll_after_seconds(&self) -> Option<u32> {
        (!self.status.is_final()).then_some(2)
    }
}

/// Whether the CEP of a validation is stored. That of a valid one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptCep {
    /// There is no CEP.
    None,
    /// The CEP was just received. It is stored by the change that makes the validation valid.
    New(Box<Cep>),
    /// The CEP is stored.
    Kept,
}

text_enum! {
    /// The status of a validation.
    pub enum Status {
        /// Processing has not begun.
        Queued = "queued",
        /// A query to Banxico is in progress.
        Processing = "processing",
        /// The CEP was found.
        Valid = "valid",
        /// The payment does not exist, or does not exist yet.
        NotFound = "not_found",
        /// The payment is known, but its CEP is not available at the moment.
        CepUnavailable = "cep_unavailable",
        /// Banxico's answer was not a verdict.
        Invalid = "invalid",
        /// The payment arrived and was returned.
        Returned = "returned",
        /// The request could not be processed because of its content.
        Failed = "failed",
        /// Processing failed because of this server or of Banxico.
        Error = "error",
    }
}

impl Status {
    /// Returns whether only a retry can change the status.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Processing)
    }

    /// Returns the status as an outcome of a retry policy; `None` if it is never retried.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::NotFound => Some(Outcome::NotFound),
            Self::CepUnavailable => Some(Outcome::CepUnavailable),
            Self::Error => Some(Outcome::Error),
            Self::Queued | Self::Processing | Self::Valid | Self::Invalid | Self::Returned | Self::Failed => {
                None
            }
        }
    }
}

/// The status that a verdict leads to.
///
/// [`CepVerdict::RateLimited`] does not occur for direct requests: they fail with 503
/// ([`Failure::banxico_rate_limit_exhausted`]), and nothing is stored.
impl From<CepVerdict> for Status {
    fn from(verdict: CepVerdict) -> Self {
        match verdict {
            CepVerdict::Valid => Self::Valid,
            CepVerdict::NotFound => Self::NotFound,
            CepVerdict::CepUnavailable | CepVerdict::RateLimited => Self::CepUnavailable,
            CepVerdict::Returned => Self::Returned,
            CepVerdict::Error => Self::Error,
        }
    }
}

text_enum! {
    /// How a validation is requested.
    pub enum Kind {
        /// By the payment's fields.
        Direct = "direct",
        /// By a picture of its receipt.
        Ocr = "ocr",
    }
}

#[cfg(test)]
mod tests;
