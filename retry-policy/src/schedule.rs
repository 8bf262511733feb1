use std::iter::FusedIterator;
use std::time::{Duration, SystemTime};

use crate::caps::Caps;
use crate::policy::RetryPolicy;

/// The times at which the retries of a policy are due, as an iterator, as if every attempt took no time.
///
/// Each attempt is due one interval after the end of the one before, and the first one interval after the work itself. There
/// are at most `max_retries`, and none past the age that the caps allow; an attempt exactly at that age is included. Times are
/// computed when they are asked for, so a policy with four billion retries costs no more than one with three.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use account_retry_policy::{Caps, Defaults, Plan, RetryPolicyInput};
///
/// let caps: Caps = Caps::merge(&Defaults::new(["busy".to_owned()]), &Plan::new())?;
/// let input = RetryPolicyInput::new().enabled(true).max_retries(3).interval_seconds(600).outcomes(["busy"]);
/// let policy = input.parse(&caps)?;
///
/// let start = SystemTime::UNIX_EPOCH;
/// let minutes = |count: u64| start + Duration::from_secs(60 * count);
/// assert_eq!(policy.schedule(&caps, start).collect::<Vec<_>>(), [minutes(10), minutes(20), minutes(30)]);
///
/// // The first attempt is over, and took until minute 12.
/// assert_eq!(policy.schedule(&caps, start).resume(1, minutes(12)).next(), Some(minutes(22)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "preview")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    max_retries: u32,
    interval: Duration,
    /// `None`: later than a `SystemTime` can be, so no time is past it.
    deadline: Option<SystemTime>,
    completed: u32,
    ended_at: SystemTime,
}

impl<O> RetryPolicy<O> {
    /// Returns the attempts for work done at `started_at`, from which its age is counted, too.
    ///
    /// Only the age of `caps` is used: [tighten](RetryPolicy::tightened) a saved policy first. A disabled policy has no
    /// attempts.
    pub fn schedule(&self, caps: &Caps<O>, started_at: SystemTime) -> Schedule {
        Schedule {
            max_retries: self.max_retries(),
            interval: self.interval(),
            deadline: started_at.checked_add(Duration::from_secs(caps.max_age_seconds().into())),
            completed: 0,
            ended_at: started_at,
        }
    }
}

impl Schedule {
    /// Continues after `completed` attempts, the last of which ended at `ended_at`.
    #[must_use]
    pub fn resume(self, completed: u32, ended_at: SystemTime) -> Self {
        Self { completed, ended_at, ..self }
    }
}

impl Iterator for Schedule {
    type Item = SystemTime;

    fn next(&mut self) -> Option<SystemTime> {
        if self.completed >= self.max_retries {
            return None;
        }
        let due_at = self.ended_at.checked_add(self.interval)?;
        if self.deadline.is_some_and(|deadline| due_at > deadline) {
            return None;
        }
        self.completed += 1;
        self.ended_at = due_at;
        Some(due_at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.max_retries.saturating_sub(self.completed)).ok())
    }
}

/// The state changes only when there is a next time, so the end is final.
impl FusedIterator for Schedule {}
