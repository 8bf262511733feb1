//! A payment somebody asks about.

use jiff::civil::Date;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::account::Account;
use super::amount::Amount;
use super::bank::Bank;

/// A SPEI transfer as who asks describes it. Every field is in order, and either the tracking key or the reference is
/// there: [`PaymentRequest`](crate::PaymentRequest) makes it and nothing else does.
///
/// Serialises to what was asked, under the names of the request; read again by
/// [`restore`](crate::payment::restore), that is the same payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Payment {
    #[schema(value_type = String, format = Date, example = "2025-03-15")]
    pub(crate) fecha: Date,
    #[schema(value_type = f64, example = 15000.5)]
    pub(crate) monto: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "MXBA20250315001234")]
    pub(crate) clave_rastreo: Option<TrackingKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "1234567")]
    pub(crate) referencia_numerica: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "BANAMEX")]
    pub(crate) emisor: Option<Party>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "BBVA MEXICO")]
    pub(crate) receptor: Option<Party>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "012180004412345678")]
    pub(crate) cuenta_beneficiaria: Option<Account>,
    /// As the number 1, or not at all.
    #[serde(skip_serializing_if = "std::ops::Not::not", serialize_with = "as_number")]
    #[schema(value_type = Option<u8>, nullable = false, example = 1)]
    pub(crate) receptor_participante: bool,
}

impl Payment {
    /// The day it was sent.
    pub fn fecha(&self) -> Date {
        self.fecha
    }

    /// How much.
    pub fn monto(&self) -> Amount {
        self.monto
    }

    /// What the sending bank calls it. Where it is there, Banxico is asked by it, and not by the reference.
    pub fn clave_rastreo(&self) -> Option<&TrackingKey> {
        self.clave_rastreo.as_ref()
    }

    /// What the sender called it.
    pub fn referencia_numerica(&self) -> Option<&Reference> {
        self.referencia_numerica.as_ref()
    }

    /// Where it went.
    pub fn cuenta_beneficiaria(&self) -> Option<&Account> {
        self.cuenta_beneficiaria.as_ref()
    }

    /// Whether it went to the receiving bank itself, as what pays back a credit does, and not to one of its customers.
    pub fn is_to_the_bank(&self) -> bool {
        self.receptor_participante
    }

    /// The bank it came from, if that is known.
    pub fn sending_bank(&self) -> Option<&'static Bank> {
        self.emisor.as_ref().map(Party::bank)
    }

    /// The bank it went to: the one named, else the one of the account, if that is known.
    pub fn receiving_bank(&self) -> Option<&'static Bank> {
        receiving_bank(self.receptor.as_ref(), self.cuenta_beneficiaria.as_ref())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
fn as_number<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}

/// The bank named, else the one of the account.
pub(crate) fn receiving_bank(receptor: Option<&Party>, account: Option<&Account>) -> Option<&'static Bank> {
    receptor.map(Party::bank).or_else(|| account?.bank())
}

/// *Clave de rastreo*: 1 to 30 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackingKey(String);

impl TrackingKey {
    /// Reads a key, without what copying from a page adds to it: space around it, and characters that take no room.
    /// `None` if it has not 1 to 30 characters then, or a control character, `<`, `>` or a backslash.
    pub fn parse(text: &str) -> Option<Self> {
        let visible: String = text
            .chars()
            .filter(|c| !matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}'))
            .collect();
        let key = visible.trim();
        let fits = (1..=30).contains(&key.chars().count())
            && !key.contains(|c: char| c.is_control() || matches!(c, '<' | '>' | '\\'));
        fits.then(|| Self(key.to_owned()))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// *Referencia numérica*: 1 to 7 digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference(String);

impl Reference {
    /// Reads a reference; spaces in it mean nothing, leading zeros stay. `None` if it is not 1 to 7 digits then.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|&c| c != ' ').collect();
        let fits = (1..=7).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then_some(Self(digits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A bank as a request names it, and which one that is. Serialises as the name given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    text: String,
    bank: &'static Bank,
}

impl Party {
    const MAX_CHARS: usize = 255;

    /// `None` if it names no bank ([`Bank::find`]), or is longer than 255 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bank = if text.chars().count() <= Self::MAX_CHARS { Bank::find(text)? } else { return None };
        Some(Self { text: text.to_owned(), bank })
    }

    /// Which bank it is.
    pub fn bank(&self) -> &'static Bank {
        self.bank
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracking_key_is_1_to_30_characters_of_what_banks_use() {
        let longest = "Á".repeat(30);
        let cases = [
            ("MXBA20250315001234", Some("MXBA20250315001234")),
            (" MXBA 2025-03/15.#@_, ", Some("MXBA 2025-03/15.#@_,")),
            ("\u{FEFF}MX\u{200B}BA\u{2060}", Some("MXBA")),
            (" \u{200B} MXBA", Some("MXBA")),
            (longest.as_str(), Some(longest.as_str())),
            ("1", Some("1")),
            ("", None),
            (" \u{200B}", None),
            ("MXBA202503150012345678901234567890", None),
            ("MXBA<2025", None),
            ("MXBA>2025", None),
            ("MXBA\\2025", None),
            ("MXBA\n2025", None),
            ("MXBA\u{7F}2025", None),
        ];
        for (text, expected) in cases {
            let key = TrackingKey::parse(text);
            assert_eq!(key.as_ref().map(TrackingKey::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn a_reference_is_1_to_7_digits() {
        let cases = [
            ("1234567", Some("1234567")),
            ("0000001", Some("0000001")),
            (" 12 34 567 ", Some("1234567")),
            ("7", Some("7")),
            ("", None),
            (" ", None),
            ("12345678", None),
            ("ABC1234", None),
            ("-1", None),
            ("12-34", None),
            ("١", None),
        ];
        for (text, expected) in cases {
            let reference = Reference::parse(text);
            assert_eq!(reference.as_ref().map(Reference::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn a_party_keeps_the_name_it_was_given() {
        let party = Party::parse(" bbva méxico ").unwrap();
        assert_eq!(serde_json::to_string(&party).unwrap(), "\"bbva méxico\"");
        assert_eq!(party.bank().spei_code, "40012");
        assert_eq!(
            Party::parse(&format!("BBVA{}MEXICO", " ".repeat(245))).unwrap().bank().spei_code,
            "40012"
        );
        assert_eq!(Party::parse(&format!("BBVA{}MEXICO", " ".repeat(246))), None);
    }
}
