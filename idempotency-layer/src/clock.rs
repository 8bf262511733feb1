//! The one place of this crate that reads a clock.

use std::time::Duration;

use tokio::time::Instant;

/// The monotonic clock, which a test can pause and advance through [`tokio::time`].
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns `start + wait`, or a century after `start` if the clock cannot represent it.
pub(crate) fn after(start: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    start.checked_add(wait).unwrap_or_else(|| start + CENTURY)
}
