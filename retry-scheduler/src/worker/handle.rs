//! The handle of a worker: wakes it, and shows how it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::{metrics, trace};
use crate::claim::Claimed;
use crate::clock;
use crate::error::{SchedulerError, SchedulerErrorKind};

/// A handle on a [`Worker`](crate::Worker). Its clones are the same handle.
///
/// Get one from [`Worker::handle`](crate::Worker::handle), or create one before the worker, for a
/// handler that needs it: see [`WorkerBuilder::handle`](crate::WorkerBuilder::handle).
#[derive(Clone, Debug, Default)]
pub struct WorkerHandle(pub(super) Arc<Meter>);

impl WorkerHandle {
    /// Makes the worker look for due cycles now, rather than at its next poll. Call it after you
    /// scheduled a cycle; if that was in a transaction, after the commit. Costs nothing when the
    /// worker is busy or gone.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Returns how the worker is. Takes a lock for a moment, and makes no call.
    pub fn snapshot(&self) -> WorkerSnapshot {
        let seen = self.0.lock();
        let since_answer = seen.answered_at.map(|at| clock::now().saturating_duration_since(at));
        WorkerSnapshot { since_answer, ..seen.snapshot }
    }
}

/// How a worker is, for a health check. Counts are since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// What it is doing.
    pub phase: WorkerPhase,
    /// How many claims it has: attempts that run, or whose end is being recorded. While the
    /// scheduler does not answer, ends that wait to be recorded come on top of the concurrency, at
    /// most as many again.
    pub running: usize,
    /// How many attempts it makes at a time, at most.
    pub concurrency: usize,
    /// Whether the scheduler was reached by the last call.
    pub reachable: bool,
    /// How long ago the scheduler answered last, or `None` if it never did. A healthy worker hears
    /// from it at least once in the longer of its poll and a third of its lease.
    pub since_answer: Option<Duration>,
    /// How many namespaces have their gate closed, because their service is down.
    pub gates_closed: usize,
    /// How many due cycles it met that this version of the crate cannot read. A cycle counts each
    /// time it is met.
    pub unreadable: u64,
    /// How many ended cycles it deleted.
    pub purged: u64,
    /// How its attempts ended.
    pub attempts: AttemptCounts,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerPhase {
    /// Nothing yet.
    #[default]
    Built,
    /// It claims and attempts.
    Working,
    /// It claims no more, and ends what it has begun.
    Draining,
    /// It has ended, or was dropped.
    Stopped,
}

/// How the attempts of a worker ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptCounts {
    /// Recorded as success.
    pub succeeded: u64,
    /// Recorded as failure, or as crashed.
    pub failed: u64,
    /// Recorded as permanent.
    pub permanent: u64,
    /// Recorded by the handler itself.
    pub already_recorded: u64,
    /// Given back, to be made later.
    pub deferred: u64,
    /// Refused, because somebody else had claimed, changed or ended the cycle by then.
    pub refused: u64,
    /// Not recorded, because the worker ended first, or because the scheduler says that it makes no
    /// sense. The attempt is made again.
    pub undelivered: u64,
    /// Ended by a panic. They count as failed too, once that is recorded.
    pub panicked: u64,
    /// Ended because they took too long. They count as failed too.
    pub timed_out: u64,
    /// Not made, because the cycle had crashed too many workers. They count as failed too.
    pub poisoned: u64,
}

/// The worker's side of a handle.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) wake: Notify,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    snapshot: WorkerSnapshot,
    answered_at: Option<Instant>,
    /// Whether it was told that the scheduler is not reached, and not yet that it is again.
    failing: bool,
}

impl Meter {
    pub(super) fn note(&self, change: impl FnOnce(&mut WorkerSnapshot)) {
        change(&mut self.lock().snapshot);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut AttemptCounts)) {
        change(&mut self.lock().snapshot.attempts);
    }

    /// A claim ended.
    pub(super) fn ended(&self, claimed: &Claimed, outcome: Outcome) {
        metrics::ended(claimed, outcome);
        self.count(|attempts| {
            let count = match outcome {
                Outcome::Succeeded => &mut attempts.succeeded,
                Outcome::Failed | Outcome::Crashed => &mut attempts.failed,
                Outcome::Permanent => &mut attempts.permanent,
                Outcome::AlreadyRecorded => &mut attempts.already_recorded,
                Outcome::Deferred => &mut attempts.deferred,
                Outcome::Refused => &mut attempts.refused,
                Outcome::Undelivered => &mut attempts.undelivered,
            };
            *count += 1;
        });
    }

    /// The scheduler answered.
    pub(super) fn answered(&self) {
        let recovered = {
            let mut seen = self.lock();
            seen.answered_at = Some(clock::now());
            seen.snapshot.reachable = true;
            std::mem::take(&mut seen.failing)
        };
        if recovered {
            trace::reachable();
        }
    }

    /// A call failed. An outage is logged once, until the scheduler answers again: then every call
    /// fails.
    pub(super) fn failed(&self, verb: &'static str, error: &SchedulerError) {
        metrics::store_error(verb, error);
        match error.kind() {
            SchedulerErrorKind::Unavailable | SchedulerErrorKind::NotMigrated => {
                let first = {
                    let mut seen = self.lock();
                    seen.snapshot.reachable = false;
                    !std::mem::replace(&mut seen.failing, true)
                };
                if first {
                    trace::failing(verb, error);
                } else {
                    trace::still_failing(verb, error);
                }
            }
            SchedulerErrorKind::Conflict => trace::still_failing(verb, error),
            SchedulerErrorKind::HookFailed | SchedulerErrorKind::Full | SchedulerErrorKind::Invalid => {
                trace::refusing(verb, error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
