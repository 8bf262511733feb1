//! The configuration of a worker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Handler, Worker, WorkerHandle};
use crate::claim::Namespaces;
use crate::scheduler::RetryScheduler;

/// Configures a [`Worker`]. A value outside its bounds is replaced by the nearest one inside.
#[must_use = "call `build`"]
pub struct WorkerBuilder {
    scheduler: Arc<dyn RetryScheduler>,
    handler: Arc<dyn Handler>,
    handle: WorkerHandle,
    concurrency: usize,
    per_tenant: Option<usize>,
    lease: Duration,
    poll: Duration,
    grace: Duration,
    attempt_timeout: Duration,
    poison_limit: u32,
    namespaces: Namespaces,
    keep_ended: Duration,
}

/// The configuration of a worker.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) concurrency: usize,
    pub(super) per_tenant: usize,
    pub(super) lease: Duration,
    pub(super) poll: Duration,
    pub(super) grace: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) poison_limit: u32,
    pub(super) namespaces: Namespaces,
    pub(super) keep_ended: Duration,
}

impl WorkerBuilder {
    pub(super) fn new(scheduler: Arc<dyn RetryScheduler>, handler: Arc<dyn Handler>) -> Self {
        Self {
            scheduler,
            handler,
            handle: WorkerHandle::default(),
            concurrency: 16,
            per_tenant: None,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            attempt_timeout: Duration::from_mins(15),
            poison_limit: 3,
            namespaces: Namespaces::All,
            keep_ended: Duration::from_hours(30 * 24),
        }
    }

    /// Sets how many attempts run at a time, at most. From 1; 16 unless set.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// Sets how many attempts of one tenant run at a time while other tenants have due cycles. A
    /// tenant that is alone may have every place. From 1 to the concurrency; half of it, rounded
    /// up, unless set.
    pub fn per_tenant(self, per_tenant: usize) -> Self {
        Self { per_tenant: Some(per_tenant), ..self }
    }

    /// Sets the namespaces that the worker claims from: those its handler knows. It claims from
    /// every namespace unless set.
    ///
    /// Cycles of other namespaces wait for another worker. They are not claimed, so they cost this
    /// one nothing, and nothing waits behind them.
    pub fn namespaces(self, namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { namespaces: Namespaces::only(namespaces), ..self }
    }

    /// Sets how long a claim holds unless it is renewed. The worker renews it after a third of
    /// that. After a crash, the attempt is made again when the lease has run out. From 100 ms; 30 s
    /// unless set.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Sets how often the worker looks for what others have scheduled, at least. Cycles that this
    /// worker knows of, that it is [woken](WorkerHandle::wake) for, or that the scheduler [tells it
    /// of](RetryScheduler::changed), do not wait for that. From 10 ms; 1 s unless set.
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// Sets how long attempts may go on after a shutdown was requested. 10 s unless set.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets how long one attempt may take. 15 minutes unless set; `Duration::MAX` is no bound.
    pub fn attempt_timeout(self, attempt_timeout: Duration) -> Self {
        Self { attempt_timeout, ..self }
    }

    /// Maximum crashes per attempt. When exceeded, the attempt is recorded as failed.
    ///
    /// An attempt crashes when the lease of its claim runs out and another claim follows: its
    /// worker died, or lost the lease. After so many crashes, the next worker does not make the
    /// attempt. It records [`Crashed`](crate::Verdict::Crashed), and the cycle goes on by its plan.
    /// From 1; 3 unless set.
    pub fn poison_limit(self, poison_limit: u32) -> Self {
        Self { poison_limit, ..self }
    }

    /// Sets how long ended cycles are kept. The worker deletes older ones with their payloads and
    /// attempts, some thousand a minute and more while there are more; their keys can be scheduled
    /// anew. 30 days unless set; `Duration::MAX` keeps them for ever.
    ///
    /// Every worker of a scheduler deletes by its own setting, so give all of them the same.
    #[doc(alias = "retention")]
    pub fn keep_ended(self, keep_ended: Duration) -> Self {
        Self { keep_ended, ..self }
    }

    /// Sets the handle of the worker, if something needs it before there is a worker. Each worker
    /// needs its own.
    pub fn handle(self, handle: WorkerHandle) -> Self {
        Self { handle, ..self }
    }

    /// Builds the worker.
    pub fn build(self) -> Worker {
        let concurrency = self.concurrency.max(1);
        let config = Config {
            concurrency,
            per_tenant: self.per_tenant.unwrap_or(concurrency.div_ceil(2)).clamp(1, concurrency),
            lease: self.lease.max(Duration::from_millis(100)),
            poll: self.poll.max(Duration::from_millis(10)),
            grace: self.grace,
            attempt_timeout: self.attempt_timeout,
            poison_limit: self.poison_limit.max(1),
            namespaces: self.namespaces,
            keep_ended: self.keep_ended,
        };
        Worker::new(self.scheduler, self.handler, config, self.handle)
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").finish_non_exhaustive()
    }
}
