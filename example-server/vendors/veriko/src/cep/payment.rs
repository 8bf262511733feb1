//! The payment to verify.

use jiff::civil::Date;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::account::Account;
use super::amount::Amount;
use super::bank::Bank;

/// A SPEI transfer, as the caller describes it. Every field is valid, and it has a tracking key, a
/// reference or both. Only [`PaymentRequest`](crate::PaymentRequest) creates it.
///
/// It serialises to the fields of the request. [`restore`](crate::payment::restore) reads them back
/// as an equal payment.
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
    /// The number 1, or left out.
    #[serde(skip_serializing_if = "std::ops::Not::not", serialize_with = "as_number")]
    #[schema(value_type = Option<u8>, nullable = false, example = 1)]
    pub(crate) receptor_participante: bool,
}

impl Payment {
    /// Returns the day on which it was sent.
    pub fn fecha(&self) -> Date {
        self.fecha
    }

    /// Returns the amount.
    pub fn monto(&self) -> Amount {
        self.monto
    }

    /// Returns the tracking key, which the sending bank assigned. If there is one, Banxico is
    /// queried by it and not by the reference.
    pub fn clave_rastreo(&self) -> Option<&TrackingKey> {
        self.clave_rastreo.as_ref()
    }

    /// Returns the reference, which the sender chose.
    pub fn referencia_numerica(&self) -> Option<&Reference> {
        self.referencia_numerica.as_ref()
    }

    /// Returns the account that it went to.
    pub fn cuenta_beneficiaria(&self) -> Option<&Account> {
        self.cuenta_beneficiaria.as_ref()
    }

    /// Returns whether it went to the receiving bank itself, as a loan repayment does, and not to
    /// one of its customers.
    pub fn is_to_the_bank(&self) -> bool {
        self.receptor_participante
    }

    /// Returns the sending bank, if it is known.
    pub fn sending_bank(&self) -> Option<&'static Bank> {
        self.emisor.as_ref().map(Party::bank)
    }

    /// Returns the receiving bank, if it is known: the one that was named, otherwise the account's.
    pub fn receiving_bank(&self) -> Option<&'static Bank> {
        receiving_bank(self.receptor.as_ref(), self.cuenta_beneficiaria.as_ref())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
fn as_number<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}

/// Returns the named bank, otherwise the account's.
pub(crate) fn receiving_bank(receptor: Option<&Party>, account: Option<&Account>) -> Option<&'static Bank> {
    receptor.map(Party::bank).or_else(|| account?.bank())
}

/// *Clave de rastreo*: 1 to 30 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackingKey(String);

impl TrackingKey {
    /// Parses a key. Surrounding white space and zero-width characters, which copying from a page
    /// adds, are removed first. Returns `None` if the rest does not have 1 to 30 characters, or
    /// contains a control character, `<`, `>` or a backslash.
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

    /// Returns the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// *Referencia numérica*: 1 to 7 digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference(String);

impl Reference {
    /// Parses a reference. Spaces are ignored and leading zeros are kept. Returns `None` if it does
    /// not have 1 to 7 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|&c| c != ' ').collect();
        let fits = (1..=7).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then_some(Self(digits))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A bank as the request names it, and the bank that this name refers to. Serialises as the name
/// that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    text: String,
    bank: &'static Bank,
}

impl Party {
    const MAX_CHARS: usize = 255;

    /// Parses the name of a bank. Returns `None` if it does not name a bank ([`Bank::find`]), or is
    /// longer than 255 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bank = if text.chars().count() <= Self::MAX_CHARS { Bank::find(text)? } else { return None };
        Some(Self { text: text.to_owned(), bank })
    }

    /// Returns the bank that the name refers to.
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
    fn a_tracking_key_is_1_to_30_characters_without_markup() {
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
