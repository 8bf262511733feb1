//! The queries of lists: pages, searches, days, and the errors of parameters.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::{Failure, FieldError};
use super::payment::day;
use platform::query;

/// Reads the parameters of a query and passes each to `set`, trimmed. The last value of a repeated
/// parameter counts. Parameters that are not in `names` are ignored, and so are empty ones, except
/// `client_ref`.
///
/// # Errors
/// 422 `invalid_filter`, with one error for each parameter that `set` does not accept.
pub(super) fn read(
    query: &str,
    names: &[&str],
    mut set: impl FnMut(&str, &str) -> Result<(), Expected>,
) -> Result<(), Failure> {
    let is_known = |name: &str| names.contains(&name.strip_suffix("[]").unwrap_or(name));
    let mut errors = Vec::new();
    for (name, value) in query::last_values(query, is_known) {
        let value = value.trim();
        let result = if name.ends_with("[]") {
            // A list where one value is expected. Ignoring it would leave a filter out.
            Err(ONE_VALUE)
        } else if value.is_empty() && name != "client_ref" {
            Ok(())
        } else {
            set(&name, value)
        };
        if let Err(expected) = result {
            errors.push(FieldError::invalid_filter(&name, expected.english, expected.spanish));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::unprocessable(errors)) }
}

/// The values that a parameter accepts, in words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) english: &'static str,
    pub(super) spanish: &'static str,
}

const ONE_VALUE: Expected =
    Expected { english: "one value, not a list", spanish: "un solo valor, no una lista" };
pub(super) const INTEGER: Expected = Expected { english: "an integer", spanish: "un entero" };
const DAY: Expected = Expected {
    english: "a day of the calendar, as YYYY-MM-DD",
    spanish: "un día del calendario, como AAAA-MM-DD",
};
const SEARCH: Expected =
    Expected { english: "text of at most 100 characters", spanish: "texto de 100 caracteres como máximo" };
/// One page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub(super) number: u32,
    pub(super) size: u32,
}

impl Page {
    /// Returns page `number` of `size` items. Both are at least 1.
    pub(super) fn of(number: u32, size: u32) -> Self {
        Self { number: number.max(1), size: size.max(1) }
    }

    /// The number of items before this page.
    pub fn offset(self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.size)
    }

    /// The maximum number of items on this page.
    pub fn limit(self) -> u32 {
        self.size
    }

    /// Returns `meta.pagination` for a list of `total` items.
    pub fn pagination(self, total: u64) -> Pagination {
        let total_pages = total.div_ceil(u64::from(self.size));
        Pagination { page: self.number, per_page: self.size, total, total_pages }
    }
}

/// The first page of 10.
impl Default for Page {
    fn default() -> Self {
        Self { number: 1, size: 10 }
    }
}

/// `meta.pagination`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pagination {
    #[schema(minimum = 1, example = 1)]
    page: u32,
    #[schema(minimum = 1, example = 10)]
    per_page: u32,
    #[schema(example = 1)]
    total: u64,
    #[schema(example = 1)]
    total_pages: u64,
}

/// Text to search for, at most 100 characters, without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    text: String,
    digits: Option<String>,
}

impl Search {
    pub(super) const MAX_CHARS: usize = 100;

    /// The text in lower case.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digits alone, if the text consists of digits, spaces and hyphens. Account numbers are
    /// searched for them.
    pub fn digits(&self) -> Option<&str> {
        self.digits.as_deref()
    }

    /// Returns the pattern of an SQL `LIKE … ESCAPE '\'` that finds [`text`](Self::text) anywhere.
    /// The wildcards of `LIKE` are escaped.
    pub fn like_pattern(&self) -> String {
        let mut pattern = String::from("%");
        for c in self.text.chars() {
            if matches!(c, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('%');
        pattern
    }

    pub(super) fn parse(value: &str) -> Result<Self, Expected> {
        if value.chars().count() > Self::MAX_CHARS || value.contains('\0') {
            return Err(SEARCH);
        }
        let digits: String = value.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self { text: value.to_lowercase(), digits: all_digits.then_some(digits) })
    }
}

/// Reads an integer and clamps it to `1..=max`.
pub(super) fn clamped(value: &str, max: u32) -> Result<u32, Expected> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(INTEGER);
    }
    if value.starts_with('-') {
        return Ok(1);
    }
    // Digits that do not fit are too large.
    Ok(digits.parse::<u32>().unwrap_or(u32::MAX).clamp(1, max))
}

/// Returns the start of the day in UTC, `days_later` days later.
pub(super) fn midnight_of(value: &str, days_later: i64) -> Result<Timestamp, Expected> {
    let begin = || day(value)?.checked_add(days_later.days()).ok()?.to_zoned(TimeZone::UTC).ok();
    begin().map(|midnight| midnight.timestamp()).ok_or(DAY)
}
