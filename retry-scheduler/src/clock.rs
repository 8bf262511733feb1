//! The one place of this crate that reads a clock.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// What time it is. In production that is the server's time: a database scheduler asks its database unless it was given
/// another clock, so that workers on machines whose clocks differ agree about leases.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The time that this machine had when the clock was made, and what has passed since by its monotonic clock.
///
/// For one process: nobody can set it back or forward. It does not count what the machine sleeps, and it stands where
/// `tokio::time::pause` stopped it.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    wall: SystemTime,
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts with this machine's time.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn new() -> Self {
        Self { wall: SystemTime::now(), start: Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> SystemTime {
        self.wall + self.start.elapsed()
    }
}

/// A clock that only a test moves. Its clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at this time, in whole milliseconds after 1970.
    pub fn new(at: SystemTime) -> Self {
        let clock = Self(Arc::default());
        clock.set(at);
        clock
    }

    /// Lets time pass, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(ms(by), Ordering::SeqCst);
    }

    /// Sets it, back too.
    pub fn set(&self, to: SystemTime) {
        self.0.store(to.duration_since(SystemTime::UNIX_EPOCH).map_or(0, ms), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> SystemTime {
        C::now(self)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The monotonic clock, which a test can pause and advance through [`tokio::time`].
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `start` and `wait`; where that is past what the clock can count to, a century.
pub(crate) fn after(start: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);
    start.checked_add(wait).unwrap_or_else(|| start + CENTURY)
}
