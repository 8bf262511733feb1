//! Parsers for the values of a receipt, as banks write them.

use jiff::civil::Date;

use super::fold;
use crate::cep::{Account, Amount, Bank, Reference, TrackingKey};

const MONTHS: [&str; 12] =
    ["ENE", "FEB", "MAR", "ABR", "MAY", "JUN", "JUL", "AGO", "SEP", "OCT", "NOV", "DIC"];

/// Parses a date: `2025-03-15`, `15/03/2025`, `15/mar/25`, `15 de marzo de 2025`.
pub(super) fn date(text: &str) -> Option<Date> {
    let folded: String = text.chars().map(fold).collect();
    let words: Vec<&str> = folded
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !matches!(*word, "DE" | "DEL"))
        .collect();
    words.windows(3).find_map(|three| match three {
        [year, month, day] if year.len() == 4 && is_digits(year) => of(year, month, day),
        [day, month, year] => of(year, month, day),
        _ => None,
    })
}

fn of(year: &str, month: &str, day: &str) -> Option<Date> {
    let year: i16 = match (year.len(), is_digits(year)) {
        (4, true) => year.parse().ok()?,
        (2, true) => 2000 + year.parse::<i16>().ok()?,
        _ => return None,
    };
    let month: i8 = if is_digits(month) {
        month.parse().ok()?
    } else {
        let place = MONTHS.iter().position(|name| month.starts_with(name))?;
        i8::try_from(place).ok()? + 1
    };
    // SPEI began in 2004.
    Date::new(year, month, day.parse().ok()?).ok().filter(|date| date.year() >= 2004)
}

/// Parses an amount: `$15,000.50`, `15000.50 MXN`, `$ 8,500`.
pub(super) fn amount(text: &str) -> Option<Amount> {
    let begin = match text.find('$') {
        Some(sign) => sign + 1,
        None => text.find(|c: char| c.is_ascii_digit())?,
    };
    let number: String = text[begin..]
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '.'))
        .filter(|c| *c != ',')
        .collect();
    Amount::from_text(number.trim_end_matches('.')).ok()
}

/// Parses a tracking key: one word of 6 to 30 letters and digits, with at least one digit. Hyphens
/// within it are allowed.
pub(super) fn tracking_key(text: &str) -> Option<TrackingKey> {
    let word = text.split_whitespace().map(trimmed).find(|word| !word.is_empty())?;
    let fits = word.len() >= 6
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && word.bytes().any(|byte| byte.is_ascii_digit());
    if fits { TrackingKey::parse(word) } else { None }
}

pub(super) fn reference(text: &str) -> Option<Reference> {
    text.split_whitespace().map(trimmed).find(|word| !word.is_empty()).and_then(Reference::parse)
}

/// Parses an account, in one group of digits or several. Its check digit shows whether it is
/// complete.
pub(super) fn account(text: &str) -> Option<Account> {
    let groups = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, ' ' | '-')));
    groups
        .filter(|group| group.bytes().any(|byte| byte.is_ascii_digit()))
        .find_map(|group| Account::parse(group).ok())
}

/// Returns the bank with the longest name at the start of the text. `S.A.` or another column may
/// follow.
pub(super) fn bank(text: &str) -> Option<&'static Bank> {
    let words: Vec<&str> =
        text.trim_start_matches(|c: char| !c.is_alphanumeric()).split_whitespace().collect();
    (1..=words.len()).rev().find_map(|count| Bank::find(&words[..count].join(" ")))
}

fn trimmed(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn is_digits(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}
