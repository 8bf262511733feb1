//! Requests per minute, one bucket for each API key.
//!
//! A bucket belongs to an account that exists, so what is kept is bounded by the number of accounts: unknown keys are
//! turned away before they could make one.
//!
//! The check and the headers are two middlewares on purpose. [`enforce`] stands inside the idempotency layer, so a replay
//! spends nothing; [`state_numbers`] stands outside, so a replay still says how much is left now, and no record ever
//! holds numbers of yesterday.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::HeaderName};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::clock;
use crate::vendor::Caller;

/// Lets the request through and counts it, or answers 429.
pub(crate) async fn enforce<U: Caller>(
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    match user.bucket().spend() {
        Ok(()) => next.run(request).await,
        // Bare: each API's frame puts it into its own words.
        Err(wait) => {
            let seconds = clock::whole_seconds(wait).max(1);
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, HeaderValue::from(seconds))])
                .into_response()
        }
    }
}

/// How an API states what is left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) stated: Stated,
    pub(crate) reset: Reset,
    /// Whether the window, a minute, is stated too.
    pub(crate) window: bool,
}

/// On which answers it does. On 429 all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stated {
    OnSuccess,
    Always,
}

/// How it says when the bucket is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    EpochSeconds,
    SecondsLeft,
}

/// Says how many requests are left now.
pub(crate) async fn state_numbers<U: Caller>(
    State(style): State<Style>,
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    if style.stated == Stated::Always || status.is_success() || status == StatusCode::TOO_MANY_REQUESTS {
        state(style, user.bucket(), response.headers_mut());
    }
    response
}

/// Says how many requests are left in this bucket now.
pub(crate) fn state(style: Style, bucket: &Bucket, headers: &mut HeaderMap) {
    let now = bucket.state();
    headers.insert(LIMIT, now.limit.into());
    headers.insert(REMAINING, now.remaining.into());
    let reset = match style.reset {
        Reset::EpochSeconds => HeaderValue::from(clock::epoch_seconds_in(now.full_in)),
        Reset::SecondsLeft => HeaderValue::from(clock::whole_seconds(now.full_in)),
    };
    headers.insert(RESET, reset);
    if style.window {
        headers.insert(WINDOW, HeaderValue::from_static("60"));
    }
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");

/// A bucket of `limit` requests that refills evenly within a minute.
#[derive(Debug)]
pub(crate) struct Bucket<C: Clock = MonotonicClock> {
    quota: Quota,
    limiter: RateLimiter<Ask, Held, C, StateInformationMiddleware>,
}

/// What a bucket holds at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Requests a full bucket holds.
    pub(crate) limit: u32,
    /// Requests left.
    pub(crate) remaining: u32,
    /// When it is full again, if nothing is spent: at most one refill step later than the truth.
    pub(crate) full_in: Duration,
}

impl Bucket {
    /// A full bucket of `limit` requests a minute.
    pub(crate) fn per_minute(limit: NonZeroU32) -> Self {
        Self::with_clock(limit, MonotonicClock)
    }
}

impl<C: Clock> Bucket<C> {
    fn with_clock(limit: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(limit);
        Self { quota, limiter: RateLimiter::new(quota, Held::default(), clock) }
    }

    /// How many requests a full bucket holds, and gets in a minute.
    pub(crate) fn limit(&self) -> u32 {
        self.quota.burst_size().get()
    }

    /// Takes one request out.
    ///
    /// # Errors
    /// How long until there is one to take.
    fn spend(&self) -> Result<(), Duration> {
        match self.limiter.check_key(&Ask::Spend) {
            Ok(_) => Ok(()),
            Err(not_until) => Err(not_until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// What is left, without taking any.
    fn state(&self) -> Numbers {
        let limit = self.limit();
        let remaining = match self.limiter.check_key(&Ask::Peek) {
            // The snapshot is of the moment after the request that was not taken.
            Ok(after_one) => (after_one.remaining_burst_capacity() + 1).min(limit),
            Err(_) => 0,
        };
        Numbers { limit, remaining, full_in: self.quota.replenish_interval() * (limit - remaining) }
    }
}

/// What a check is for. Governor only knows checks that spend; the store below makes a check that does not, with the same
/// decision on the same number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Ask {
    Spend,
    Peek,
}

#[derive(Debug, Default)]
struct Held(InMemoryState);

impl StateStore for Held {
    type Key = Ask;

    fn measure_and_replace<T, F, E>(&self, ask: &Ask, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match ask {
            Ask::Spend => self.0.measure_and_replace(&NotKeyed::NonKey, decide),
            Ask::Peek => {
                // To the inner store an error means "do not write", so the decision travels out as one.
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
        assert_eq!(bucket.state(), Numbers { limit: 6, remaining: 6, full_in: Duration::ZERO });
    }

    #[test]
    fn asking_what_is_left_spends_nothing() {
        let (bucket, _) = bucket(6);
        bucket.spend().unwrap();
        let once = bucket.state();
        assert_eq!(once, Numbers { limit: 6, remaining: 5, full_in: Duration::from_secs(10) });
        for _ in 0..100 {
            assert_eq!(bucket.state(), once);
        }
    }

    #[test]
    fn an_empty_bucket_says_when_to_come_back_and_fills_again() {
        let (bucket, clock) = bucket(6);
        for left in (0..6).rev() {
            bucket.spend().unwrap();
            assert_eq!(bucket.state().remaining, left);
        }
        assert_eq!(bucket.spend(), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(9));
        assert_eq!(bucket.spend(), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(bucket.state().remaining, 1);
        bucket.spend().unwrap();
        clock.advance(Duration::from_mins(10));
        assert_eq!(bucket.state().remaining, 6);
    }

    #[test]
    fn many_threads_together_get_exactly_the_limit() {
        let limit = 50;
        let bucket = bucket(limit).0;
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..50).filter(|_| bucket.spend().is_ok()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, limit as usize);
    }
}
