//! The clocks, for [`super`] alone.

#![allow(clippy::disallowed_methods, reason = "this is where they are read")]

use std::time::SystemTime;

use tokio::time::Instant;

/// Tokio's, so that a test can hold it.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Of the wall.
pub(super) fn today() -> SystemTime {
    SystemTime::now()
}
