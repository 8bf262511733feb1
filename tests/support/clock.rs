//! Waiting for a condition instead of a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine. A test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until there is a result.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, ask)
}

/// Polls until there is a result, with a longer deadline for what takes long even if all is well.
pub fn eventually_within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[allow(clippy::disallowed_methods, reason = "the clock is read here only")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
