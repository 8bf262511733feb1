//! The beneficiary's account.

use std::fmt;

use serde::{Serialize, Serializer};

use super::bank::Bank;

/// A beneficiary's account: the digits of a CLABE, a card or a mobile number. The check digit is
/// valid for the kinds that have one. Serialises as the bare digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    digits: String,
    kind: AccountKind,
}

impl Account {
    /// Parses an account, ignoring spaces and hyphens.
    ///
    /// # Errors
    /// The first that applies: it has other characters, it is not 10, 16 or 18 digits long, or its
    /// check digit is wrong.
    pub fn parse(text: &str) -> Result<Self, AccountError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AccountError::Format);
        }
        match kind(&digits).ok_or(AccountError::Length)? {
            AccountKind::Card if !passes_luhn(&digits) => Err(AccountError::CardLuhn),
            AccountKind::Clabe if !is_clabe(&digits) => Err(AccountError::ClabeChecksum),
            kind => Ok(Self { digits, kind }),
        }
    }

    /// Returns the bare digits.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// Returns the kind of number, which follows from its length.
    pub fn kind(&self) -> AccountKind {
        self.kind
    }

    /// Returns the bank that keeps the account. Only a CLABE identifies its bank, by its first
    /// three digits. Returns `None` for the other kinds, and for a CLABE prefix that no bank in the
    /// catalogue has.
    pub fn bank(&self) -> Option<&'static Bank> {
        match self.kind {
            AccountKind::Clabe => Bank::with_code(&self.digits[..3]),
            AccountKind::Card | AccountKind::Phone => None,
        }
    }
}

/// Shows only the last four digits: account numbers are personal data and do not belong in logs.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account(…{})", &self.digits[self.digits.len() - 4..])
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.digits)
    }
}

/// The kind of an account number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A mobile number of 10 digits.
    Phone,
    /// A card of 16 digits.
    Card,
    /// A standardised bank code of 18 digits.
    Clabe,
}

/// The reason why a text is not an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Characters other than digits, spaces and hyphens.
    #[error("an account has digits only")]
    Format,
    /// Not 10, 16 or 18 digits.
    #[error("an account has 10, 16 or 18 digits")]
    Length,
    /// The check digit of a CLABE is wrong.
    #[error("the check digit of the CLABE is wrong")]
    ClabeChecksum,
    /// The card fails the Luhn check.
    #[error("the check digit of the card is wrong")]
    CardLuhn,
}

fn kind(digits: &str) -> Option<AccountKind> {
    match digits.len() {
        10 => Some(AccountKind::Phone),
        16 => Some(AccountKind::Card),
        18 => Some(AccountKind::Clabe),
        _ => None,
    }
}

/// Checks a CLABE: with the weights 3, 7, 1 over 17 digits, the check digit completes the sum to a
/// multiple of ten. The published rule adds only the last digit of each product, which is the same
/// modulo ten.
fn is_clabe(digits: &str) -> bool {
    let weights = [3, 7, 1].into_iter().cycle().take(17).chain([1]);
    digit_values(digits).zip(weights).map(|(digit, weight)| digit * weight).sum::<u32>().is_multiple_of(10)
}

/// Checks a card number by ISO/IEC 7812-1, annex B: every second digit from the right is doubled,
/// and the sum of the digits of all results is a multiple of ten.
fn passes_luhn(digits: &str) -> bool {
    let doubled = |digit: u32| digit * 2 / 10 + digit * 2 % 10;
    let sum: u32 = digit_values(digits)
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 1 { doubled(digit) } else { digit })
        .sum();
    sum.is_multiple_of(10)
}

fn digit_values(digits: &str) -> impl DoubleEndedIterator<Item = u32> + '_ {
    digits.bytes().map(|byte| u32::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_account_is_a_valid_clabe_card_or_phone_number() {
        use AccountError::{CardLuhn, ClabeChecksum, Format, Length};
        let cases = [
            ("012180004412345678", Ok(AccountKind::Clabe)),
            ("002010077777777771", Ok(AccountKind::Clabe)),
            ("0121 8000 4412 3456 78", Ok(AccountKind::Clabe)),
            ("012-180-00441234567-8", Ok(AccountKind::Clabe)),
            (" 012180004412345678 ", Ok(AccountKind::Clabe)),
            ("012180004412345679", Err(ClabeChecksum)),
            ("021180004412345678", Err(ClabeChecksum)),
            ("4111111111111111", Ok(AccountKind::Card)),
            ("5555-5555-5555-4444", Ok(AccountKind::Card)),
            ("4111111111111112", Err(CardLuhn)),
            ("5512345678", Ok(AccountKind::Phone)),
            ("55 1234 5678", Ok(AccountKind::Phone)),
            ("12345678", Err(Length)),
            ("01218000441234567", Err(Length)),
            ("1234567890123456789012", Err(Length)),
            ("", Err(Length)),
            ("- -", Err(Length)),
            ("ABCDEFGHIJKLMNOPQR", Err(Format)),
            ("01218000441234567A", Err(Format)),
            ("+525512345678", Err(Format)),
            ("0121.8000", Err(Format)),
            ("٠١٢١٨٠٠٠٤٤", Err(Format)),
        ];
        for (text, expected) in cases {
            assert_eq!(Account::parse(text).map(|account| account.kind()), expected, "{text:?}");
        }
    }

    #[test]
    fn only_a_clabe_identifies_its_bank() {
        let bank = |text| Account::parse(text).unwrap().bank().map(|bank| bank.spei_code);
        assert_eq!(bank("012180004412345678"), Some("40012"));
        assert_eq!(bank("002010077777777771"), Some("40002"));
        assert_eq!(bank("000000000000000000"), None, "a prefix of no bank");
        assert_eq!(bank("4111111111111111"), None);
        assert_eq!(bank("5512345678"), None);
    }

    #[test]
    fn debug_output_shows_only_the_last_four_digits() {
        let account = Account::parse("012180004412345678").unwrap();
        assert_eq!(format!("{account:?}"), "Account(…5678)");
    }

    /// Computes the check digit literally as the published rule says.
    fn check_digit(digits: &[u8]) -> u8 {
        const WEIGHTS: [u8; 17] = [3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7];
        let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit * weight % 10)).sum();
        u8::try_from((10 - sum % 10) % 10).unwrap()
    }

    proptest! {
        #[test]
        fn exactly_one_check_digit_makes_a_valid_clabe(first in prop::collection::vec(0u8..10, 17)) {
            let body: String = first.iter().map(|digit| char::from(b'0' + digit)).collect();
            let valid: Vec<u8> =
                (0..10).filter(|last| Account::parse(&format!("{body}{last}")).is_ok()).collect();
            prop_assert_eq!(valid, [check_digit(&first)]);
        }

        #[test]
        fn one_wrong_digit_is_always_noticed(
            first in prop::collection::vec(0u8..10, 17),
            place in 0usize..18,
            shift in 1u8..10,
        ) {
            let mut digits = first.clone();
            digits.push(check_digit(&first));
            digits[place] = (digits[place] + shift) % 10;
            let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
            prop_assert_eq!(Account::parse(&text), Err(AccountError::ClabeChecksum));
        }

        #[test]
        fn exactly_one_check_digit_makes_a_valid_card(body in "[0-9]{15}", place in 0usize..15, shift in 1u8..10) {
            let valid: Vec<String> = (0..10).map(|last| format!("{body}{last}"))
                .filter(|text| Account::parse(text).is_ok())
                .collect();
            prop_assert_eq!(valid.len(), 1);
            let mut digits = valid[0].clone().into_bytes();
            digits[place] = b'0' + (digits[place] - b'0' + shift) % 10;
            let text = String::from_utf8(digits).unwrap();
            prop_assert_eq!(Account::parse(&text), Err(AccountError::CardLuhn));
        }
    }
}
