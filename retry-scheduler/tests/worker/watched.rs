//! A worker's way to the scheduler, on which calls are counted and can be made to fail.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use retry_scheduler::{
    AttemptRecord, Cancelled, ClaimDue, Claimed, Claims, Cycle, CycleKey, Fenced, Finished,
    FinishedAndClaimed, MemoryScheduler, Namespaces, NewCycle, Report, Reschedule, Rescheduled,
    RetryScheduler, Scheduled, SchedulerError, Unreadable,
};
use tokio::sync::Notify;
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Claim,
    Extend,
    Finish,
    Defer,
    NextWake,
    /// `get` and `attempts`.
    Look,
    Purge,
    /// `finish_and_claim`, which is one of `Finish` and one of `Claim` too.
    FinishAndClaim,
}

pub(crate) const LOCKED: &str = "locked";

const VERBS: [Verb; 7] =
    [Verb::Claim, Verb::Extend, Verb::Finish, Verb::Defer, Verb::NextWake, Verb::Look, Verb::Purge];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing is reached.
    Down,
    /// The database is reached, and has no tables.
    NotMigrated,
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
    locked: Arc<Mutex<HashSet<String>>>,
    failing_hooks: Arc<Mutex<HashSet<String>>>,
    unreadable: Arc<Mutex<Vec<CycleKey>>>,
    changed: Arc<Notify>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<MemoryScheduler>) -> Self {
        Self {
            inner,
            faults: Arc::default(),
            calls: Arc::default(),
            locked: Arc::default(),
            failing_hooks: Arc::default(),
            unreadable: Arc::default(),
            changed: Arc::default(),
        }
    }

    pub(crate) fn fail(&self, verb: Verb, fault: Fault) {
        self.faults.lock().unwrap().insert(verb, fault);
    }

    pub(crate) fn fail_all(&self, fault: Fault) {
        for verb in VERBS {
            self.fail(verb, fault);
        }
    }

    /// Somebody holds a lock on the cycle of this subject, until it is healed. It is in the
    /// namespace [`LOCKED`], which claims pass over meanwhile.
    pub(crate) fn lock(&self, subject: &str) {
        self.locked.lock().unwrap().insert(subject.to_owned());
    }

    /// The hook fails whenever the cycle of this subject would end, until it is healed.
    pub(crate) fn fail_hook(&self, subject: &str) {
        self.failing_hooks.lock().unwrap().insert(subject.to_owned());
    }

    /// The next claim meets this cycle, and cannot read it.
    pub(crate) fn spoil(&self, key: CycleKey) {
        self.unreadable.lock().unwrap().push(key);
    }

    /// Tells the worker that somebody has scheduled something.
    pub(crate) fn tell(&self) {
        self.changed.notify_one();
    }

    fn is_locked(&self, claim: &Claimed) -> Result<(), SchedulerError> {
        let locked = self.locked.lock().unwrap().contains(&claim.cycle.key.subject);
        if locked { Err(SchedulerError::conflict("locked")) } else { Ok(()) }
    }

    fn check_report(&self, claim: &Claimed) -> Result<(), SchedulerError> {
        self.is_locked(claim)?;
        let fails = self.failing_hooks.lock().unwrap().contains(&claim.cycle.key.subject);
        if fails { Err(SchedulerError::hook_failed("as it was told to")) } else { Ok(()) }
    }

    async fn finish_each(&self, reports: Vec<(Claimed, Report)>) -> Vec<Result<Finished, SchedulerError>> {
        let mut answers = Vec::new();
        for (claim, report) in reports {
            answers.push(match self.check_report(&claim) {
                Ok(()) => self.inner.finish(&claim, report).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    pub(crate) fn heal(&self) {
        self.faults.lock().unwrap().clear();
        self.locked.lock().unwrap().clear();
        self.failing_hooks.lock().unwrap().clear();
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
            Some(Fault::NotMigrated) => Err(SchedulerError::not_migrated("no tables")),
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

    async fn claim_due(&self, mut request: ClaimDue) -> Result<Claims, SchedulerError> {
        if !self.locked.lock().unwrap().is_empty() {
            request = request.namespaces(Namespaces::except([LOCKED]));
        }
        let mut claims = self.pass(Verb::Claim, request.limit, self.inner.claim_due(request)).await?;
        let spoilt = std::mem::take(&mut *self.unreadable.lock().unwrap());
        claims.unreadable.extend(
            spoilt.into_iter().map(|key| Unreadable::new(Some(key), SchedulerError::invalid("a newer plan"))),
        );
        Ok(claims)
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let call = async {
            self.is_locked(claim)?;
            self.inner.extend(claim, lease).await
        };
        self.pass(Verb::Extend, 1, call).await
    }

    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        let call = async {
            claims.iter().try_for_each(|claim| self.is_locked(claim))?;
            self.inner.extend_many(claims, lease).await
        };
        self.pass(Verb::Extend, claims.len(), call).await
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        let call = async {
            self.check_report(claim)?;
            self.inner.finish(claim, report).await
        };
        self.pass(Verb::Finish, 1, call).await
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        self.pass(Verb::Finish, reports.len(), async { Ok(self.finish_each(reports).await) }).await
    }

    async fn finish_and_claim(
        &self,
        reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        self.calls.lock().unwrap().push((Verb::FinishAndClaim, reports.len()));
        let finished = self.finish_many(reports).await?;
        Ok(FinishedAndClaimed::new(finished, self.claim_due(request).await))
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
        self.pass(Verb::Look, 1, self.inner.get(key)).await
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        self.pass(Verb::Look, 1, self.inner.attempts(key, after, limit)).await
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        self.pass(Verb::NextWake, 1, self.inner.next_wake(namespaces)).await
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        self.pass(Verb::Purge, limit, self.inner.purge_ended(older_than, limit)).await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}
