//! The additional data of validations by receipt.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::cep::{Account, Payment};
use crate::ocr::{Format, Receipt};

/// The text that was read from a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ocr {
    /// The fields that were found, by the names of the request.
    pub(crate) result: Map<String, Value>,
    /// The confidence of the recognition, in percent.
    pub(crate) confidence_percent: u8,
    /// The account that was sent differs from the one on the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account_conflict: Option<AccountConflict>,
}

/// The last digits of the account that was sent, which is used, and of the one on the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountConflict {
    #[schema(example = "5678")]
    sent_last4: String,
    #[schema(example = "9012")]
    read_last4: String,
}

impl Ocr {
    /// Creates the result of reading a receipt. `payment` is the payment that is verified.
    pub(crate) fn of(receipt: &Receipt, confidence: f64, payment: &Payment) -> Self {
        let mut result = Map::new();
        let mut found = |name: &str, value: Option<Value>| {
            result.extend(value.map(|value| (name.to_owned(), value)));
        };
        found("fecha", receipt.fecha.map(shown));
        found("monto", receipt.monto.map(shown));
        found("clave_rastreo", receipt.clave_rastreo.as_ref().map(shown));
        found("referencia_numerica", receipt.referencia_numerica.as_ref().map(shown));
        found("cuenta_beneficiaria", receipt.cuenta_beneficiaria.as_ref().map(shown));
        found("emisor", receipt.emisor.map(|bank| bank.name.into()));
        found("receptor", receipt.receptor.map(|bank| bank.name.into()));
        Self {
            result,
            confidence_percent: percent(confidence),
            account_conflict: conflict(payment.cuenta_beneficiaria(), receipt.cuenta_beneficiaria.as_ref()),
        }
    }
}

/// The state of the picture of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptImage {
    /// It was just received. It is stored with the validation.
    New {
        /// The format.
        format: Format,
        /// The encrypted bytes.
        sealed: String,
    },
    /// It is stored.
    Kept(Format),
    /// The client asked not to keep it.
    NotRetained,
    /// It was deleted at the end of the retention period.
    Expired,
}

impl KeptImage {
    /// Returns the format, while the picture is kept.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::New { format, .. } | Self::Kept(format) => Some(*format),
            Self::NotRetained | Self::Expired => None,
        }
    }

    /// Returns the text for the database column.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::New { format, .. } | Self::Kept(format) => format.extension(),
            Self::NotRetained => "not_retained",
            Self::Expired => "expired",
        }
    }

    /// Parses the text of the database column.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "not_retained" => Some(Self::NotRetained),
            "expired" => Some(Self::Expired),
            format => Format::with_extension(format).map(Self::Kept),
        }
    }
}

fn shown(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("a text or a number serialises")
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn percent(confidence: f64) -> u8 {
    (confidence * 100.0).round().clamp(0.0, 100.0) as u8
}

/// Compares two accounts. Numbers of different lengths are of different kinds and may belong to the
/// same account, so they do not conflict.
fn conflict(used: Option<&Account>, read: Option<&Account>) -> Option<AccountConflict> {
    let (used, read) = (used?.digits(), read?.digits());
    let last4 = |digits: &str| digits[digits.len() - 4..].to_owned();
    (used.len() == read.len() && used != read)
        .then(|| AccountConflict { sent_last4: last4(used), read_last4: last4(read) })
}
