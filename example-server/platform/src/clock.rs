//! The only place of this crate that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds since the Unix epoch, `ahead` from now, rounded up: a caller who waits until then has waited long enough.
#[allow(clippy::disallowed_methods)]
pub fn epoch_seconds_in(ahead: Duration) -> u64 {
    let then = SystemTime::now() + ahead;
    // A clock set before 1970 is a broken machine, not a reason to fail a request.
    let since_epoch = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    whole_seconds(since_epoch)
}

/// Milliseconds since the Unix epoch, as the database has times.
#[allow(clippy::disallowed_methods)]
pub fn epoch_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// The same as a time.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(epoch_millis()).unwrap_or(Timestamp::MAX)
}

/// The monotonic clock, for how long something took.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds, rounded up, as `Retry-After` wants them.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// How long ago this was; `None` if it is to come yet.
#[allow(clippy::disallowed_methods)]
pub fn since(time: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(time).ok()
}
