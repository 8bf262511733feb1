//! Who is told.

use jiff::Timestamp;
use uuid::Uuid;

use crate::text::text_enum;

/// One receiver of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: Uuid,
    pub account: String,
    pub url: String,
    /// By their names.
    pub events: Vec<String>,
    pub description: Option<String>,
    pub status: EndpointStatus,
    /// Sealed.
    pub secret: String,
    /// The last digits of it.
    pub secret_hint: String,
    /// Tries that failed since one succeeded.
    pub consecutive_failures: u32,
    /// When a delivery last succeeded.
    pub last_delivery_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

text_enum! {
    /// Whether an endpoint is told anything.
    pub enum EndpointStatus {
        /// It is.
        Active = "active",
        /// Its owner wants nothing for now.
        Disabled = "disabled",
        /// It failed for too long.
        AutoDisabled = "auto_disabled",
    }
}
