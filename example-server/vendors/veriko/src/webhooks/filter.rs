//! The query of the lists of deliveries.

use jiff::{SignedDuration, Timestamp};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{Event, TEST};
use crate::errors::{Failure, FieldError};
use crate::filter::{INTEGER, ONE_VALUE, Page, Search, Wanted, clamped, midnight_of};
use platform::webhooks::DeliveryStatus;
use platform::webhooks::store::deliveries;

/// Which deliveries, and which page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeliveryFilter {
    pub(super) page: Page,
    pub(super) wanted: deliveries::Wanted,
}

/// Which page.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParameters {
    /// Which page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// How many on a page: 50 if nothing is said.
    #[param(minimum = 1, maximum = 100)]
    per_page: Option<u32>,
}

/// Which deliveries, and which page of them.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Which page, from 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// How many on a page: 50 if nothing is said.
    #[param(minimum = 1, maximum = 100)]
    per_page: Option<u32>,
    /// To one of these endpoints, at most 20, separated by commas.
    endpoint_id: Option<String>,
    /// One of these, separated by commas.
    #[param(example = "retrying,failed")]
    status: Option<String>,
    /// One of these, separated by commas; `test` is one too.
    #[param(example = "validation.completed")]
    event_type: Option<String>,
    /// Text to look for in ids, the endpoint's URL and description, the event and the answer's code.
    #[param(max_length = 100)]
    q: Option<String>,
    /// About this validation.
    #[param(format = Uuid)]
    validation_id: Option<String>,
    /// What the receiver answered, separated by commas: a code, a family, or `none`.
    #[param(example = "5xx,none")]
    response_status: Option<String>,
    /// Made on this day, in UTC, or at this time, or later.
    #[param(example = "2026-10-01")]
    from: Option<String>,
    /// Made on this day, in UTC, or at this time, or earlier.
    #[param(example = "2026-10-15T23:59:59Z")]
    to: Option<String>,
    /// Tried so often or oftener.
    #[param(minimum = 1, maximum = 255)]
    min_attempt: Option<u32>,
    /// Answered in so much time or more.
    #[param(minimum = 0, maximum = 600_000)]
    min_response_time_ms: Option<u32>,
}

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 100;
/// Of endpoints, and of answers.
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
    /// Reads the query of a URL. An empty parameter is none; of a parameter that is there twice the last counts; those it
    /// does not know are ignored.
    ///
    /// # Errors
    /// 422 `invalid_filter`, once for each parameter that is not in order. `page` and `per_page` out of range are not: they
    /// are brought into it.
    pub(super) fn parse(query: &str) -> Result<Self, Failure> {
        Self::parse_names(query, NAMES)
    }

    /// The same for the list of one endpoint, which has pages and nothing else.
    pub(super) fn of_endpoint(endpoint: Uuid, query: &str) -> Result<Self, Failure> {
        let mut filter = Self::parse_names(query, &NAMES[..2])?;
        filter.wanted.endpoints = vec![endpoint.to_string()];
        Ok(filter)
    }

    fn parse_names(query: &str, names: &[&str]) -> Result<Self, Failure> {
        let (mut number, mut size) = (1, DEFAULT_SIZE);
        let mut wanted = deliveries::Wanted::default();
        let mut faults = Vec::new();
        for name in names {
            let given = form_urlencoded::parse(query.as_bytes())
                .filter(|(given, _)| given.strip_suffix("[]").unwrap_or(given) == *name);
            let Some((given, value)) = given.last() else { continue };
            let value = value.trim();
            let set = match *name {
                // A list where there is one value: passed over, it would be a filter that was not applied.
                _ if given.ends_with("[]") => Err(ONE_VALUE),
                _ if value.is_empty() => Ok(()),
                "page" => clamped(value, u32::MAX).map(|page| number = page),
                "per_page" => clamped(value, MAX_SIZE).map(|per_page| size = per_page),
                name => set(&mut wanted, name, value),
            };
            if let Err(Wanted { english, spanish }) = set {
                faults.push(FieldError::invalid_filter(name, english, spanish));
            }
        }
        if faults.is_empty() {
            Ok(Self { page: Page::of(number, size), wanted })
        } else {
            Err(Failure::unprocessable(faults))
        }
    }
}

fn set(wanted: &mut deliveries::Wanted, name: &str, value: &str) -> Result<(), Wanted> {
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

/// What a receiver answered.
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

const UUIDS: Wanted = Wanted {
    english: "up to 20 ids of endpoints, separated by commas",
    spanish: "hasta 20 ids de endpoints, separados por comas",
};
const ONE_UUID: Wanted = Wanted { english: "the id of a validation", spanish: "el id de una validación" };
const STATUSES: Wanted = Wanted {
    english: "one or more, separated by commas, of pending, retrying, success, failed",
    spanish: "uno o varios, separados por comas, de pending, retrying, success, failed",
};
const EVENTS: Wanted = Wanted {
    english: "one or more names of events, separated by commas",
    spanish: "uno o varios nombres de eventos, separados por comas",
};
const ANSWERS: Wanted = Wanted {
    english: "up to 20, separated by commas, of a code like 404, a family like 5xx, or none",
    spanish: "hasta 20, separados por comas, de un código como 404, una familia como 5xx, o none",
};
const TIME: Wanted = Wanted {
    english: "a day as YYYY-MM-DD, or a time as YYYY-MM-DDThh:mm:ss with its offset",
    spanish: "un día como AAAA-MM-DD, o una hora como AAAA-MM-DDThh:mm:ss con su zona",
};

/// Each once.
fn listed<T>(value: &str, wanted: Wanted, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Wanted> {
    let mut texts: Vec<&str> = value.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    texts.sort_unstable();
    texts.dedup();
    if texts.is_empty() || texts.len() > MAX_LISTED {
        return Err(wanted);
    }
    texts.into_iter().map(|text| read(text).ok_or(wanted)).collect()
}

fn between(value: &str, min: u32, max: u32) -> Result<u32, Wanted> {
    value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or(INTEGER)
}

fn begin(value: &str) -> Result<Timestamp, Wanted> {
    midnight_of(value, 0).or_else(|_| value.parse().map_err(|_| TIME))
}

/// The first moment that is no longer wanted: times are shown in whole seconds, so the whole second is.
fn end(value: &str) -> Result<Timestamp, Wanted> {
    midnight_of(value, 1).or_else(|_| {
        let last: Timestamp = value.parse().map_err(|_| TIME)?;
        last.checked_add(SignedDuration::from_secs(1)).map_err(|_| TIME)
    })
}
