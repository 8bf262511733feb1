//! Webhook endpoints.

use jiff::Timestamp;
use uuid::Uuid;

use crate::text::text_enum;

/// A webhook endpoint of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: Uuid,
    pub account: String,
    pub url: String,
    /// The names of the events that it subscribes to.
    pub events: Vec<String>,
    pub description: Option<String>,
    pub status: EndpointStatus,
    /// The sealed signing secret.
    pub secret: String,
    /// The last digits of the secret.
    pub secret_hint: String,
    /// The number of failed attempts since the last success.
    pub consecutive_failures: u32,
    /// The time of the last success.
    pub last_delivery_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

text_enum! {
    /// The status of an endpoint.
    pub enum EndpointStatus {
        /// It receives events.
        Active = "active",
        /// Its owner disabled it.
        Disabled = "disabled",
        /// It was disabled after too many failures.
        AutoDisabled = "auto_disabled",
    }
}
