//! Payments as Banxico knows them, and who can say whether one arrived: the CEP (*comprobante electrónico de pago*) of a
//! SPEI transfer is the proof that it did.
//!
//! Nothing here knows of the API that asks.

mod account;
mod amount;
mod bank;
mod banxico;
mod charset;
mod document;
mod payment;
mod recent;
pub(crate) mod rendering;
mod sandbox;
mod text;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use platform::text::text_enum;

pub use account::{Account, AccountError, AccountKind};
pub use amount::{Amount, AmountError};
pub use bank::Bank;
pub(crate) use banxico::Banxico;
pub use document::{Cep, CepError};
pub(crate) use payment::receiving_bank;
pub use payment::{Party, Payment, Reference, TrackingKey};
pub use recent::{Query, Recent};
pub use sandbox::Sandbox;

/// Who can be asked whether a payment arrived.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Asks about `payment`. `asked` says which asking of this payment it is, counted from 1 by who keeps count: a provider
    /// remembers nothing, so that a restart changes no answer.
    ///
    /// What goes wrong on the way is a verdict too: there is nothing else a caller could do with it.
    ///
    /// # Cancel safety
    /// Asking changes nothing. Dropped, there is no verdict, and the same `asked` may be used again.
    async fn ask(&self, payment: &Payment, asked: u32) -> Answer;
}

/// What came of asking: a verdict, and the CEP of a payment that is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(crate) verdict: CepVerdict,
    pub(crate) cep: Option<Cep>,
    /// How long the provider asks to be left alone, where it gave no verdict of its own.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Cep> for Answer {
    fn from(cep: Cep) -> Self {
        Self { verdict: CepVerdict::Valid, cep: Some(cep), retry_after: None }
    }
}

/// Without a CEP.
impl From<CepVerdict> for Answer {
    fn from(verdict: CepVerdict) -> Self {
        Self { verdict, cep: None, retry_after: None }
    }
}

/// What is known of a payment after asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CepVerdict {
    /// The CEP was found.
    Valid,
    /// There is no such payment, or none yet.
    NotFound,
    /// The payment is known, its CEP is not to be had for now.
    CepUnavailable,
    /// It arrived and was sent back.
    Returned,
    /// There was no usable answer: a time-out, a server error, a page that cannot be read.
    Error,
    /// Banxico answers nobody who asks this often. Who asks directly is told so; a retry counts it as
    /// [`CepUnavailable`](Self::CepUnavailable).
    RateLimited,
}

impl CepVerdict {
    /// What Banxico is reported to have said.
    pub fn banxico_status(self) -> BanxicoStatus {
        match self {
            Self::Valid => BanxicoStatus::Valid,
            Self::NotFound => BanxicoStatus::NotFound,
            Self::CepUnavailable | Self::RateLimited => BanxicoStatus::CepUnavailable,
            Self::Returned => BanxicoStatus::Returned,
            Self::Error => BanxicoStatus::Error,
        }
    }

    /// Why there is no answer of Banxico's, where there is none. Stable.
    pub fn error_code(self) -> Option<&'static str> {
        match self {
            Self::Error => Some("network"),
            Self::RateLimited => Some("rate_limit_exhausted"),
            Self::Valid | Self::NotFound | Self::CepUnavailable | Self::Returned => None,
        }
    }

    /// [`error_code`](Self::error_code) in words.
    pub fn error_message(self) -> Option<&'static str> {
        match self {
            Self::Error => Some("Banxico gave no answer that can be read."),
            Self::RateLimited => Some("Banxico does not take more queries for now."),
            Self::Valid | Self::NotFound | Self::CepUnavailable | Self::Returned => None,
        }
    }
}

text_enum! {
    /// What Banxico said of a payment, as far as anybody asked.
    pub enum BanxicoStatus {
        /// Nothing yet.
        Pending = "pending",
        /// The CEP is there.
        Valid = "valid",
        /// No such payment.
        NotFound = "not_found",
        /// The payment without its CEP.
        CepUnavailable = "cep_unavailable",
        /// Something that is no verdict.
        Invalid = "invalid",
        /// Sent back.
        Returned = "returned",
        /// It was asked, and that failed.
        Error = "error",
    }
}
