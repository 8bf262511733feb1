//! What others hold of a worker: they wake it, and see how it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::trace;
use crate::clock;
use crate::error::SchedulerError;

/// A handle on a [`Worker`](crate::Worker). Its clones are the same handle.
///
/// Made by [`Worker::handle`](crate::Worker::handle), or before the worker, for a handler that has to have it: see
/// [`WorkerBuilder::handle`](crate::WorkerBuilder::handle).
#[derive(Clone, Debug, Default)]
pub struct WorkerHandle(pub(super) Arc<Meter>);

impl WorkerHandle {
    /// Has the worker look at once for what is due, in place of at its next poll. To be called after a cycle was scheduled,
    /// and after the commit where that was in a transaction. Costs nothing where the worker is busy or gone.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// How the worker is. Takes a lock for a moment, asks nobody.
    pub fn snapshot(&self) -> WorkerSnapshot {
        let seen = self.0.lock();
        let since_answer = seen.answered_at.map(|at| clock::now().saturating_duration_since(at));
        WorkerSnapshot { since_answer, ..seen.snapshot }
    }
}

/// How a worker is: for a health check and for metrics. Counts are since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// What it is doing.
    pub phase: WorkerPhase,
    /// How many claims it has: attempts that run, or whose end is being recorded.
    pub running: usize,
    /// How many it has at most.
    pub concurrency: usize,
    /// Whether the scheduler's last answer was one, and not an error.
    pub reachable: bool,
    /// How long ago the scheduler answered last; `None`: never. A worker that works hears from it at least once in the longer
    /// of its poll and a third of its lease.
    pub since_answer: Option<Duration>,
    /// How many namespaces it keeps closed, since their service is down.
    pub gates_closed: usize,
    /// What became of its attempts.
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

/// What became of the attempts of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptCounts {
    /// Recorded as success.
    pub succeeded: u64,
    /// Recorded as failure.
    pub failed: u64,
    /// Recorded as permanent.
    pub permanent: u64,
    /// Recorded by the handler itself.
    pub settled: u64,
    /// Given back, to be made later; also what came while a gate was closed.
    pub deferred: u64,
    /// Refused, since somebody else had the cycle by then, or recorded before by a call whose answer was lost.
    pub refused: u64,
    /// Not recorded, since the scheduler was not reached while the lease lasted.
    pub undelivered: u64,
    /// Ended by a panic; one of the failed ones too, when that was recorded.
    pub panicked: u64,
    /// Ended because they took too long; failed ones too.
    pub timed_out: u64,
    /// Not made, since too many workers had lost the cycle; failed ones too.
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

    /// The scheduler did not. Told once, until it answers again: every call fails in an outage.
    pub(super) fn failed(&self, verb: &'static str, error: &SchedulerError) {
        let news = {
            let mut seen = self.lock();
            seen.snapshot.reachable = false;
            !std::mem::replace(&mut seen.failing, true)
        };
        if news {
            trace::failing(verb, error);
        } else {
            trace::still_failing(verb, error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
