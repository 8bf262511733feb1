//! How a worker is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Handler, Worker, WorkerHandle};
use crate::scheduler::RetryScheduler;

/// Sets up a [`Worker`]. A value outside of its bounds is taken as the nearest inside.
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
}

/// What a worker was set up with.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) concurrency: usize,
    pub(super) per_tenant: usize,
    pub(super) lease: Duration,
    pub(super) poll: Duration,
    pub(super) grace: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) poison_limit: u32,
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
        }
    }

    /// How many attempts run at a time, at most. From 1; 16 unless set.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// How many attempts of one tenant run at a time, at most. From 1 to the concurrency; half of that, rounded up, unless
    /// set.
    pub fn per_tenant(self, per_tenant: usize) -> Self {
        Self { per_tenant: Some(per_tenant), ..self }
    }

    /// For how long a claim holds unless it is renewed, which it is after a third of that: so long after a crash the attempt
    /// is made again. From 100 ms; 30 s unless set.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// How often the worker looks for what others have scheduled, at least. What this worker knows of, or is
    /// [woken](WorkerHandle::wake) for, does not wait for that. From 10 ms; 1 s unless set.
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// How long attempts may go on after a shutdown was asked for. 10 s unless set.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// How long one attempt may take. 15 minutes unless set; `Duration::MAX` is no bound.
    pub fn attempt_timeout(self, attempt_timeout: Duration) -> Self {
        Self { attempt_timeout, ..self }
    }

    /// How many workers may lose a cycle in the middle of an attempt, by dying or otherwise, until it is not attempted any
    /// more: each attempt that follows counts as failed, without a run. From 1; 3 unless set.
    pub fn poison_limit(self, poison_limit: u32) -> Self {
        Self { poison_limit, ..self }
    }

    /// The handle that the worker is to have, for who needs it before there is a worker. Each worker needs its own.
    pub fn handle(self, handle: WorkerHandle) -> Self {
        Self { handle, ..self }
    }

    /// The worker.
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
        };
        Worker::new(self.scheduler, self.handler, config, self.handle)
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").finish_non_exhaustive()
    }
}

impl Config {
    /// How long after a renewal the next one is.
    pub(super) fn heartbeat(&self) -> Duration {
        self.lease / 3
    }
}
