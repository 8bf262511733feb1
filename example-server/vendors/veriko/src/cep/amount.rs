//! Amounts of money.

use platform::decimal::decimal;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Serialize, Serializer};

/// An amount in Mexican pesos: greater than 0, at most 999 999 999 999.99, in whole cents.
///
/// It is exact: it is parsed from its decimal digits and never passes through a double. It
/// serialises as a number without trailing zeros (`15000.5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    cents: i64,
}

impl Amount {
    /// Twelve digits of pesos and two of cents. Clients read JSON numbers into doubles, and every
    /// amount up to this one is exact in a double.
    const MAX_CENTS: i64 = 99_999_999_999_999;

    /// Parses the literal text of a JSON number. Only its value counts, so an exponent and trailing
    /// zeros are allowed.
    ///
    /// # Errors
    /// If `literal` is not a number, or its value is outside the bounds of the type.
    pub fn from_number(literal: &str) -> Result<Self, AmountError> {
        let cents = decimal(literal).and_then(|pesos| pesos.checked_mul(Decimal::ONE_HUNDRED));
        let whole = cents.filter(Decimal::is_integer).and_then(|cents| cents.to_i64());
        whole.and_then(Self::from_cents).ok_or(AmountError)
    }

    /// Parses a number that was sent as text: digits, and at most one decimal point between them.
    ///
    /// # Errors
    /// As for [`from_number`](Self::from_number), and also if the text has an exponent.
    pub fn from_text(text: &str) -> Result<Self, AmountError> {
        if text.contains(['e', 'E']) { Err(AmountError) } else { Self::from_number(text) }
    }

    /// Creates an amount from cents. Returns `None` if it is outside the bounds of the type.
    pub fn from_cents(cents: i64) -> Option<Self> {
        (1..=Self::MAX_CENTS).contains(&cents).then_some(Self { cents })
    }

    /// Returns the amount in cents, the form in which amounts are stored and compared.
    pub fn cents(self) -> i64 {
        self.cents
    }

    /// Returns the amount in pesos, without trailing zeros.
    pub fn pesos(self) -> Decimal {
        Decimal::new(self.cents, 2).normalize()
    }
}

/// Serialises an integer if there are no cents, otherwise a double.
///
/// The double's text is exact: a decimal of up to 15 digits is the shortest text of its double, and
/// an amount has at most 14.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.cents % 100 == 0 {
            return serializer.serialize_i64(self.cents / 100);
        }
        // The integer is below 2^53 and division rounds correctly, so this is the double nearest to
        // the amount.
        #[allow(clippy::cast_precision_loss)]
        serializer.serialize_f64(self.cents as f64 / 100.0)
    }
}

/// The error for a value that is not an amount in pesos and cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sum greater than zero with at most two decimals")]
pub struct AmountError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_read_by_its_value_and_exactly() {
        let cases = [
            ("15000.5", Some("15000.5")),
            ("15000.50", Some("15000.5")),
            ("8500", Some("8500")),
            ("8500.00", Some("8500")),
            ("100.000", Some("100")),
            ("0.01", Some("0.01")),
            ("1e3", Some("1000")),
            ("1.5E+3", Some("1500")),
            ("1.23456e4", Some("12345.6")),
            ("1000e-3", Some("1")),
            ("999999999999.99", Some("999999999999.99")),
            // As doubles, 0.29 * 100 is 28.999…, and the next one is inexact too.
            ("0.29", Some("0.29")),
            ("90071992547.93", Some("90071992547.93")),
            ("0", None),
            ("0.00", None),
            ("-0", None),
            ("-100", None),
            ("0.001", None),
            ("100.005", None),
            ("100.0000000000000000000000000000000001", None),
            ("100.0000000000000000000000001", None),
            ("79228162514.264337593543950335", None),
            ("1.0000000000000000000000000000001e2", None),
            ("1e-5", None),
            ("1000000000000", None),
            ("1e12", None),
            ("1e999", None),
            ("1e4294967296", None),
            ("1e-4294967296", None),
            ("1e99999999999999999999", None),
            ("", None),
            (".", None),
            (".5", None),
            ("5.", None),
            ("1e", None),
            ("1e+", None),
            ("1e2.5", None),
            ("+5", None),
            ("--5", None),
            ("1_000", None),
            ("1,000.50", None),
            ("$500", None),
            ("1.2.3", None),
            ("0x10", None),
            ("NaN", None),
            ("١٠", None),
        ];
        for (literal, expected) in cases {
            let read =
                Amount::from_number(literal).ok().map(|amount| serde_json::to_string(&amount).unwrap());
            assert_eq!(read.as_deref(), expected, "{literal}");
        }
    }

    #[test]
    fn text_has_no_exponent() {
        assert_eq!(Amount::from_text("15000.50").unwrap().cents(), 1_500_050);
        for text in ["1e3", "1E3", "1e-5"] {
            assert_eq!(Amount::from_text(text), Err(AmountError), "{text}");
        }
    }

    #[test]
    fn cents_out_of_bounds_are_no_amount() {
        for cents in [0, -1, i64::MIN, Amount::MAX_CENTS + 1, i64::MAX] {
            assert_eq!(Amount::from_cents(cents), None, "{cents}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_amount_survives_a_round_trip(cents in prop_oneof![
            1..=Amount::MAX_CENTS,
            1..=1_000_000_i64,
            Amount::MAX_CENTS - 1_000_000..=Amount::MAX_CENTS,
        ]) {
            let amount = Amount::from_cents(cents).unwrap();
            prop_assert_eq!(amount.cents(), cents);
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(&json, &amount.pesos().to_string());
            prop_assert_eq!(Amount::from_number(&json), Ok(amount));
            prop_assert_eq!(Amount::from_text(&json), Ok(amount));
            let written = format!("{}.{:02}", cents / 100, cents % 100);
            prop_assert_eq!(Amount::from_text(&written), Ok(amount));
            // What a client gets if it reads numbers into doubles.
            prop_assert_eq!(format!("{:.2}", json.parse::<f64>().unwrap()), written);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+0-9.eE_, ]{0,40}") {
            let _ = Amount::from_number(&text);
        }
    }
}
