//! Plans: how often a cycle is attempted, and how far apart.

use std::time::{Duration, SystemTime};

use account_retry_policy::RetryPolicy;

use crate::millis::{duration_ms, whole};

/// Says how often a cycle is attempted, how far apart, and until when.
///
/// The next attempt is due one delay after the end of the last one, never earlier. After attempt
/// *n* the *n*th delay applies, and after the last delay in the list that one again. Attempts are
/// counted since the cycle was last scheduled or reactivated.
///
/// Times are whole milliseconds: delays are rounded up, a deadline is rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    max_attempts: u32,
    delays: Vec<Duration>,
    deadline: Option<SystemTime>,
    jitter_percent: u8,
    max_deferrals: u32,
}

/// Why a plan is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no attempt.
    #[error("a plan has at least one attempt")]
    NoAttempts,
    /// There is no delay, or there are more than [`Plan::MAX_DELAYS`].
    #[error("a plan has 1 to {} delays", Plan::MAX_DELAYS)]
    Delays,
    /// A delay is shorter than a millisecond or longer than [`Plan::MAX_DELAY`].
    #[error("a delay is 1 ms to 10 years")]
    Delay,
    /// The jitter is more than 100 percent.
    #[error("jitter is 0 to 100 percent")]
    Jitter,
}

impl Plan {
    /// The largest number of delays in a plan.
    pub const MAX_DELAYS: usize = 64;
    /// The longest delay: ten years.
    pub const MAX_DELAY: Duration = Duration::from_hours(10 * 365 * 24);
    /// How often an attempt can be deferred, unless [`max_deferrals`](Self::max_deferrals) changes
    /// it.
    pub const MAX_DEFERRALS: u32 = 1_000;
    /// The jitter of [`exponential`](Self::exponential), in percent.
    pub const EXPONENTIAL_JITTER: u8 = 50;

    /// Creates a plan of `max_attempts` attempts, `interval` apart.
    ///
    /// # Errors
    ///
    /// When there is no attempt, or when a delay or their number is out of bounds.
    pub fn every(interval: Duration, max_attempts: u32) -> Result<Self, PlanError> {
        Self::delays([interval], max_attempts)
    }

    /// Creates a plan of `max_attempts` attempts with these delays between them.
    ///
    /// # Errors
    ///
    /// When there is no attempt, or when a delay or their number is out of bounds.
    pub fn delays(delays: impl IntoIterator<Item = Duration>, max_attempts: u32) -> Result<Self, PlanError> {
        let delays: Vec<_> = delays.into_iter().take(Self::MAX_DELAYS + 1).collect();
        if max_attempts == 0 {
            return Err(PlanError::NoAttempts);
        }
        if delays.is_empty() || delays.len() > Self::MAX_DELAYS {
            return Err(PlanError::Delays);
        }
        if delays.iter().any(|delay| *delay < Duration::from_millis(1) || *delay > Self::MAX_DELAY) {
            return Err(PlanError::Delay);
        }
        let delays = delays.into_iter().map(whole_ms).collect();
        Ok(Self {
            max_attempts,
            delays,
            deadline: None,
            jitter_percent: 0,
            max_deferrals: Self::MAX_DEFERRALS,
        })
    }

    /// Creates a plan of `max_attempts` attempts with exponential backoff: the delays double from
    /// `first` up to `longest`, with [`EXPONENTIAL_JITTER`](Self::EXPONENTIAL_JITTER).
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_scheduler::Plan;
    ///
    /// let plan = Plan::exponential(Duration::from_secs(10), Duration::from_mins(1), 8)?;
    /// assert_eq!(plan.delay_list(), [10, 20, 40, 60].map(Duration::from_secs));
    /// # Ok::<(), retry_scheduler::PlanError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no attempt, when a delay is out of bounds, or when `longest` is shorter than
    /// `first`.
    pub fn exponential(first: Duration, longest: Duration, max_attempts: u32) -> Result<Self, PlanError> {
        if longest < first {
            return Err(PlanError::Delay);
        }
        let doubling = std::iter::successors(Some(first), |delay| Some(delay.saturating_mul(2)));
        let shorter = doubling.take(Self::MAX_DELAYS - 1).take_while(|delay| *delay < longest);
        let plan = Self::delays(shorter.chain([longest]), max_attempts)?;
        Ok(Self { jitter_percent: Self::EXPONENTIAL_JITTER, ..plan })
    }

    /// Creates the plan that a customer's policy asks for, or `None` if the policy is disabled. An
    /// interval longer than [`Plan::MAX_DELAY`] becomes that.
    pub fn of_policy<O>(policy: &RetryPolicy<O>) -> Option<Self> {
        policy.is_enabled().then(|| Self {
            max_attempts: policy.max_retries(),
            delays: vec![policy.interval().min(Self::MAX_DELAY)],
            deadline: None,
            jitter_percent: 0,
            max_deferrals: Self::MAX_DEFERRALS,
        })
    }

    /// Sets the last start: no attempt begins after this time.
    #[must_use]
    pub fn deadline(self, deadline: SystemTime) -> Self {
        Self { deadline: Some(whole(deadline)), ..self }
    }

    /// Sets the jitter: each delay is shortened by up to this many percent, so that cycles that
    /// failed together do not come back together. Zero by default.
    ///
    /// How much a delay is shortened depends on the cycle's key, fence and attempts alone, so every
    /// process computes the same. See [`Cycle::delay`](crate::Cycle::delay).
    ///
    /// # Errors
    ///
    /// When it is more than 100.
    pub fn jitter(self, percent: u8) -> Result<Self, PlanError> {
        if percent > 100 {
            return Err(PlanError::Jitter);
        }
        Ok(Self { jitter_percent: percent, ..self })
    }

    /// Sets how often the cycle can be deferred between two recorded attempts; one deferral more
    /// ends it exhausted. [`MAX_DEFERRALS`](Self::MAX_DEFERRALS) by default.
    #[must_use]
    pub fn max_deferrals(self, max_deferrals: u32) -> Self {
        Self { max_deferrals, ..self }
    }

    /// Returns the jitter, in percent.
    pub fn jitter_percent(&self) -> u8 {
        self.jitter_percent
    }

    /// Returns how often the cycle can be deferred between two recorded attempts.
    pub fn deferral_limit(&self) -> u32 {
        self.max_deferrals
    }

    /// Returns the largest number of attempts.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Returns the delays, the last of which repeats.
    pub fn delay_list(&self) -> &[Duration] {
        &self.delays
    }

    /// Returns the time after which no attempt begins.
    pub fn last_start(&self) -> Option<SystemTime> {
        self.deadline
    }

    /// Returns whether an attempt may begin at this time.
    pub fn begins_at(&self, start: SystemTime) -> bool {
        self.deadline.is_none_or(|deadline| start <= deadline)
    }

    /// Returns the delay after this many attempts, without jitter; before the first attempt, the
    /// first.
    pub fn delay_after(&self, attempts: u32) -> Duration {
        let index =
            usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(self.delays.len() - 1);
        self.delays[index]
    }
}

fn whole_ms(delay: Duration) -> Duration {
    Duration::from_millis(duration_ms(delay).unsigned_abs())
}
