//! What a validation by a picture has beside the others.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::cep::{Account, Payment};
use crate::ocr::{Format, Receipt};

/// What was read off a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ocr {
    /// The fields that were found, under the names of the request.
    pub(crate) result: Map<String, Value>,
    /// How sure the reader is, in hundredths.
    pub(crate) confidence_percent: u8,
    /// The account that was sent is not the one on the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account_conflict: Option<AccountConflict>,
}

/// The account that was sent, which counts, and the one on the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountConflict {
    #[schema(example = "5678")]
    sent_last4: String,
    #[schema(example = "9012")]
    read_last4: String,
}

impl Ocr {
    /// What was read, with the payment that is asked about.
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

/// What became of the picture of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptImage {
    /// It just came, and is kept with the validation.
    New {
        /// What it is.
        format: Format,
        /// Its bytes, sealed.
        sealed: String,
    },
    /// It is kept.
    Kept(Format),
    /// The caller wanted that it is not.
    NotRetained,
    /// It was kept for as long as pictures are.
    Expired,
}

impl KeptImage {
    /// What it is, while it is there.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::New { format, .. } | Self::Kept(format) => Some(*format),
            Self::NotRetained | Self::Expired => None,
        }
    }

    /// As its column has it.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::New { format, .. } | Self::Kept(format) => format.extension(),
            Self::NotRetained => "not_retained",
            Self::Expired => "expired",
        }
    }

    /// The one with this text.
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

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is brought into range")]
fn percent(confidence: f64) -> u8 {
    (confidence * 100.0).round().clamp(0.0, 100.0) as u8
}

/// Of another length it is another kind of number, and may be the same account.
fn conflict(used: Option<&Account>, read: Option<&Account>) -> Option<AccountConflict> {
    let (used, read) = (used?.digits(), read?.digits());
    let last4 = |digits: &str| digits[digits.len() - 4..].to_owned();
    (used.len() == read.len() && used != read)
        .then(|| AccountConflict { sent_last4: last4(used), read_last4: last4(read) })
}
