//! Cycles in the memory of one process.

mod cycles;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::cycles::Cycles;
use crate::clock::{Clock, MonotonicClock};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, Refused};
use crate::error::SchedulerError;
use crate::millis::{to_ms, whole};
use crate::scheduler::{
    Cancelled, ClaimDue, Claimed, Fenced, Finished, NewCycle, Report, Reschedule, Rescheduled,
    RetryScheduler, Scheduled,
};

/// Cycles in the memory of one process.
///
/// For one process that may forget its cycles when it ends: tests, development, and work that is not worth a database.
///
/// It is bounded by the number of cycles. A pending cycle is never dropped. When there is no room for a new one, the cycle
/// that ended first is forgotten, with its attempts: its key is unknown then. While all are pending, `schedule` fails with
/// [`Full`](crate::SchedulerErrorKind::Full). Of each cycle the latest [`MemoryScheduler::ATTEMPTS_KEPT`] attempts are
/// kept; numbers and counts go on.
///
/// All is under one lock, which no verb holds longer than it takes to find and move what it changes: the logarithm of the
/// number of cycles for each cycle given or changed, and of the number of tenants for each tenant passed over. Each tenant
/// has its cycles in the order in which they can be claimed, and the tenants stand in the order of their first ones. So a
/// claim is exactly fair, whoever has a million due, and [`next_wake`](RetryScheduler::next_wake) is the first of the first. Shards would
/// spread the lock, but a claim, which looks for the longest due of all, would have to take every one of them.
pub struct MemoryScheduler {
    clock: Arc<dyn Clock>,
    cycles: Mutex<Cycles>,
}

/// How full a [`MemoryScheduler`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Cycles that go on.
    pub pending: usize,
    /// Cycles that ended and are still known.
    pub ended: usize,
    /// Cycles that ended and were dropped for new ones, since the scheduler was made.
    pub forgotten: u64,
}

impl MemoryScheduler {
    /// How many attempts of a cycle are kept: the latest.
    pub const ATTEMPTS_KEPT: usize = 256;

    /// A scheduler of at most so many cycles, with a [`MonotonicClock`].
    pub fn new(max_cycles: usize) -> Self {
        Self { clock: Arc::new(MonotonicClock::new()), cycles: Mutex::new(Cycles::new(max_cycles)) }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// How full it is.
    pub fn stats(&self) -> MemoryStats {
        self.lock().stats()
    }

    /// Nothing panics under the lock but an allocation that fails, which ends the process.
    fn lock(&self) -> MutexGuard<'_, Cycles> {
        self.cycles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an event, now, makes of a cycle. The clock is read under the lock, so that times are in the order of events.
    fn apply(&self, key: &CycleKey, event: Event) -> Option<Result<Cycle, Refused>> {
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        cycles.apply(key, event, now)
    }
}

/// A hundred thousand cycles.
impl Default for MemoryScheduler {
    fn default() -> Self {
        Self::new(100_000)
    }
}

#[async_trait]
impl RetryScheduler for MemoryScheduler {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        cycles.schedule(&new, now)
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Vec<Claimed>, SchedulerError> {
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        Ok(cycles.claim_due(&request, now))
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Extend { epoch: claim.cycle.epoch, lease };
        Ok(fenced(self.apply(&claim.cycle.key, event).as_ref()))
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        Ok(cycles.finish(claim, &report, now))
    }

    async fn finish_many(&self, reports: Vec<(Claimed, Report)>) -> Result<Vec<Finished>, SchedulerError> {
        for (_, report) in &reports {
            report.check()?;
        }
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        Ok(reports.iter().map(|(claim, report)| cycles.finish(claim, report, now)).collect())
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Defer { epoch: claim.cycle.epoch, delay };
        Ok(fenced(self.apply(&claim.cycle.key, event).as_ref()))
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        Ok(match self.apply(key, Event::Cancel) {
            Some(Ok(cycle)) => Cancelled::Cancelled(cycle),
            Some(Err(Refused::Ended(ending))) => Cancelled::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Stale)) | None => Cancelled::Unknown,
        })
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        let had_ended = cycles.get(key).is_some_and(|cycle| cycle.ending().is_some());
        Ok(match cycles.apply(key, Event::Reschedule(change), now) {
            Some(Ok(cycle)) if had_ended => Rescheduled::Reactivated(cycle),
            Some(Ok(cycle)) => Rescheduled::Changed(cycle),
            Some(Err(Refused::Ended(ending))) => Rescheduled::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Stale)) | None => Rescheduled::Unknown,
        })
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        Ok(self.lock().get(key).cloned())
    }

    async fn attempts(&self, key: &CycleKey) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        Ok(self.lock().attempts(key))
    }

    async fn next_wake(&self) -> Result<Option<Duration>, SchedulerError> {
        let first = self.lock().first_wake();
        let now = to_ms(self.clock.now());
        Ok(first.map(|wake| Duration::from_millis(u64::try_from(wake - now).unwrap_or(0))))
    }
}

impl fmt::Debug for MemoryScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryScheduler").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn fenced(applied: Option<&Result<Cycle, Refused>>) -> Fenced {
    if let Some(Ok(_)) = applied { Fenced::Held } else { Fenced::Stale }
}
