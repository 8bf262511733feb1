//! The fields of a request that creates or updates an endpoint.

use serde_json::{Map, Value};
use url::Url;

use super::Event;
use crate::errors::{Failure, FieldError};
use platform::outbound::{Outbound, UrlError};
use platform::webhooks::{Endpoint, EndpointStatus};

/// The fields that the request sets. A field that is `None` is not changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) url: Option<Url>,
    pub(super) events: Option<Vec<String>>,
    pub(super) description: Option<Description>,
    pub(super) status: Option<EndpointStatus>,
}

/// A description, or `None` to remove it.
#[derive(Debug)]
pub(super) struct Description(Option<String>);

const MAX_EVENTS: usize = 10;
const MAX_DESCRIPTION: usize = 255;

impl Changes {
    /// Parses a new endpoint, which needs all required fields.
    ///
    /// # Errors
    /// 422 with one error for each invalid field. If only the address is not allowed, 400
    /// `url_ssrf_blocked`.
    pub(super) fn of_new(body: &Value, outbound: &Outbound) -> Result<Self, Failure> {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        let mut errors = Errors::default();
        let changes = Self {
            url: match body.get("url") {
                None | Some(Value::Null) => errors.ok_or_collect(Err(FieldError::webhook_url_required())),
                Some(Value::String(text)) if text.is_empty() => {
                    errors.ok_or_collect(Err(FieldError::webhook_url_required()))
                }
                Some(value) => errors.url(value, outbound),
            },
            events: errors.events(body.get("events").unwrap_or(&Value::Null)),
            description: body.get("description").and_then(|value| errors.ok_or_collect(description(value))),
            status: None,
        };
        errors.failure().map_or(Ok(changes), Err)
    }

    /// Parses an update, which can have any of the fields.
    ///
    /// # Errors
    /// As for [`of_new`](Self::of_new), and also if there is no field to change.
    pub(super) fn of_update(body: &Value, outbound: &Outbound) -> Result<Self, Failure> {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        if !["url", "events", "description", "status"].iter().any(|field| body.contains_key(*field)) {
            return Err(Failure::no_valid_fields());
        }
        let mut errors = Errors::default();
        let changes = Self {
            url: body.get("url").and_then(|value| errors.url(value, outbound)),
            events: body.get("events").and_then(|value| errors.events(value)),
            description: body.get("description").and_then(|value| errors.ok_or_collect(description(value))),
            status: body.get("status").and_then(|value| errors.ok_or_collect(status(value))),
        };
        errors.failure().map_or(Ok(changes), Err)
    }

    /// Applies the changes. Reactivating an endpoint resets its count of failures.
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

/// The errors that were found.
#[derive(Default)]
struct Errors {
    fields: Vec<FieldError>,
    unknown_event: Option<Value>,
    blocked: bool,
}

impl Errors {
    fn ok_or_collect<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.fields.push(error)).ok()
    }

    fn url(&mut self, value: &Value, outbound: &Outbound) -> Option<Url> {
        let Value::String(text) = value else {
            return self.ok_or_collect(Err(FieldError::webhook_url_invalid_type()));
        };
        if text.is_empty() {
            return self.ok_or_collect(Err(FieldError::webhook_url_empty()));
        }
        let error = match outbound.check(text) {
            Ok(url) => return Some(url),
            Err(UrlError::TooLong) => FieldError::webhook_url_too_long(),
            Err(UrlError::Invalid) => FieldError::webhook_url_invalid_format(),
            Err(UrlError::Scheme) => FieldError::webhook_url_not_https(),
            Err(UrlError::Blocked) => {
                self.blocked = true;
                return None;
            }
        };
        self.ok_or_collect(Err(error))
    }

    fn events(&mut self, value: &Value) -> Option<Vec<String>> {
        let Some(values) = value.as_array().filter(|values| !values.is_empty()) else {
            return self.ok_or_collect(Err(FieldError::webhook_events_required()));
        };
        if values.len() > MAX_EVENTS {
            return self.ok_or_collect(Err(FieldError::webhook_events_too_many()));
        }
        let mut events = Vec::new();
        for value in values {
            let Some(event) = value.as_str().and_then(|name| name.parse::<Event>().ok()) else {
                self.unknown_event = Some(value.clone());
                return self.ok_or_collect(Err(FieldError::webhook_event_invalid()));
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
        // No database accepts a NUL character.
        Value::String(text) => Ok(Description(Some(text.replace('\0', "")))),
        _ => Err(FieldError::webhook_description_invalid_type()),
    }
}

/// Parses a status. Only the server may set `auto_disabled`.
fn status(value: &Value) -> Result<EndpointStatus, FieldError> {
    let status = value.as_str().and_then(|name| name.parse().ok());
    status
        .filter(|status| *status != EndpointStatus::AutoDisabled)
        .ok_or_else(FieldError::webhook_status_invalid)
}
