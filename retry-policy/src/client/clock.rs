//! The only place of [`super`] that reads a clock.

#![allow(clippy::disallowed_methods, reason = "the only place that reads a clock")]

use std::time::SystemTime;

use tokio::time::Instant;

/// The time of Tokio's clock, which a test can pause.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The time of the wall clock.
pub(super) fn today() -> SystemTime {
    SystemTime::now()
}
