//! How often and how far apart a cycle's attempts are.

use std::time::{Duration, SystemTime};

use account_retry_policy::RetryPolicy;

use crate::millis::{duration_ms, whole};

/// How often a cycle is tried, how far apart, and until when.
///
/// The next attempt is due one delay after the end of the last, never earlier. After attempt *n* the *n*th delay counts;
/// after the last delay in the list, that one again. Attempts are counted from where the cycle was last scheduled or
/// reactivated.
///
/// Times are whole milliseconds here: delays are rounded up, a deadline is rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    max_attempts: u32,
    delays: Vec<Duration>,
    deadline: Option<SystemTime>,
}

/// Why there is no such plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A plan of no attempts is no plan.
    #[error("a plan has at least one attempt")]
    NoAttempts,
    /// A plan needs a delay, and at most [`Plan::MAX_DELAYS`].
    #[error("a plan has 1 to {} delays", Plan::MAX_DELAYS)]
    Delays,
    /// A delay is at least one millisecond and at most [`Plan::MAX_DELAY`].
    #[error("a delay is 1 ms to 10 years")]
    Delay,
}

impl Plan {
    /// The most delays a plan can list.
    pub const MAX_DELAYS: usize = 64;
    /// The longest delay: ten years.
    pub const MAX_DELAY: Duration = Duration::from_hours(10 * 365 * 24);

    /// `max_attempts` attempts, `interval` apart.
    ///
    /// # Errors
    ///
    /// When one of them makes no sense.
    pub fn every(interval: Duration, max_attempts: u32) -> Result<Self, PlanError> {
        Self::delays([interval], max_attempts)
    }

    /// `max_attempts` attempts, this far apart. A backoff is such a list: take as many of its delays as differ.
    ///
    /// # Errors
    ///
    /// When one of them makes no sense.
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
        let whole_ms = |delay| Duration::from_millis(duration_ms(delay).unsigned_abs());
        Ok(Self { max_attempts, delays: delays.into_iter().map(whole_ms).collect(), deadline: None })
    }

    /// What a customer's policy asks for; `None` where it is disabled. An interval longer than [`Plan::MAX_DELAY`] is that.
    pub fn of_policy<O>(policy: &RetryPolicy<O>) -> Option<Self> {
        policy.is_enabled().then(|| Self {
            max_attempts: policy.max_retries(),
            delays: vec![policy.interval().min(Self::MAX_DELAY)],
            deadline: None,
        })
    }

    /// No attempt is begun after this time; one exactly then is.
    #[must_use]
    pub fn deadline(self, deadline: SystemTime) -> Self {
        Self { deadline: Some(whole(deadline)), ..self }
    }

    /// How many attempts there are at most.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The delays, the last of which repeats.
    pub fn delay_list(&self) -> &[Duration] {
        &self.delays
    }

    /// When the last attempt may begin.
    pub fn last_start(&self) -> Option<SystemTime> {
        self.deadline
    }

    /// Whether an attempt may begin at this time.
    pub fn begins_at(&self, start: SystemTime) -> bool {
        self.deadline.is_none_or(|deadline| start <= deadline)
    }

    /// The delay after so many attempts; before the first, the first.
    pub fn delay_after(&self, attempts: u32) -> Duration {
        let index =
            usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(self.delays.len() - 1);
        self.delays[index]
    }
}
