//! Token buckets: a number of requests per minute, refilled evenly.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// A bucket of `limit` requests that refills evenly within a minute.
#[derive(Debug)]
pub struct Bucket<C: Clock = MonotonicClock> {
    quota: Quota,
    limiter: RateLimiter<CheckMode, PeekableState, C, StateInformationMiddleware>,
    /// Limits requests of any kind.
    arrivals: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

const ARRIVALS_FOR_A_REQUEST: NonZeroU32 = NonZeroU32::new(10).unwrap();
const LEAST_ARRIVALS: NonZeroU32 = NonZeroU32::new(600).unwrap();

/// The state of a bucket at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct BucketSnapshot {
    /// The capacity of the bucket, in requests.
    pub limit: u32,
    /// The requests that remain.
    pub remaining: u32,
    /// The time until the bucket is full again without further requests, rounded up by at most one
    /// refill interval.
    pub full_in: Duration,
}

impl Bucket {
    /// Creates a full bucket of `limit` requests per minute.
    pub fn per_minute(limit: NonZeroU32) -> Self {
        Self::with_clock(limit, MonotonicClock)
    }
}

impl<C: Clock + Clone> Bucket<C> {
    fn with_clock(limit: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(limit);
        let arrivals = limit.saturating_mul(ARRIVALS_FOR_A_REQUEST).max(LEAST_ARRIVALS);
        Self {
            quota,
            limiter: RateLimiter::new(quota, PeekableState::default(), clock.clone()),
            arrivals: RateLimiter::direct_with_clock(Quota::per_minute(arrivals), clock),
        }
    }

    /// Returns the capacity of the bucket, which is also the number of requests per minute.
    pub fn limit(&self) -> u32 {
        self.quota.burst_size().get()
    }

    /// Takes one request out of the bucket.
    ///
    /// # Errors
    ///
    /// If the bucket is empty. The error is the time until the next request.
    pub fn try_acquire(&self) -> Result<(), Duration> {
        match self.limiter.check_key(&CheckMode::Acquire) {
            Ok(_) => Ok(()),
            Err(not_until) => Err(not_until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// Returns the time until the next request, or `None` if the bucket is not empty. Takes no request.
    pub fn empty_for(&self) -> Option<Duration> {
        let until = self.limiter.check_key(&CheckMode::Peek).err()?;
        Some(until.wait_time_from(self.limiter.clock().now()))
    }

    /// Counts a request of any kind, including requests that will be replayed or refused, because these
    /// use resources, too. The limit per minute is ten times the capacity of the bucket, and at least 600.
    ///
    /// # Errors
    ///
    /// If there were too many. The error is the time until the next request.
    pub fn try_arrive(&self) -> Result<(), Duration> {
        self.arrivals.check().map_err(|until| until.wait_time_from(self.arrivals.clock().now()))
    }

    /// Returns the state of the bucket without taking a request.
    pub fn snapshot(&self) -> BucketSnapshot {
        let limit = self.limit();
        let remaining = match self.limiter.check_key(&CheckMode::Peek) {
            // Governor's snapshot is of the state after a request, which was not taken.
            Ok(after_one) => (after_one.remaining_burst_capacity() + 1).min(limit),
            Err(_) => 0,
        };
        BucketSnapshot { limit, remaining, full_in: self.quota.replenish_interval() * (limit - remaining) }
    }
}

/// The mode of a check. Governor has only checks that take a request. [`PeekableState`] adds a
/// check that takes none, and makes the same decision on the same state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CheckMode {
    Acquire,
    Peek,
}

#[derive(Debug, Default)]
struct PeekableState(InMemoryState);

impl StateStore for PeekableState {
    type Key = CheckMode;

    fn measure_and_replace<T, F, E>(&self, mode: &CheckMode, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match mode {
            CheckMode::Acquire => self.0.measure_and_replace(&NotKeyed::NonKey, decide),
            CheckMode::Peek => {
                // An error tells the inner store not to write, so return the decision as an error.
                let untouched: Result<(), _> =
                    self.0.measure_and_replace(&NotKeyed::NonKey, |held| Err(decide(held)));
                match untouched {
                    Err(decision) => decision.map(|(answer, _)| answer),
                    Ok(()) => unreachable!("the closure never returns Ok"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn bucket(limit: u32) -> (Bucket<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Bucket::with_clock(NonZeroU32::new(limit).unwrap(), clock.clone()), clock)
    }

    #[test]
    fn a_new_bucket_is_full() {
        let (bucket, _) = bucket(6);
        assert_eq!(bucket.snapshot(), BucketSnapshot { limit: 6, remaining: 6, full_in: Duration::ZERO });
    }

    #[test]
    fn asking_what_is_left_spends_nothing() {
        let (bucket, _) = bucket(6);
        bucket.try_acquire().unwrap();
        let once = bucket.snapshot();
        assert_eq!(once, BucketSnapshot { limit: 6, remaining: 5, full_in: Duration::from_secs(10) });
        for _ in 0..100 {
            assert_eq!(bucket.snapshot(), once);
        }
    }

    #[test]
    fn an_empty_bucket_says_when_to_come_back_and_fills_again() {
        let (bucket, clock) = bucket(6);
        for left in (0..6).rev() {
            assert_eq!(bucket.empty_for(), None);
            bucket.try_acquire().unwrap();
            assert_eq!(bucket.snapshot().remaining, left);
        }
        assert_eq!(bucket.empty_for(), Some(Duration::from_secs(10)));
        assert_eq!(bucket.try_acquire(), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(9));
        assert_eq!(bucket.try_acquire(), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(bucket.snapshot().remaining, 1);
        bucket.try_acquire().unwrap();
        clock.advance(Duration::from_mins(10));
        assert_eq!(bucket.snapshot().remaining, 6);
    }

    #[test]
    fn requests_of_any_kind_are_counted_apart_and_there_can_be_many() {
        for (limit, arrivals) in [(6, 600), (600, 6000)] {
            let (bucket, clock) = bucket(limit);
            for _ in 0..arrivals {
                bucket.try_arrive().unwrap();
            }
            assert!(bucket.try_arrive().is_err());
            assert_eq!(bucket.snapshot().remaining, limit);
            clock.advance(Duration::from_secs(1));
            bucket.try_arrive().unwrap();
        }
    }

    #[test]
    fn many_threads_together_get_exactly_the_limit() {
        let limit = 50;
        let bucket = bucket(limit).0;
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..50).filter(|_| bucket.try_acquire().is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, limit as usize);
    }
}
