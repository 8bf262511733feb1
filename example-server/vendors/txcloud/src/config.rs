//! The `[txcloud]` section of the configuration.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use retry_scheduler::Plan;
use serde::Deserialize;

use platform::config::Tries;

/// The keys with their defaults.
pub(crate) const DEFAULTS: &str = include_str!("../defaults.toml");

/// The `[txcloud]` section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) rate_per_minute: NonZeroU32,
    pub(crate) strict_keys: bool,
    session_seconds: NonZeroU64,
    webhook_retry_delays_seconds: Tries,
    webhook_timeout_seconds: NonZeroU64,
}

impl Config {
    pub(super) fn session_life(&self) -> Duration {
        Duration::from_secs(self.session_seconds.get())
    }

    pub(super) fn event_plan(&self) -> Plan {
        self.webhook_retry_delays_seconds.plan()
    }

    pub(super) fn webhook_timeout(&self) -> Duration {
        Duration::from_secs(self.webhook_timeout_seconds.get())
    }
}
