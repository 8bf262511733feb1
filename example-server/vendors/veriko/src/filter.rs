//! The query of `GET /v1/validations`: which ones, and which page of them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::client_ref::ClientRef;
use super::errors::{Failure, FieldError};
use super::payment::day;
use super::validation::{CycleState, Kind, Status};
use platform::decimal::decimal;

/// What a list is to hold. What is `None`, or empty, leaves all of them in; what is there must hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Which page.
    pub page: Page,
    /// One of these.
    pub statuses: Vec<Status>,
    /// How it was asked for.
    pub kind: Option<Kind>,
    /// Created then or later.
    pub created_from: Option<Timestamp>,
    /// Created earlier.
    pub created_before: Option<Timestamp>,
    /// Somewhere in what was asked.
    pub search: Option<Search>,
    /// Exactly this one.
    pub client_ref: Option<ClientRef>,
    /// This much or more, in cents.
    pub min_cents: Option<i64>,
    /// This much or less, in cents.
    pub max_cents: Option<i64>,
    /// Its retry cycle is there.
    pub retry_state: Option<CycleState>,
}

impl Filter {
    /// Reads the query of a URL, as it stands there. An empty parameter is none, but for `client_ref`; of a parameter that
    /// is there twice the last counts; those it does not know are ignored.
    ///
    /// # Errors
    /// 422 `invalid_filter`, once for each parameter that is not in order. `page` and `per_page` out of range are not: they
    /// are brought into it.
    pub fn parse(query: &str) -> Result<Self, Failure> {
        let mut filter = Self::default();
        let mut faults = Vec::new();
        for (name, value) in last_of_each(query) {
            if let Err(wanted) = filter.set(&name, &value) {
                faults.push(FieldError::invalid_filter(&name, wanted.english, wanted.spanish));
            }
        }
        if faults.is_empty() { Ok(filter) } else { Err(Failure::unprocessable(faults)) }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Wanted> {
        // `from[]=…` would be a list where there is one value: passed over, it would be a filter that was not applied.
        if let Some(name) = name.strip_suffix("[]") {
            return if NAMES.contains(&name) { Err(ONE_VALUE) } else { Ok(()) };
        }
        let value = value.trim();
        if value.is_empty() && name != "client_ref" {
            return Ok(());
        }
        match name {
            "page" => self.page.number = clamped(value, u32::MAX)?,
            "per_page" => self.page.size = clamped(value, Page::MAX_SIZE)?,
            "status" => self.statuses = statuses(value)?,
            "type" => self.kind = Some(value.parse().map_err(|_| KIND)?),
            "from" | "date_from" => self.created_from = Some(midnight_of(value, 0)?),
            "to" | "date_to" => self.created_before = Some(midnight_of(value, 1)?),
            "search" => self.search = Some(Search::parse(value)?),
            "client_ref" => self.client_ref = Some(ClientRef::parse(value).ok_or(CLIENT_REF)?),
            "amount_min" => self.min_cents = Some(cents(value, Decimal::ceil)?),
            "amount_max" => self.max_cents = Some(cents(value, Decimal::floor)?),
            "retry_state" => self.retry_state = Some(value.parse().map_err(|_| RETRY_STATE)?),
            _ => {}
        }
        Ok(())
    }
}

/// The same as parameters of the query.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Which page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// How many on a page: 10 if nothing is said.
    #[param(minimum = 1, maximum = 50)]
    per_page: Option<u32>,
    /// One of these, separated by commas.
    #[param(example = "not_found,error")]
    status: Option<String>,
    /// How it was asked for.
    #[param(inline)]
    r#type: Option<Kind>,
    /// Made on this day, in UTC, or later.
    #[param(format = Date)]
    from: Option<String>,
    /// Made on this day, in UTC, or earlier.
    #[param(format = Date)]
    to: Option<String>,
    /// The same as `from`.
    #[param(format = Date)]
    date_from: Option<String>,
    /// The same as `to`.
    #[param(format = Date)]
    date_to: Option<String>,
    /// Text to look for in what was asked.
    #[param(max_length = 100)]
    search: Option<String>,
    /// Exactly this `client_ref`.
    #[param(min_length = 1, max_length = 64)]
    client_ref: Option<String>,
    /// This amount or more.
    amount_min: Option<f64>,
    /// This amount or less.
    amount_max: Option<f64>,
    /// Where its retries are.
    #[param(inline)]
    retry_state: Option<CycleState>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
}

impl Page {
    const MAX_SIZE: u32 = 50;

    /// This one, of this size; both at least 1.
    pub(super) fn of(number: u32, size: u32) -> Self {
        Self { number: number.max(1), size: size.max(1) }
    }

    /// How many of the list come before it.
    pub fn offset(self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.size)
    }

    /// How many there are on it at most.
    pub fn limit(self) -> u32 {
        self.size
    }

    /// `meta.pagination` for a list of `total`.
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

/// A text to look for, whatever its case: at most 100 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    text: String,
    digits: Option<String>,
}

impl Search {
    pub(super) const MAX_CHARS: usize = 100;

    /// The text, in small letters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For looking in accounts: the digits alone, if there is nothing but digits, spaces and hyphens.
    pub fn digits(&self) -> Option<&str> {
        self.digits.as_deref()
    }

    /// [`text`](Self::text) as the pattern of an SQL `LIKE … ESCAPE '\'` that finds it anywhere. What `LIKE` would take
    /// for a joker stands for itself.
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

    pub(super) fn parse(value: &str) -> Result<Self, Wanted> {
        if value.chars().count() > Self::MAX_CHARS || value.contains('\0') {
            return Err(SEARCH);
        }
        let digits: String = value.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self { text: value.to_lowercase(), digits: all_digits.then_some(digits) })
    }
}

const NAMES: &[&str] = &[
    "page",
    "per_page",
    "status",
    "type",
    "from",
    "to",
    "date_from",
    "date_to",
    "search",
    "client_ref",
    "amount_min",
    "amount_max",
    "retry_state",
];

/// What a parameter must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) english: &'static str,
    pub(super) spanish: &'static str,
}

pub(super) const ONE_VALUE: Wanted =
    Wanted { english: "one value, not a list", spanish: "un solo valor, no una lista" };
pub(super) const INTEGER: Wanted = Wanted { english: "an integer", spanish: "un entero" };
const STATUSES: Wanted = Wanted {
    english: "one or more, separated by commas, of queued, processing, valid, not_found, cep_unavailable, invalid, \
              returned, failed, error",
    spanish: "uno o varios, separados por comas, de queued, processing, valid, not_found, cep_unavailable, invalid, \
              returned, failed, error",
};
const KIND: Wanted = Wanted { english: "direct or ocr", spanish: "direct u ocr" };
const DAY: Wanted = Wanted {
    english: "a day of the calendar, as YYYY-MM-DD",
    spanish: "un día del calendario, como AAAA-MM-DD",
};
const SEARCH: Wanted =
    Wanted { english: "text of at most 100 characters", spanish: "texto de 100 caracteres como máximo" };
const CLIENT_REF: Wanted = Wanted {
    english: "text of 1 to 64 characters, without control characters or emoji",
    spanish: "texto de 1 a 64 caracteres, sin caracteres de control ni emoji",
};
const NUMBER: Wanted = Wanted { english: "a number", spanish: "un número" };
const RETRY_STATE: Wanted = Wanted {
    english: "one of pending, resolved, exhausted, cancelled",
    spanish: "uno de pending, resolved, exhausted, cancelled",
};

/// Each parameter once, where it stood first, with the value it had last.
fn last_of_each(query: &str) -> Vec<(String, String)> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // Else a query of many names would cost the square of its length.
        if !NAMES.contains(&name.strip_suffix("[]").unwrap_or(&name)) {
            continue;
        }
        match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, held)) => *held = value.into_owned(),
            None => parameters.push((name.into_owned(), value.into_owned())),
        }
    }
    parameters
}

pub(super) fn clamped(value: &str, max: u32) -> Result<u32, Wanted> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(INTEGER);
    }
    if value.starts_with('-') {
        return Ok(1);
    }
    // What does not fit is too large, since it is all digits.
    Ok(digits.parse::<u32>().unwrap_or(u32::MAX).clamp(1, max))
}

fn statuses(value: &str) -> Result<Vec<Status>, Wanted> {
    let mut statuses = Vec::new();
    for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let status = text.parse().map_err(|_| STATUSES)?;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    // Nothing but commas would be no filter at all.
    if statuses.is_empty() { Err(STATUSES) } else { Ok(statuses) }
}

/// Where the day begins in UTC, so many days later.
pub(super) fn midnight_of(value: &str, days_later: i64) -> Result<Timestamp, Wanted> {
    let begin = || day(value)?.checked_add(days_later.days()).ok()?.to_zoned(TimeZone::UTC).ok();
    begin().map(|midnight| midnight.timestamp()).ok_or(DAY)
}

/// A bound in whole cents, between which and the number given no sum lies.
fn cents(value: &str, round: fn(&Decimal) -> Decimal) -> Result<i64, Wanted> {
    let number = decimal(value).ok_or(NUMBER)?;
    let cents = number.checked_mul(Decimal::ONE_HUNDRED).map(|cents| round(&cents));
    let beyond = if number.is_sign_negative() { i64::MIN } else { i64::MAX };
    Ok(cents.and_then(|cents| cents.to_i64()).unwrap_or(beyond))
}

#[cfg(test)]
mod tests;
