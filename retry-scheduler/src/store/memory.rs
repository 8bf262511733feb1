//! Cycles in the memory of one process.

mod admin;
mod cycles;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use self::cycles::Cycles;
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::clock::{Clock, MonotonicClock};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, EndReason, Event, NewCycle, Refused, Reschedule};
use crate::error::SchedulerError;
use crate::millis::{to_ms, whole};
use crate::nonce;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, RetryScheduler, Scheduled};

/// Keeps cycles in the memory of one process.
///
/// For tests, development, and work that may be forgotten when the process ends.
///
/// It is bounded by the number of cycles. A pending cycle is never dropped. When there is no room
/// for a new one, the cycle that ended first is forgotten, with its attempts: its key is unknown
/// then. While all are pending, `schedule` fails with
/// [`Full`](crate::SchedulerErrorKind::Full). It keeps the latest [`ATTEMPTS_KEPT`](Self::ATTEMPTS_KEPT) attempts of each
/// cycle; numbers and counts go on.
///
/// Everything is under one lock, which no verb but those for many cycles holds longer than it takes
/// to find and move what it changes: the logarithm of the number of cycles for each cycle given or
/// changed, and of the number of tenants for each tenant passed over. Each namespace has its
/// tenants in the order of their first cycles, and each tenant its cycles in the order in which
/// they can be claimed. So a claim is exactly fair, and what is not selected costs it nothing.
/// Shards would spread the lock, but a claim, which looks for the longest due of all, would have to
/// take every one of them.
pub struct MemoryScheduler {
    clock: Arc<dyn Clock>,
    cycles: Mutex<Cycles>,
    on_ended: Option<Box<OnEnded>>,
}

type OnEnded = dyn Fn(&Cycle, EndReason) + Send + Sync;

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

    /// Creates a scheduler of at most so many cycles, with a [`MonotonicClock`].
    pub fn new(max_cycles: usize) -> Self {
        let cycles = Mutex::new(Cycles::new(max_cycles));
        Self { clock: Arc::new(MonotonicClock::new()), cycles, on_ended: None }
    }

    /// Sets another clock.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Sets a function that is called when a cycle has ended, just after the change and before the
    /// verb returns. There is no transaction: the ending stands whatever the function does.
    #[must_use]
    pub fn on_ended(self, function: impl Fn(&Cycle, EndReason) + Send + Sync + 'static) -> Self {
        self.lock().keep_just_ended();
        Self { on_ended: Some(Box::new(function)), ..self }
    }

    /// Returns how full it is.
    pub fn stats(&self) -> MemoryStats {
        self.lock().stats()
    }

    /// Nothing panics under the lock but an allocation that fails, which ends the process.
    fn lock(&self) -> MutexGuard<'_, Cycles> {
        self.cycles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a verb under the lock, then tells which cycles it ended. The clock is read under the
    /// lock, so that times are in the order of events.
    fn change<T>(&self, verb: impl FnOnce(&mut Cycles, SystemTime) -> T) -> T {
        let mut cycles = self.lock();
        let now = whole(self.clock.now());
        let answer = verb(&mut cycles, now);
        let ended = cycles.take_just_ended();
        drop(cycles);
        if let Some(on_ended) = &self.on_ended {
            for cycle in ended {
                if let Some(reason) = cycle.end_reason() {
                    on_ended(&cycle, reason);
                }
            }
        }
        answer
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
        self.change(|cycles, now| cycles.schedule(&new, now))
    }

    async fn schedule_many(&self, new: Vec<NewCycle>) -> Result<Vec<Scheduled>, SchedulerError> {
        new.iter().try_for_each(NewCycle::check)?;
        self.change(|cycles, now| new.iter().map(|new| cycles.schedule(new, now)).collect())
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        let nonce = nonce::random()?;
        Ok(self.change(|cycles, now| cycles.claim_due(&request, nonce, now)).into())
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Extend { fence: claim.fence(), lease };
        let applied = self.change(|cycles, now| cycles.apply(&claim.cycle.key, event, now));
        Ok(fenced(applied.as_ref()))
    }

    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        Ok(self.change(|cycles, now| {
            let extend = |claim: &Claimed| {
                let event = Event::Extend { fence: claim.fence(), lease };
                fenced(cycles.apply(&claim.cycle.key, event, now).as_ref())
            };
            claims.iter().map(extend).collect()
        }))
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        Ok(self.change(|cycles, now| cycles.finish(claim, &report, now)))
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        Ok(self.change(|cycles, now| {
            let finish = |(claim, report): &(Claimed, Report)| {
                report.check()?;
                Ok(cycles.finish(claim, report, now))
            };
            reports.iter().map(finish).collect()
        }))
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Defer { fence: claim.fence(), delay };
        let applied = self.change(|cycles, now| cycles.apply(&claim.cycle.key, event, now));
        Ok(fenced(applied.as_ref()))
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        Ok(match self.change(|cycles, now| cycles.apply(key, Event::Cancel, now)) {
            Some(Ok(cycle)) => Cancelled::Cancelled(cycle),
            Some(Err(Refused::Ended(ending))) => Cancelled::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Leased | Refused::Stale)) | None => Cancelled::Unknown,
        })
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        Ok(self.change(|cycles, now| {
            let had_ended = cycles.get(key).is_some_and(|cycle| cycle.ending().is_some());
            match cycles.apply(key, Event::Reschedule(change), now) {
                Some(Ok(cycle)) if had_ended => Rescheduled::Reactivated(cycle),
                Some(Ok(cycle)) => Rescheduled::Changed(cycle),
                Some(Err(Refused::Ended(ending))) => Rescheduled::Ended(ending),
                Some(Err(Refused::NotDue | Refused::Leased | Refused::Stale)) | None => Rescheduled::Unknown,
            }
        }))
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        Ok(self.lock().get(key).cloned())
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        Ok(self.lock().attempts(key, after, limit))
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        let first = self.lock().first_wake(namespaces);
        let now = to_ms(self.clock.now());
        Ok(first.map(|wake| Duration::from_millis(u64::try_from(wake - now).unwrap_or(0))))
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        Ok(self.change(|cycles, now| cycles.purge_ended(older_than, limit, now)))
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
