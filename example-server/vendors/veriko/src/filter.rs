//! The query of `GET /v1/validations`.

use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use utoipa::IntoParams;

use super::client_ref::ClientRef;
use super::errors::Failure;
use super::query::{self, Expected, Page, Search, clamped, midnight_of};
use super::validation::{CycleState, Kind, Status};
use platform::decimal::decimal;

/// Selects validations. `None` or an empty list does not restrict them; all other fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The page of the list.
    pub page: Page,
    /// The status is one of these.
    pub statuses: Vec<Status>,
    /// The kind of request.
    pub kind: Option<Kind>,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// The request contains this text.
    pub search: Option<Search>,
    /// The `client_ref` equals this.
    pub client_ref: Option<ClientRef>,
    /// The minimum amount in cents.
    pub min_cents: Option<i64>,
    /// The maximum amount in cents.
    pub max_cents: Option<i64>,
    /// The state of the retry cycle.
    pub retry_state: Option<CycleState>,
}

impl Filter {
    /// Reads the query of a URL. Values of `page` and `per_page` that are out of range are clamped.
    ///
    /// # Errors
    /// 422 `invalid_filter`, with one error for each parameter that is not accepted.
    pub fn parse(query: &str) -> Result<Self, Failure> {
        let mut filter = Self::default();
        query::read(query, NAMES, |name, value| filter.set(name, value))?;
        Ok(filter)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Expected> {
        match name {
            "page" => self.page.number = clamped(value, u32::MAX)?,
            "per_page" => self.page.size = clamped(value, MAX_SIZE)?,
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

/// The parameters, as `OpenAPI` describes them.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// The number of the page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// The number of items on a page. The default is 10.
    #[param(minimum = 1, maximum = 50)]
    per_page: Option<u32>,
    /// One or more statuses, separated by commas.
    #[param(example = "not_found,error")]
    status: Option<String>,
    /// The kind of request.
    #[param(inline)]
    r#type: Option<Kind>,
    /// Created on this day, in UTC, or later.
    #[param(format = Date)]
    from: Option<String>,
    /// Created on this day, in UTC, or earlier.
    #[param(format = Date)]
    to: Option<String>,
    /// The same as `from`.
    #[param(format = Date)]
    date_from: Option<String>,
    /// The same as `to`.
    #[param(format = Date)]
    date_to: Option<String>,
    /// Text to search for in the requests.
    #[param(max_length = 100)]
    search: Option<String>,
    /// Exactly this `client_ref`.
    #[param(min_length = 1, max_length = 64)]
    client_ref: Option<String>,
    /// The minimum amount.
    amount_min: Option<f64>,
    /// The maximum amount.
    amount_max: Option<f64>,
    /// The state of the retry cycle.
    #[param(inline)]
    retry_state: Option<CycleState>,
}

const MAX_SIZE: u32 = 50;

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

const STATUSES: Expected = Expected {
    english: "one or more, separated by commas, of queued, processing, valid, not_found, cep_unavailable, invalid, \
              returned, failed, error",
    spanish: "uno o varios, separados por comas, de queued, processing, valid, not_found, cep_unavailable, invalid, \
              returned, failed, error",
};
const KIND: Expected = Expected { english: "direct or ocr", spanish: "direct u ocr" };
const CLIENT_REF: Expected = Expected {
    english: "text of 1 to 64 characters, without control characters or emoji",
    spanish: "texto de 1 a 64 caracteres, sin caracteres de control ni emoji",
};
const NUMBER: Expected = Expected { english: "a number", spanish: "un número" };
const RETRY_STATE: Expected = Expected {
    english: "one of pending, resolved, exhausted, cancelled",
    spanish: "uno de pending, resolved, exhausted, cancelled",
};

fn statuses(value: &str) -> Result<Vec<Status>, Expected> {
    let mut statuses = Vec::new();
    for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let status = text.parse().map_err(|_| STATUSES)?;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    // Commas alone would not filter at all.
    if statuses.is_empty() { Err(STATUSES) } else { Ok(statuses) }
}

/// Reads an amount as a bound in whole cents. `round` must not let an amount between both in or out.
fn cents(value: &str, round: fn(&Decimal) -> Decimal) -> Result<i64, Expected> {
    let number = decimal(value).ok_or(NUMBER)?;
    let cents = number.checked_mul(Decimal::ONE_HUNDRED).map(|cents| round(&cents));
    let beyond = if number.is_sign_negative() { i64::MIN } else { i64::MAX };
    Ok(cents.and_then(|cents| cents.to_i64()).unwrap_or(beyond))
}

#[cfg(test)]
mod tests;
