//! Payments as Banxico records them, and the providers that verify them.
//!
//! The CEP (*comprobante electrónico de pago*) of a SPEI transfer is the proof that the transfer
//! arrived.
//!
//! This module does not depend on the API that uses it.

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

/// A source of verdicts about payments.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Queries the state of `payment`.
    ///
    /// `asked` is the number of this query about this payment, starting at 1. The caller keeps the
    /// count: a provider stores nothing, so a restart does not change its answers.
    ///
    /// Errors are reported as a verdict too, because a caller could do nothing else with them.
    ///
    /// # Cancel safety
    /// Safe: a query changes nothing. If the future is dropped, there is no verdict, and the same
    /// value of `asked` may be used again.
    async fn ask(&self, payment: &Payment, asked: u32) -> Answer;
}

/// The result of a query: a verdict and, for a valid payment, its CEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(crate) verdict: CepVerdict,
    pub(crate) cep: Option<Cep>,
}

impl From<Cep> for Answer {
    fn from(cep: Cep) -> Self {
        Self { verdict: CepVerdict::Valid, cep: Some(cep) }
    }
}

/// An answer without a CEP.
impl From<CepVerdict> for Answer {
    fn from(verdict: CepVerdict) -> Self {
        Self { verdict, cep: None }
    }
}

/// What a query found out about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CepVerdict {
    /// The CEP was found.
    Valid,
    /// The payment does not exist, or does not exist yet.
    NotFound,
    /// The payment is known, but its CEP is not available at the moment.
    CepUnavailable,
    /// The payment arrived and was returned.
    Returned,
    /// No usable answer: a time-out, a server error or an unreadable page.
    Error,
    /// Banxico refuses queries because there were too many of them. A direct request reports this
    /// to the caller; a retry treats it as [`CepUnavailable`](Self::CepUnavailable).
    RateLimited,
}

impl CepVerdict {
    /// Returns the status to report as Banxico's.
    pub fn banxico_status(self) -> BanxicoStatus {
        match self {
            Self::Valid => BanxicoStatus::Valid,
            Self::NotFound => BanxicoStatus::NotFound,
            Self::CepUnavailable | Self::RateLimited => BanxicoStatus::CepUnavailable,
            Self::Returned => BanxicoStatus::Returned,
            Self::Error => BanxicoStatus::Error,
        }
    }

    /// Returns the stable code of the error that prevented a verdict, if there was one.
    pub fn error_code(self) -> Option<&'static str> {
        match self {
            Self::Error => Some("network"),
            Self::RateLimited => Some("rate_limit_exhausted"),
            Self::Valid | Self::NotFound | Self::CepUnavailable | Self::Returned => None,
        }
    }

    /// Returns [`error_code`](Self::error_code) in words.
    pub fn error_message(self) -> Option<&'static str> {
        match self {
            Self::Error => Some("Banxico gave no readable answer."),
            Self::RateLimited => Some("Banxico accepts no more queries for now."),
            Self::Valid | Self::NotFound | Self::CepUnavailable | Self::Returned => None,
        }
    }
}

text_enum! {
    /// What Banxico reported about a payment, as of the last query.
    pub enum BanxicoStatus {
        /// Not queried yet.
        Pending = "pending",
        /// The CEP was found.
        Valid = "valid",
        /// There is no such payment.
        NotFound = "not_found",
        /// The payment was found, without its CEP.
        CepUnavailable = "cep_unavailable",
        /// The answer is not a verdict.
        Invalid = "invalid",
        /// The payment was returned.
        Returned = "returned",
        /// The query failed.
        Error = "error",
    }
}
