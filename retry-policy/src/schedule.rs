use std::iter::FusedIterator;
use std::time::{Duration, SystemTime};

use crate::caps::Caps;
use crate::policy::RetryPolicy;

/// When the retries of a policy are due: an iterator of times, as if every attempt took no time.
///
/// The next attempt is due one interval after the end of the last, never earlier; the first, one interval after the
/// work itself. There are at most `max_retries`, and none past the age the caps allow; one exactly at that age counts.
/// Nothing is computed before it is asked for, so a policy of four billion retries costs no more than one of three.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    max_retries: u32,
    interval: Duration,
    /// `None`: beyond what the clock can say, so no time is past it.
    deadline: Option<SystemTime>,
    completed: u32,
    ended_at: SystemTime,
}

impl<O> RetryPolicy<O> {
    /// The attempts planned for work done at `started_at`, from which its age is counted too.
    ///
    /// Of `caps` only the age is used; an account's policy is to be [tightened](RetryPolicy::tightened) before. A
    /// disabled policy plans nothing.
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
    /// Goes on after `completed` attempts, the last of which ended at `ended_at`.
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

/// The state only moves when there is a next time, so an end stays the end.
impl FusedIterator for Schedule {}
