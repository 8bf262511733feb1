//! Sums of money.

use platform::decimal::decimal;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Serialize, Serializer};

/// A sum in Mexican pesos: more than nothing, at most 999 999 999 999.99, in whole cents. Exact: it is read by its digits,
/// and never through a double.
///
/// Serialises as a number without trailing zeros (`15000.5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    cents: i64,
}

impl Amount {
    /// Twelve digits of pesos, two of cents: every such sum is also exact in the doubles that clients read JSON numbers into.
    const MAX_CENTS: i64 = 99_999_999_999_999;

    /// Reads a JSON number by its literal text. It may have an exponent, and zeros that change nothing: its value counts.
    ///
    /// # Errors
    /// It is no such number, or the value is out of the bounds of the type.
    pub fn from_number(literal: &str) -> Result<Self, AmountError> {
        let cents = decimal(literal).and_then(|pesos| pesos.checked_mul(Decimal::ONE_HUNDRED));
        let whole = cents.filter(Decimal::is_integer).and_then(|cents| cents.to_i64());
        whole.and_then(Self::from_cents).ok_or(AmountError)
    }

    /// Reads a number that was sent as text: digits, and at most one point between them.
    ///
    /// # Errors
    /// As [`from_number`](Self::from_number), and it has an exponent.
    pub fn from_text(text: &str) -> Result<Self, AmountError> {
        if text.contains(['e', 'E']) { Err(AmountError) } else { Self::from_number(text) }
    }

    /// `None` if it is out of the bounds of the type.
    pub fn from_cents(cents: i64) -> Option<Self> {
        (1..=Self::MAX_CENTS).contains(&cents).then_some(Self { cents })
    }

    /// The sum in cents, for where sums are stored and compared.
    pub fn cents(self) -> i64 {
        self.cents
    }

    /// The sum in pesos, without zeros at its end.
    pub fn pesos(self) -> Decimal {
        Decimal::new(self.cents, 2).normalize()
    }
}

/// An integer where there are no cents. Else a double, which is exact as text: a number of up to 15 digits, and there are 14,
/// is the shortest one that its double is written with.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.cents % 100 == 0 {
            return serializer.serialize_i64(self.cents / 100);
        }
        // Below 2^53, and a division is rounded correctly, so that this is the double next to the sum.
        #[allow(clippy::cast_precision_loss)]
        serializer.serialize_f64(self.cents as f64 / 100.0)
    }
}

/// It is no sum in pesos and cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sum greater than zero with at most two decimals")]
pub struct AmountError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_counts_by_its_value_and_never_loses_a_cent() {
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
            // A double makes 0.29 * 100 into 28.999…, and of this the next one.
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
        fn every_sum_comes_back_as_it_went(cents in prop_oneof![
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
            // What a client gets that reads numbers into doubles.
            prop_assert_eq!(format!("{:.2}", json.parse::<f64>().unwrap()), written);
        }

        #[test]
        fn no_text_is_too_odd(text in "[-+0-9.eE_, ]{0,40}") {
            let _ = Amount::from_number(&text);
        }
    }
}
