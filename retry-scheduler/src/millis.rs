//! Times as this crate keeps them: whole milliseconds, from 1970 to the end of the year 9999.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond of the year 9999; what lies behind it is this.
pub(crate) const MAX_MS: i64 = 253_402_300_799_999;

/// Milliseconds since 1970, rounded down.
pub(crate) fn to_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| bounded(since.as_millis()))
}

/// The time so many milliseconds after 1970.
pub(crate) fn from_ms(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms.min(MAX_MS)).unwrap_or(0))
}

/// A duration in milliseconds, rounded up: what is to wait never waits less than was asked.
pub(crate) fn duration_ms(duration: Duration) -> i64 {
    bounded(duration.as_nanos().div_ceil(1_000_000))
}

/// The millisecond that `time` is in.
pub(crate) fn whole(time: SystemTime) -> SystemTime {
    from_ms(to_ms(time))
}

/// `by` after `time`.
pub(crate) fn later(time: SystemTime, by: Duration) -> SystemTime {
    from_ms(to_ms(time).saturating_add(duration_ms(by)))
}

fn bounded(ms: u128) -> i64 {
    i64::try_from(ms).unwrap_or(MAX_MS).min(MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANO: Duration = Duration::from_nanos(1);
    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_time_is_rounded_down_and_a_wait_up() {
        let start = from_ms(1_000);
        assert_eq!(whole(start + NANO), start);
        assert_eq!(later(start + NANO, Duration::ZERO), start);
        assert_eq!(later(start, NANO), start + MILLI);
        assert_eq!(later(start, MILLI + NANO), start + 2 * MILLI);
    }

    #[test]
    fn what_lies_outside_of_1970_to_9999_is_its_end() {
        assert_eq!(to_ms(UNIX_EPOCH - MILLI), 0);
        assert_eq!(from_ms(-1), UNIX_EPOCH);
        assert_eq!(from_ms(i64::MAX), from_ms(MAX_MS));
        assert_eq!(to_ms(from_ms(MAX_MS)), MAX_MS);
        assert_eq!(duration_ms(Duration::MAX), MAX_MS);
        assert_eq!(later(from_ms(1), Duration::MAX), from_ms(MAX_MS));
    }
}
