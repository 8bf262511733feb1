//! Amounts of money, and rates.

use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use platform::decimal::decimal;

/// An exact amount of money, parsed from its decimal digits and never through a double.
///
/// It has at most fifteen significant digits, up to four of them after the decimal point. Each such
/// number is the shortest decimal form of its nearest double, so it can be written as a JSON number
/// without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = f64, example = 5000)]
pub(crate) struct Money(Decimal);

impl Money {
    pub(crate) const ZERO: Self = Self(Decimal::ZERO);
    /// Eleven digits before the decimal point, four after it.
    const MAX: Decimal = Decimal::from_parts(2_764_472_319, 232_830, 0, false, 4);
    const MAX_DECIMALS: u32 = 4;

    /// Parses a non-negative amount from the literal text of a JSON number. Returns `None` if it is
    /// negative, too large, or has more decimals than the currency.
    pub(crate) fn read(literal: &str, currency: Option<Currency>) -> Option<Self> {
        let sum = decimal(literal)?.normalize();
        let decimals = currency.map_or(Self::MAX_DECIMALS, Currency::decimals);
        (!sum.is_sign_negative() && sum <= Self::MAX && sum.scale() <= decimals).then_some(Self(sum))
    }

    /// Rounds an amount to cents, half away from zero, and clamps it to the bounds of the type.
    pub(crate) fn rounded(sum: Decimal) -> Self {
        let cents = sum.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        Self(cents.clamp(-Self::MAX, Self::MAX).normalize())
    }

    pub(crate) fn value(self) -> Decimal {
        self.0
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// A rate with up to four decimals. Its unit depends on the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = f64, example = 12.5)]
pub(crate) struct Rate(Decimal);

impl Rate {
    /// Creates a rate from hundredths: `hundredths(1250)` is 12.5.
    pub(crate) const fn hundredths(hundredths: u32) -> Self {
        Self(Decimal::from_parts(hundredths, 0, 0, false, 2))
    }

    /// Returns the ratio of two amounts, rounded to four decimals. Returns `None` if `whole` is
    /// zero.
    pub(crate) fn of(part: Decimal, whole: Decimal) -> Option<Self> {
        let rate = part.checked_div(whole)?;
        Some(Self(rate.round_dp_with_strategy(4, RoundingStrategy::MidpointAwayFromZero).min(Money::MAX)))
    }

    pub(crate) fn value(self) -> Decimal {
        self.0
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// Serialises a number of at most fifteen digits as a JSON number.
fn serialize<S: Serializer>(number: Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    let number = number.normalize();
    if number.is_integer() {
        let whole = i64::try_from(number).map_err(serde::ser::Error::custom)?;
        return serializer.serialize_i64(whole);
    }
    // Parsing the text yields the nearest double, whose shortest decimal form is that text again.
    let double: f64 = number.to_string().parse().map_err(serde::ser::Error::custom)?;
    serializer.serialize_f64(double)
}

/// An ISO 4217 currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Currency(Row);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    code: &'static str,
    decimals: u32,
}

impl Currency {
    /// Returns the number of digits after the decimal point.
    pub(crate) fn decimals(self) -> u32 {
        self.0.decimals
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        let mut known = CURRENCIES
            .iter()
            .flat_map(|(decimals, codes)| codes.split(' ').map(|code| Row { code, decimals: *decimals }));
        known.find(|row| row.code == text).map(Self).ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code)
    }
}

impl ToSchema for Currency {}

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        let codes = CURRENCIES.iter().flat_map(|(_, codes)| codes.split(' '));
        let codes = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
        codes.description(Some("An ISO 4217 currency code.")).examples(["MAD"]).into()
    }
}

/// The error for a code that no currency has.
#[derive(Debug, thiserror::Error)]
#[error("not a currency code of ISO 4217")]
pub(crate) struct UnknownCurrency;

/// The ISO 4217 codes by number of decimals, without funds, metals and test codes.
const CURRENCIES: &[(u32, &str)] = &[
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY \
         COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS \
         INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR \
         MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD \
         SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn serialised(literal: &str, currency: &str) -> Option<String> {
        let currency = currency.parse().ok();
        Money::read(literal, currency).map(|money| serde_json::to_string(&money).unwrap())
    }

    #[test]
    fn an_amount_is_parsed_from_its_digits() {
        for (literal, currency, expected) in [
            ("5000", "MAD", Some("5000")),
            ("5000.00", "MAD", Some("5000")),
            ("0.29", "MAD", Some("0.29")),
            ("1.10", "EUR", Some("1.1")),
            ("1e3", "EUR", Some("1000")),
            ("0", "EUR", Some("0")),
            ("99999999999.99", "EUR", Some("99999999999.99")),
            ("99999999999.9999", "", Some("99999999999.9999")),
            ("1.005", "EUR", None),
            ("1.005", "TND", Some("1.005")),
            ("1.0005", "TND", None),
            ("1.5", "JPY", None),
            ("1.0", "JPY", Some("1")),
            ("100000000000", "EUR", None),
            ("-1", "EUR", None),
            ("-0.01", "EUR", None),
            ("1e999", "EUR", None),
            ("\"5\"", "EUR", None),
        ] {
            assert_eq!(serialised(literal, currency).as_deref(), expected, "{literal} {currency}");
        }
    }

    #[test]
    fn computed_amounts_are_rounded_to_cents() {
        for (sum, expected) in
            [("1.005", "1.01"), ("1.004", "1"), ("-1.005", "-1.01"), ("1e20", "99999999999.9999")]
        {
            let money = Money::rounded(decimal(sum).unwrap());
            assert_eq!(serde_json::to_string(&money).unwrap(), expected, "{sum}");
        }
    }

    #[test]
    fn every_currency_is_listed_once_and_no_other_code_is_accepted() {
        let codes: Vec<_> = CURRENCIES.iter().flat_map(|(_, codes)| codes.split(' ')).collect();
        for (place, code) in codes.iter().enumerate() {
            assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()), "{code}");
            assert!(!codes[place + 1..].contains(code), "{code} is listed twice");
            assert_eq!(code.parse::<Currency>().unwrap().to_string(), **code);
        }
        for code in ["", "mad", "MA", "MADD", "XXX", "EUR USD", " "] {
            assert!(code.parse::<Currency>().is_err(), "{code}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_a_round_trip(whole in 0..100_000_000_000_u64, fraction in 0..10_000_u32) {
            let literal = format!("{whole}.{fraction:04}");
            let money = Money::read(&literal, None).unwrap();
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(Money::read(&json, None), Some(money));
            prop_assert_eq!(format!("{:.4}", json.parse::<f64>().unwrap()), literal);
        }
    }
}
