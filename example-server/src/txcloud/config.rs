//! `[txcloud]`

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::Deserialize;

/// `[txcloud]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) rate_per_minute: NonZeroU32,
    pub(crate) strict_keys: bool,
    session_seconds: NonZeroU64,
}

impl Config {
    pub(super) fn session_life(&self) -> Duration {
        Duration::from_secs(self.session_seconds.get())
    }
}
