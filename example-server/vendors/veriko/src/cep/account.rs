//! The account a payment went to.

use std::fmt;

use serde::{Serialize, Serializer};

use super::bank::Bank;

/// A beneficiary's account: the digits of a CLABE, a card or a mobile number, with the check digit in order where the kind
/// has one. Serialises as the bare digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    digits: String,
    kind: AccountKind,
}

impl Account {
    /// Reads an account as people write it, in groups or in one: spaces and hyphens mean nothing.
    ///
    /// # Errors
    /// The first that holds of: it has other characters, it is not 10, 16 or 18 digits long, its check digit is wrong.
    pub fn parse(text: &str) -> Result<Self, AccountError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AccountError::Format);
        }
        match kind(&digits).ok_or(AccountError::Length)? {
            AccountKind::Card if !luhn(&digits) => Err(AccountError::CardLuhn),
            AccountKind::Clabe if !clabe(&digits) => Err(AccountError::ClabeChecksum),
            kind => Ok(Self { digits, kind }),
        }
    }

    /// The digits alone.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// What kind of number it is, which its length tells.
    pub fn kind(&self) -> AccountKind {
        self.kind
    }

    /// The bank that keeps it, if the number says so: a CLABE does by its first three digits. `None` too if no bank we
    /// know has them.
    pub fn bank(&self) -> Option<&'static Bank> {
        match self.kind {
            AccountKind::Clabe => Bank::with_code(&self.digits[..3]),
            AccountKind::Card | AccountKind::Phone => None,
        }
    }
}

/// The last four digits: these are people's accounts, and a log is no place for them.
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

/// What an account's number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A mobile number of 10 digits.
    Phone,
    /// A card of 16 digits.
    Card,
    /// A standardised bank code of 18 digits.
    Clabe,
}

/// Why something is no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Characters other than digits, spaces and hyphens.
    #[error("an account has digits only")]
    Format,
    /// Not 10, 16 or 18 digits.
    #[error("an account has 10, 16 or 18 digits")]
    Length,
    /// The last digit of a CLABE does not follow from the others.
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

/// The weights 3, 7, 1 over 17 digits, and the check digit fills the sum up to a ten. (The rule takes each product by its
/// last digit alone, which is all that a ten sees of it.)
fn clabe(digits: &str) -> bool {
    let weights = [3, 7, 1].into_iter().cycle().take(17).chain([1]);
    values(digits).zip(weights).map(|(digit, weight)| digit * weight).sum::<u32>().is_multiple_of(10)
}

/// ISO/IEC 7812-1, annex B: every second digit from the right is doubled, and the digits of all results make a ten.
fn luhn(digits: &str) -> bool {
    let doubled = |digit: u32| digit * 2 / 10 + digit * 2 % 10;
    let sum: u32 = values(digits)
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 1 { doubled(digit) } else { digit })
        .sum();
    sum.is_multiple_of(10)
}

fn values(digits: &str) -> impl DoubleEndedIterator<Item = u32> + '_ {
    digits.bytes().map(|byte| u32::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_an_account_and_what_is_not() {
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
    fn a_clabe_names_its_bank_and_nothing_else_does() {
        let bank = |text| Account::parse(text).unwrap().bank().map(|bank| bank.spei_code);
        assert_eq!(bank("012180004412345678"), Some("40012"));
        assert_eq!(bank("002010077777777771"), Some("40002"));
        assert_eq!(bank("000000000000000000"), None, "a prefix of no bank");
        assert_eq!(bank("4111111111111111"), None);
        assert_eq!(bank("5512345678"), None);
    }

    #[test]
    fn debug_output_shows_no_more_than_four_digits() {
        let account = Account::parse("012180004412345678").unwrap();
        assert_eq!(format!("{account:?}"), "Account(…5678)");
    }

    /// The check digit by the published rule, the long way.
    fn check_digit(digits: &[u8]) -> u8 {
        const WEIGHTS: [u8; 17] = [3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7, 1, 3, 7];
        let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit * weight % 10)).sum();
        u8::try_from((10 - sum % 10) % 10).unwrap()
    }

    proptest! {
        #[test]
        fn of_the_ten_last_digits_one_makes_a_clabe(first in prop::collection::vec(0u8..10, 17)) {
            let body: String = first.iter().map(|digit| char::from(b'0' + digit)).collect();
            let fitting: Vec<u8> =
                (0..10).filter(|last| Account::parse(&format!("{body}{last}")).is_ok()).collect();
            prop_assert_eq!(fitting, [check_digit(&first)]);
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
        fn of_the_ten_last_digits_one_makes_a_card(body in "[0-9]{15}", place in 0usize..15, shift in 1u8..10) {
            let fitting: Vec<String> = (0..10).map(|last| format!("{body}{last}"))
                .filter(|text| Account::parse(text).is_ok())
                .collect();
            prop_assert_eq!(fitting.len(), 1);
            let mut digits = fitting[0].clone().into_bytes();
            digits[place] = b'0' + (digits[place] - b'0' + shift) % 10;
            let text = String::from_utf8(digits).unwrap();
            prop_assert_eq!(Account::parse(&text), Err(AccountError::CardLuhn));
        }
    }
}
