//! A validation, and how it is shown.

mod attempt;
mod retry_state;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::client_ref::ClientRef;
use super::errors::Failure;
use super::etag::ETag;
use super::model::Outcome;
use super::time::Utc;
use crate::cep::{Account, Amount, BanxicoStatus, Payment, Reference, TrackingKey, Verdict, text_enum};

pub use attempt::Attempt;
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
    /// What went wrong, for programs ([`Verdict::error_code`]).
    pub error_code: Option<String>,
    /// What went wrong, for people.
    pub error_message: Option<String>,
    /// Raised at each change, the retry cycle's included.
    pub etag_version: u32,
    /// Its retries.
    pub retry_state: RetryState,
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

    /// The tag of this version of it.
    pub fn etag(&self) -> ETag {
        ETag { version: self.etag_version, status: self.status }
    }

    /// How long who waits for it should leave it alone, in seconds; `None` once there is a status to stay.
    pub fn next_poll_after_seconds(&self) -> Option<u32> {
        (!self.status.is_final()).then_some(2)
    }

    /// The `data` of `POST /v1/validate` and of `GET /v1/validations/{id}`.
    pub fn resource(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Attributes<'a> {
            validation_type: Kind,
            is_playground: bool,
            status: Status,
            banxico_status: BanxicoStatus,
            processing_time_ms: Option<u64>,
            request_data: &'a Payment,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_ref: Option<&'a ClientRef>,
            created_at: Utc,
            completed_at: Option<Utc>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error_code: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error_message: Option<&'a str>,
            retry_state: &'a RetryState,
        }
        self.with_attributes(
            Attributes {
                validation_type: self.kind,
                is_playground: false,
                status: self.status,
                banxico_status: self.banxico_status,
                processing_time_ms: self.processing_time_ms,
                request_data: &self.payment,
                client_ref: self.client_ref.as_ref(),
                created_at: Utc(self.created_at),
                completed_at: self.completed_at.map(Utc),
                error_code: self.error_code.as_deref(),
                error_message: self.error_message.as_deref(),
                retry_state: &self.retry_state,
            },
            Some(self.links()),
        )
    }

    /// Its place in the `data` of `GET /v1/validations`. What a payment lacks is empty text there, and not `null`, as the
    /// contract has it.
    pub fn item(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Attributes<'a> {
            bank_name: &'static str,
            beneficiary_label: Option<&'a str>,
            amount: Amount,
            tracking_key: &'a str,
            referencia_numerica: &'a str,
            beneficiary_account: &'a str,
            status: Status,
            banxico_status: BanxicoStatus,
            validation_type: Kind,
            is_playground: bool,
            created_at: Utc,
            deleted_at: Option<Utc>,
            retry_state: &'a RetryState,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_ref: Option<&'a ClientRef>,
        }
        let payment = &self.payment;
        let counterparty = payment.receiving_bank().or_else(|| payment.sending_bank());
        self.with_attributes(
            Attributes {
                bank_name: counterparty.map_or("Unidentified bank", |bank| bank.name),
                beneficiary_label: None,
                amount: payment.monto(),
                tracking_key: payment.clave_rastreo().map_or("", TrackingKey::as_str),
                referencia_numerica: payment.referencia_numerica().map_or("", Reference::as_str),
                beneficiary_account: payment.cuenta_beneficiaria().map_or("", Account::digits),
                status: self.status,
                banxico_status: self.banxico_status,
                validation_type: self.kind,
                is_playground: false,
                created_at: Utc(self.created_at),
                deleted_at: None,
                retry_state: &self.retry_state,
                client_ref: self.client_ref.as_ref(),
            },
            None,
        )
    }

    /// The `data` of what changes its retries: `PUT …/retry-policy`, `POST …/cancel-retries`.
    pub fn retry_state_resource(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Attributes<'a> {
            retry_state: &'a RetryState,
        }
        self.with_attributes(Attributes { retry_state: &self.retry_state }, None)
    }

    fn with_attributes<Attributes>(
        &self,
        attributes: Attributes,
        links: Option<Links>,
    ) -> Object<Attributes> {
        Object { id: self.id, r#type: "validation", attributes, links }
    }

    /// The CEP is there to fetch once the payment was found, and not for any other status.
    fn links(&self) -> Links {
        let this = format!("/v1/validations/{}", self.id);
        let cep = |format| (self.status == Status::Valid).then(|| format!("{this}/cep?format={format}"));
        Links { cep_xml: cep("xml"), cep_pdf: cep("pdf"), this }
    }
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

/// What a verdict makes of a validation. [`Verdict::RateLimited`] is not for who asks directly: that is 503
/// ([`Failure::banxico_rate_limit_exhausted`]), and nothing is kept.
impl From<Verdict> for Status {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Valid => Self::Valid,
            Verdict::NotFound => Self::NotFound,
            Verdict::CepUnavailable | Verdict::RateLimited => Self::CepUnavailable,
            Verdict::Returned => Self::Returned,
            Verdict::Error => Self::Error,
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

/// A resource among others of its type.
#[derive(Serialize)]
struct Object<Attributes> {
    id: Uuid,
    r#type: &'static str,
    attributes: Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links>,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cep_xml: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cep_pdf: Option<String>,
}

#[cfg(test)]
mod tests;
