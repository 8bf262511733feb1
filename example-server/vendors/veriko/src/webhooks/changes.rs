//! What a request wants an endpoint to be.

use serde_json::{Map, Value};
use url::Url;

use super::Event;
use crate::errors::{Failure, FieldError};
use platform::outbound::{Outbound, UrlFault};
use platform::webhooks::{Endpoint, EndpointStatus};

/// What of an endpoint a request says; what is `None` it does not say.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) url: Option<Url>,
    pub(super) events: Option<Vec<String>>,
    pub(super) description: Option<Description>,
    pub(super) status: Option<EndpointStatus>,
}

/// The owner's name for an endpoint, or none any more.
#[derive(Debug)]
pub(super) struct Description(Option<String>);

const MAX_EVENTS: usize = 10;
const MAX_DESCRIPTION: usize = 255;

impl Changes {
    /// All that a new endpoint must have.
    ///
    /// # Errors
    /// One fault for each field that is not as it must be; an address that may not be called is refused by itself.
    pub(super) fn of_new(body: &Value, outbound: &Outbound) -> Result<Self, Failure> {
        let nothing = Map::new();
        let body = body.as_object().unwrap_or(&nothing);
        let mut faults = Faults::default();
        let changes = Self {
            url: match body.get("url") {
                None | Some(Value::Null) => faults.keep(Err(FieldError::webhook_url_required())),
                Some(Value::String(text)) if text.is_empty() => {
                    faults.keep(Err(FieldError::webhook_url_required()))
                }
                Some(value) => faults.url(value, outbound),
            },
            events: faults.events(body.get("events").unwrap_or(&Value::Null)),
            description: body.get("description").and_then(|value| faults.keep(description(value))),
            status: None,
        };
        faults.failure().map_or(Ok(changes), Err)
    }

    /// Some of what an endpoint can be.
    ///
    /// # Errors
    /// The same; or there is nothing in it.
    pub(super) fn of_update(body: &Value, outbound: &Outbound) -> Result<Self, Failure> {
        let nothing = Map::new();
        let body = body.as_object().unwrap_or(&nothing);
        if !["url", "events", "description", "status"].iter().any(|field| body.contains_key(*field)) {
            return Err(Failure::no_valid_fields());
        }
        let mut faults = Faults::default();
        let changes = Self {
            url: body.get("url").and_then(|value| faults.url(value, outbound)),
            events: body.get("events").and_then(|value| faults.events(value)),
            description: body.get("description").and_then(|value| faults.keep(description(value))),
            status: body.get("status").and_then(|value| faults.keep(status(value))),
        };
        faults.failure().map_or(Ok(changes), Err)
    }

    /// Makes them. Whoever makes an endpoint active again gives it a new start.
    pub(super) fn apply(self, endpoint: &mut Endpoint) {
        if let Some(url) = self.url {
            endpoint.url = url.into();
        }
        if let Some(events) = self.events {
            endpoint.events = events;
        }
        if let Some(Description(description)) = self.description {
            endpoint.description = description;
        }
        if let Some(status) = self.status {
            if status == EndpointStatus::Active && endpoint.status != EndpointStatus::Active {
                endpoint.consecutive_failures = 0;
            }
            endpoint.status = status;
        }
    }
}

/// What was found to be wrong.
#[derive(Default)]
struct Faults {
    fields: Vec<FieldError>,
    unknown_event: Option<Value>,
    blocked: bool,
}

impl Faults {
    fn keep<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.fields.push(error)).ok()
    }

    fn url(&mut self, value: &Value, outbound: &Outbound) -> Option<Url> {
        let Value::String(text) = value else {
            return self.keep(Err(FieldError::webhook_url_invalid_type()));
        };
        if text.is_empty() {
            return self.keep(Err(FieldError::webhook_url_empty()));
        }
        let error = match outbound.check(text) {
            Ok(url) => return Some(url),
            Err(UrlFault::TooLong) => FieldError::webhook_url_too_long(),
            Err(UrlFault::Invalid) => FieldError::webhook_url_invalid_format(),
            Err(UrlFault::Scheme) => FieldError::webhook_url_not_https(),
            Err(UrlFault::Blocked) => {
                self.blocked = true;
                return None;
            }
        };
        self.keep(Err(error))
    }

    fn events(&mut self, value: &Value) -> Option<Vec<String>> {
        let Some(given) = value.as_array().filter(|given| !given.is_empty()) else {
            return self.keep(Err(FieldError::webhook_events_required()));
        };
        if given.len() > MAX_EVENTS {
            return self.keep(Err(FieldError::webhook_events_too_many()));
        }
        let mut events = Vec::new();
        for value in given {
            let Some(event) = value.as_str().and_then(|name| name.parse::<Event>().ok()) else {
                self.unknown_event = Some(value.clone());
                return self.keep(Err(FieldError::webhook_event_invalid()));
            };
            let event = event.to_string();
            if !events.contains(&event) {
                events.push(event);
            }
        }
        Some(events)
    }

    fn failure(self) -> Option<Failure> {
        if !self.fields.is_empty() {
            return Some(Failure { event: self.unknown_event, ..Failure::unprocessable(self.fields) });
        }
        self.blocked.then(Failure::url_ssrf_blocked)
    }
}

fn description(value: &Value) -> Result<Description, FieldError> {
    match value {
        Value::Null => Ok(Description(None)),
        Value::String(text) if text.chars().count() > MAX_DESCRIPTION => {
            Err(FieldError::webhook_description_too_long())
        }
        // No database keeps a NUL.
        Value::String(text) => Ok(Description(Some(text.replace('\0', "")))),
        _ => Err(FieldError::webhook_description_invalid_type()),
    }
}

/// Only we disable one automatically.
fn status(value: &Value) -> Result<EndpointStatus, FieldError> {
    let status = value.as_str().and_then(|name| name.parse().ok());
    status
        .filter(|status| *status != EndpointStatus::AutoDisabled)
        .ok_or_else(FieldError::webhook_status_invalid)
}
