//! A worker's way to the scheduler, on which calls are counted and can be made to fail.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use retry_scheduler::{
    AttemptRecord, Cancelled, ClaimDue, Claimed, Claims, Cycle, CycleKey, Fenced, Finished, MemoryScheduler,
    Namespaces, NewCycle, Report, Reschedule, Rescheduled, RetryScheduler, Scheduled, SchedulerError,
};
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Claim,
    Extend,
    Finish,
    Defer,
    NextWake,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing is reached.
    Down,
    /// The call takes effect, and its answer is lost.
    Deaf,
    /// The call never ends.
    Hang,
    /// The call takes so long, and then is carried out.
    Slow(Duration),
    /// The call is carried out, and answered so much later.
    Late(Duration),
}

/// A view of a scheduler. Others on the same scheduler have their own faults.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<MemoryScheduler>,
    faults: Arc<Mutex<HashMap<Verb, Fault>>>,
    calls: Arc<Mutex<Vec<(Verb, usize)>>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<MemoryScheduler>) -> Self {
        Self { inner, faults: Arc::default(), calls: Arc::default() }
    }

    pub(crate) fn fail(&self, verb: Verb, fault: Fault) {
        self.faults.lock().unwrap().insert(verb, fault);
    }

    pub(crate) fn fail_all(&self, fault: Fault) {
        for verb in [Verb::Claim, Verb::Extend, Verb::Finish, Verb::Defer, Verb::NextWake] {
            self.fail(verb, fault);
        }
    }

    pub(crate) fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// How many reports, or whatever it is, each call of this verb had.
    pub(crate) fn sizes(&self, verb: Verb) -> Vec<usize> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(called, _)| *called == verb).map(|(_, size)| *size).collect()
    }

    pub(crate) fn calls(&self, verb: Verb) -> usize {
        self.sizes(verb).len()
    }

    async fn pass<T>(
        &self,
        verb: Verb,
        size: usize,
        call: impl Future<Output = Result<T, SchedulerError>> + Send,
    ) -> Result<T, SchedulerError> {
        self.calls.lock().unwrap().push((verb, size));
        let fault = self.faults.lock().unwrap().get(&verb).copied();
        match fault {
            None => call.await,
            Some(Fault::Down) => Err(SchedulerError::unavailable("down")),
            Some(Fault::Deaf) => {
                let _ = call.await?;
                Err(SchedulerError::unavailable("lost"))
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::Slow(wait)) => {
                sleep(wait).await;
                call.await
            }
            Some(Fault::Late(wait)) => {
                let answer = call.await;
                sleep(wait).await;
                answer
            }
        }
    }
}

#[async_trait]
impl RetryScheduler for Watched {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        self.inner.schedule(new).await
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        self.pass(Verb::Claim, request.limit, self.inner.claim_due(request)).await
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        self.pass(Verb::Extend, 1, self.inner.extend(claim, lease)).await
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        self.pass(Verb::Finish, 1, self.inner.finish(claim, report)).await
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        self.pass(Verb::Finish, reports.len(), self.inner.finish_many(reports)).await
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        self.pass(Verb::Defer, 1, self.inner.defer(claim, delay)).await
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        self.inner.cancel(key).await
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        self.inner.reschedule(key, change).await
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        self.inner.get(key).await
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        self.inner.attempts(key, after, limit).await
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        self.pass(Verb::NextWake, 1, self.inner.next_wake(namespaces)).await
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        self.inner.purge_ended(older_than, limit).await
    }
}
