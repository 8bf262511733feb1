//! The queries of the lists of deliveries.

use jiff::{SignedDuration, Timestamp};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{Event, TEST};
use crate::errors::Failure;
use crate::query::{self, Expected, INTEGER, Page, Search, clamped, midnight_of};
use platform::webhooks::DeliveryStatus;
use platform::webhooks::store::deliveries;

/// Selects deliveries, and a page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeliveryFilter {
    pub(super) page: Page,
    pub(super) wanted: deliveries::Wanted,
}

/// The parameters of the list of one endpoint.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParameters {
    /// The number of the page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// The number of items on a page. The default is 50.
    #[param(minimum = 1, maximum = 100)]
    per_page: Option<u32>,
}

/// The parameters of the list of all deliveries.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// The number of the page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// The number of items on a page. The default is 50.
    #[param(minimum = 1, maximum = 100)]
    per_page: Option<u32>,
    /// The ids of 1 to 20 endpoints, separated by commas.
    endpoint_id: Option<String>,
    /// One or more statuses, separated by commas.
    #[param(example = "retrying,failed")]
    status: Option<String>,
    /// One or more events, separated by commas. `test` is one of them.
    #[param(example = "validation.completed")]
    event_type: Option<String>,
    /// Text to search for in the ids, the URL and description of the endpoint, the event and the
    /// status code of the response.
    #[param(max_length = 100)]
    q: Option<String>,
    /// The id of the validation that the delivery reports on.
    #[param(format = Uuid)]
    validation_id: Option<String>,
    /// The responses of the receiver, separated by commas: a status code, a class such as `5xx`, or
    /// `none`.
    #[param(example = "5xx,none")]
    response_status: Option<String>,
    /// Created on this day in UTC, or at this time, or later.
    #[param(example = "2026-10-01")]
    from: Option<String>,
    /// Created on this day in UTC, or at this time, or earlier.
    #[param(example = "2026-10-15T23:59:59Z")]
    to: Option<String>,
    /// The minimum number of attempts.
    #[param(minimum = 1, maximum = 255)]
    min_attempt: Option<u32>,
    /// The minimum response time in milliseconds.
    #[param(minimum = 0, maximum = 600_000)]
    min_response_time_ms: Option<u32>,
}

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 100;
/// The maximum number of endpoints or responses in one parameter.
const MAX_LISTED: usize = 20;
const MAX_ATTEMPT: u32 = 255;
const MAX_RESPONSE_TIME_MS: u32 = 600_000;

const NAMES: &[&str] = &[
    "page",
    "per_page",
    "endpoint_id",
    "status",
    "event_type",
    "q",
    "validation_id",
    "response_status",
    "from",
    "to",
    "min_attempt",
    "min_response_time_ms",
];

impl DeliveryFilter {
    /// Reads the query of a URL. Values of `page` and `per_page` that are out of range are clamped.
    ///
    /// # Errors
    /// 422 `invalid_filter`, with one error for each parameter that is not accepted.
    pub(super) fn parse(query: &str) -> Result<Self, Failure> {
        Self::parse_names(query, NAMES)
    }

    /// Reads the query of the list of one endpoint, which has pages but no filters.
    pub(super) fn of_endpoint(endpoint: Uuid, query: &str) -> Result<Self, Failure> {
        let mut filter = Self::parse_names(query, &NAMES[..2])?;
        filter.wanted.endpoints = vec![endpoint.to_string()];
        Ok(filter)
    }

    fn parse_names(query: &str, names: &[&str]) -> Result<Self, Failure> {
        let (mut number, mut size) = (1, DEFAULT_SIZE);
        let mut wanted = deliveries::Wanted::default();
        query::read(query, names, |name, value| match name {
            "page" => clamped(value, u32::MAX).map(|page| number = page),
            "per_page" => clamped(value, MAX_SIZE).map(|per_page| size = per_page),
            _ => set(&mut wanted, name, value),
        })?;
        Ok(Self { page: Page::of(number, size), wanted })
    }
}

fn set(wanted: &mut deliveries::Wanted, name: &str, value: &str) -> Result<(), Expected> {
    match name {
        "endpoint_id" => {
            let ids = listed(value, UUIDS, |id| Uuid::try_parse(id).ok())?;
            wanted.endpoints = ids.iter().map(Uuid::to_string).collect();
        }
        "status" => {
            wanted.statuses = listed(value, STATUSES, |status| status.parse::<DeliveryStatus>().ok())?;
        }
        "event_type" => {
            let known = |name: &str| (name == TEST || name.parse::<Event>().is_ok()).then(|| name.to_owned());
            wanted.events = listed(value, EVENTS, known)?;
        }
        "q" => {
            let cut: String = value.chars().take(Search::MAX_CHARS).collect();
            wanted.search = Some(Search::parse(&cut)?.like_pattern());
        }
        "validation_id" => {
            wanted.subject = Some(Uuid::try_parse(value).map_err(|_| ONE_UUID)?.to_string());
        }
        "response_status" => {
            for answer in listed(value, ANSWERS, Answer::parse)? {
                match answer {
                    Answer::Code(code) => wanted.codes.push(code),
                    Answer::Hundred(hundred) => wanted.hundreds.push(hundred),
                    Answer::None => wanted.unanswered = true,
                }
            }
        }
        "from" => wanted.created_from = Some(begin(value)?),
        "to" => wanted.created_before = Some(end(value)?),
        "min_attempt" => wanted.min_attempt = Some(between(value, 1, MAX_ATTEMPT)?),
        "min_response_time_ms" => {
            wanted.min_response_time_ms = Some(between(value, 0, MAX_RESPONSE_TIME_MS)?);
        }
        _ => {}
    }
    Ok(())
}

/// A response of the receiver.
enum Answer {
    Code(u16),
    Hundred(u16),
    None,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let in_order = text.len() == 3 && text.starts_with(|first| ('1'..='5').contains(&first));
        match text.strip_suffix("xx") {
            _ if !in_order => None,
            Some(hundred) => hundred.parse().ok().map(Self::Hundred),
            None => text.parse().ok().map(Self::Code),
        }
    }
}

const UUIDS: Expected = Expected {
    english: "up to 20 ids of endpoints, separated by commas",
    spanish: "hasta 20 ids de endpoints, separados por comas",
};
const ONE_UUID: Expected =
    Expected { english: "the id of a validation", spanish: "el id de una validación" };
const STATUSES: Expected = Expected {
    english: "one or more, separated by commas, of pending, retrying, success, failed",
    spanish: "uno o varios, separados por comas, de pending, retrying, success, failed",
};
const EVENTS: Expected = Expected {
    english: "one or more names of events, separated by commas",
    spanish: "uno o varios nombres de eventos, separados por comas",
};
const ANSWERS: Expected = Expected {
    english: "up to 20, separated by commas, of a code like 404, a family like 5xx, or none",
    spanish: "hasta 20, separados por comas, de un código como 404, una familia como 5xx, o none",
};
const TIME: Expected = Expected {
    english: "a day as YYYY-MM-DD, or a time as YYYY-MM-DDThh:mm:ss with its offset",
    spanish: "un día como AAAA-MM-DD, o una hora como AAAA-MM-DDThh:mm:ss con su zona",
};

/// Reads the distinct values of a list separated by commas.
fn listed<T>(value: &str, expected: Expected, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Expected> {
    let mut texts: Vec<&str> = value.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    texts.sort_unstable();
    texts.dedup();
    if texts.is_empty() || texts.len() > MAX_LISTED {
        return Err(expected);
    }
    texts.into_iter().map(|text| read(text).ok_or(expected)).collect()
}

fn between(value: &str, min: u32, max: u32) -> Result<u32, Expected> {
    value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or(INTEGER)
}

fn begin(value: &str) -> Result<Timestamp, Expected> {
    midnight_of(value, 0).or_else(|_| value.parse().map_err(|_| TIME))
}

/// Returns the exclusive end. Responses show whole seconds, so the end includes all of its second.
fn end(value: &str) -> Result<Timestamp, Expected> {
    midnight_of(value, 1).or_else(|_| {
        let last: Timestamp = value.parse().map_err(|_| TIME)?;
        last.checked_add(SignedDuration::from_secs(1)).map_err(|_| TIME)
    })
}
