//! A validation, and how it is shown.

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

/// One validation, as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// What it is known by.
    pub id: Uuid,
    /// The account it belongs to; to any other it does not exist.
    pub account: String,
    /// How it was asked for.
    pub kind: Kind,
    /// What it asks about.
    pub payment: Payment,
    /// Where it stands.
    pub status: Status,
    /// What Banxico said last.
    pub banxico_status: BanxicoStatus,
    /// How long the last asking took, in milliseconds; `None` before it ended.
    pub processing_time_ms: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it got the status it has; `None` before it has one that stays.
    pub completed_at: Option<Timestamp>,
    /// The caller's own name for it.
    pub client_ref: Option<ClientRef>,
    /// What went wrong, for programs ([`CepVerdict::error_code`]).
    pub error_code: Option<String>,
    /// What went wrong, for people.
    pub error_message: Option<String>,
    /// Its CEP.
    pub cep: KeptCep,
    /// Raised at each change, the retry cycle's included.
    pub etag_version: u32,
    /// Its retries.
    pub retry_state: RetryState,
    /// Its time in the queue; `None` if who asked for it waited.
    pub queue: Option<Queue>,
    /// What was read; `None` if no picture was.
    pub ocr: Option<Ocr>,
    /// The picture; `None` if there was none.
    pub image: Option<KeptImage>,
}

/// What a validation in the background has beside the others. It was queued when it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Without a verdict by then, it ends without one.
    pub expires_at: Timestamp,
    /// When somebody first began on it.
    pub processing_started_at: Option<Timestamp>,
}

impl Validation {
    /// Reads an id out of a path.
    ///
    /// # Errors
    /// 422 `invalid_uuid`: it is not written as ids are, in five groups of hexadecimal digits.
    pub fn parse_id(text: &str) -> Result<Uuid, Failure> {
        let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        Uuid::try_parse(text).ok().filter(|_| hyphenated).ok_or_else(Failure::invalid_uuid)
    }

    /// Where it is read.
    pub fn location(&self) -> String {
        format!("/v1/validations/{}", self.id)
    }

    /// How long who waits for it should leave it alone, in seconds; `None` once there is a status to stay.
    pub fn next_poll_after_seconds(&self) -> Option<u32> {
        (!self.status.is_final()).then_some(2)
    }
}

/// Whether the CEP of a validation is there to fetch: that of a valid one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptCep {
    /// There is none.
    None,
    /// It just came, and is kept with the change that made the validation valid.
    New(Box<Cep>),
    /// It is.
    Kept,
}

text_enum! {
    /// Where a validation stands.
    pub enum Status {
        /// Nobody has begun.
        Queued = "queued",
        /// Banxico is being asked.
        Processing = "processing",
        /// The CEP was found.
        Valid = "valid",
        /// There is no such payment, or none yet.
        NotFound = "not_found",
        /// The payment is known, its CEP is not to be had for now.
        CepUnavailable = "cep_unavailable",
        /// Banxico gave what is no verdict.
        Invalid = "invalid",
        /// It arrived and was sent back.
        Returned = "returned",
        /// It stopped at what was sent.
        Failed = "failed",
        /// It stopped at something of ours, or of Banxico's.
        Error = "error",
    }
}

impl Status {
    /// Whether it stays unless a retry changes it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Processing)
    }

    /// As a retry policy sees it; `None` for one that is never retried.
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

/// What a verdict makes of a validation. [`CepVerdict::RateLimited`] is not for who asks directly: that is 503
/// ([`Failure::banxico_rate_limit_exhausted`]), and nothing is kept.
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
    /// How a validation is asked for.
    pub enum Kind {
        /// By the payment's fields.
        Direct = "direct",
        /// By a picture of its receipt.
        Ocr = "ocr",
    }
}

#[cfg(test)]
mod tests;
