//! The only module of this crate that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns the time `ahead` from now in seconds since the Unix epoch, rounded up, so that a client
/// that waits until then never retries early.
#[allow(clippy::disallowed_methods)]
pub fn epoch_seconds_in(ahead: Duration) -> u64 {
    let then = SystemTime::now() + ahead;
    // If the clock is before 1970, the machine is misconfigured. Do not fail the request for that.
    let since_epoch = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    whole_seconds(since_epoch)
}

/// Returns the current time in milliseconds since the Unix epoch, the unit that the database
/// stores.
#[allow(clippy::disallowed_methods)]
pub fn epoch_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the current time in whole milliseconds.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(epoch_millis()).unwrap_or(Timestamp::MAX)
}

/// Returns the monotonic time, to measure durations.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the monotonic time of tokio's timers, which tests can pause.
#[allow(clippy::disallowed_methods)]
pub fn timers() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Returns the duration in seconds, rounded up, as for `Retry-After`.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns the time since `time`, or `None` if it is in the future.
#[allow(clippy::disallowed_methods)]
pub fn since(time: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(time).ok()
}
