//! Who is told.

use jiff::Timestamp;
use uuid::Uuid;

use crate::cep::text_enum;

/// One receiver of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) id: Uuid,
    pub(crate) account: String,
    pub(crate) url: String,
    /// By their names.
    pub(crate) events: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) status: EndpointStatus,
    /// Sealed.
    pub(crate) secret: String,
    /// The last digits of it.
    pub(crate) secret_hint: String,
    /// Tries that failed since one succeeded.
    pub(crate) consecutive_failures: u32,
    /// When a delivery last succeeded.
    pub(crate) last_delivery_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

text_enum! {
    /// Whether an endpoint is told anything.
    pub(crate) enum EndpointStatus {
        /// It is.
        Active = "active",
        /// Its owner wants nothing for now.
        Disabled = "disabled",
        /// It failed for too long.
        AutoDisabled = "auto_disabled",
    }
}
