//! Exact decimal numbers.

use rust_decimal::Decimal;

/// Parses a JSON number, with leading zeros allowed, to its exact value. Returns `None` if the text
/// is not a number or the value needs more than 28 digits.
pub fn decimal(literal: &str) -> Option<Decimal> {
    let (base, exponent) = match literal.split_once(['e', 'E']) {
        Some((base, exponent)) => (base, Some(exponent)),
        None => (literal, None),
    };
    let unsigned = base.strip_prefix('-').unwrap_or(base);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    // `from_scientific` would round a base that is too long, so parse the base by itself first.
    let base = Decimal::from_str_exact(base).ok()?;
    match exponent {
        Some(exponent) => {
            digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)).then_some(())?;
            Decimal::from_scientific(literal).ok()
        }
        None => Some(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_exactly_or_not_at_all() {
        for (literal, value) in [
            ("0.10", Some(Decimal::new(1, 1))),
            ("007", Some(Decimal::from(7))),
            ("-2.5e1", Some(Decimal::from(-25))),
            ("1e999", None),
            ("1e", None),
            (".5", None),
            ("5.", None),
            ("+5", None),
            ("NaN", None),
            ("100.0000000000000000000000000000000001", None),
        ] {
            assert_eq!(decimal(literal), value, "{literal}");
        }
    }
}
