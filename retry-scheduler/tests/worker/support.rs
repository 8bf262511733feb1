//! A scheduler, workers on it, and what their handlers saw.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retry_scheduler::{
    Attempt, AttemptRecord, Cycle, CycleKey, Done, Ending, Handler, MemoryScheduler, NewCycle, Plan, Report,
    RetryScheduler, State, Verdict, Worker, WorkerBuilder, WorkerHandle, handler_fn,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::watched::{LOCKED, Watched};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const BEAT: Duration = Duration::from_secs(10);
/// What timers and the scheduler's whole milliseconds may add.
const SLACK: Duration = Duration::from_millis(5);
/// How often [`until`] looks.
const STEP: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) scheduler: Arc<MemoryScheduler>,
    begun: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { scheduler: Arc::default(), begun: now() }
    }

    /// How long it has been there.
    pub(crate) fn age(&self) -> Duration {
        now() - self.begun
    }

    /// Another way to the scheduler.
    pub(crate) fn view(&self) -> Watched {
        Watched::new(Arc::clone(&self.scheduler))
    }

    /// Begins a cycle that is due at once: five attempts, ten minutes apart.
    pub(crate) async fn due(&self, tenant: &str, subject: &str) -> CycleKey {
        self.schedule(tenant, subject, Duration::ZERO, Plan::every(10 * MINUTE, 5).unwrap()).await
    }

    /// Begins a cycle that is due at once, and that a view can [lock](Watched::lock).
    pub(crate) async fn lockable(&self, tenant: &str, subject: &str) -> CycleKey {
        let plan = Plan::every(10 * MINUTE, 5).unwrap();
        self.schedule_key(CycleKey::new(LOCKED, subject), tenant, Duration::ZERO, plan).await
    }

    pub(crate) async fn schedule(
        &self,
        tenant: &str,
        subject: &str,
        first_in: Duration,
        plan: Plan,
    ) -> CycleKey {
        self.schedule_key(CycleKey::new("webhook", subject), tenant, first_in, plan).await
    }

    pub(crate) async fn schedule_key(
        &self,
        key: CycleKey,
        tenant: &str,
        first_in: Duration,
        plan: Plan,
    ) -> CycleKey {
        let new = NewCycle::new(key.clone(), plan).tenant(tenant).first_in(first_in).payload("payload");
        self.scheduler.schedule(new).await.unwrap();
        key
    }

    pub(crate) async fn cycle(&self, key: &CycleKey) -> Cycle {
        self.scheduler.get(key).await.unwrap().unwrap()
    }

    pub(crate) async fn ending(&self, key: &CycleKey) -> Option<Ending> {
        match self.cycle(key).await.state {
            State::Ended { ending, .. } => Some(ending),
            State::Pending(_) => None,
        }
    }

    pub(crate) async fn attempts(&self, key: &CycleKey) -> Vec<AttemptRecord> {
        self.scheduler.attempts(key, 0, usize::MAX).await.unwrap()
    }

    /// The recorded attempts: verdict and detail.
    pub(crate) async fn recorded(&self, key: &CycleKey) -> Vec<(Verdict, String)> {
        let attempts = self.attempts(key).await;
        attempts
            .into_iter()
            .map(|one| (one.verdict, String::from_utf8(one.detail.to_vec()).unwrap()))
            .collect()
    }
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) handle: WorkerHandle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    /// The process dies.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A worker as most tests want it.
pub(crate) fn worker(scheduler: &Watched, handler: impl Handler) -> WorkerBuilder {
    Worker::builder(Arc::new(scheduler.clone()), handler).lease(LEASE).poll(SECOND)
}

pub(crate) fn start(builder: WorkerBuilder) -> Running {
    let (worker, shutdown) = (builder.build(), CancellationToken::new());
    let handle = worker.handle();
    Running { handle, task: tokio::spawn(worker.run(shutdown.clone())), shutdown }
}

/// What handlers saw.
#[derive(Clone)]
pub(crate) struct Seen(Arc<Seeing>);

struct Seeing {
    begun: Instant,
    starts: Mutex<Vec<Start>>,
    tokens: Mutex<Vec<Duration>>,
    running: AtomicUsize,
    peak: AtomicUsize,
    dropped: AtomicUsize,
}

/// An attempt as a handler got it.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) at: Duration,
    pub(crate) tenant: String,
    pub(crate) key: String,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Seeing {
            begun: now(),
            starts: Mutex::default(),
            tokens: Mutex::default(),
            running: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        }))
    }

    /// A handler that does this, and is seen.
    pub(crate) fn handler<F, Fut>(&self, run: F) -> impl Handler + use<F, Fut>
    where
        F: Fn(Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Done> + Send + 'static,
    {
        let seen = self.clone();
        handler_fn(move |attempt| {
            let (seen, run) = (seen.clone(), run(attempt.clone()));
            async move {
                let inside = Inside::enter(&seen, &attempt);
                let token = attempt.token().clone();
                let begun = seen.0.begun;
                let tokens = seen.clone();
                tokio::spawn(async move {
                    token.cancelled().await;
                    tokens.0.tokens.lock().unwrap().push(now() - begun);
                });
                let done = run.await;
                inside.leave();
                done
            }
        })
    }

    pub(crate) fn starts(&self) -> Vec<Start> {
        self.0.starts.lock().unwrap().clone()
    }

    pub(crate) fn runs(&self) -> usize {
        self.0.starts.lock().unwrap().len()
    }

    /// When tokens fired.
    pub(crate) fn tokens(&self) -> Vec<Duration> {
        self.0.tokens.lock().unwrap().clone()
    }

    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// The most at a time.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// How many were dropped before their end.
    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }
}

struct Inside {
    seen: Seen,
    left: bool,
}

impl Inside {
    fn enter(seen: &Seen, attempt: &Attempt) -> Self {
        let start =
            Start { at: now() - seen.0.begun, tenant: attempt.cycle().tenant.clone(), key: attempt.key() };
        seen.0.starts.lock().unwrap().push(start);
        let running = seen.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.0.peak.fetch_max(running, Ordering::SeqCst);
        Self { seen: seen.clone(), left: false }
    }

    fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.seen.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.left {
            self.seen.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

pub(crate) fn report(verdict: Verdict, detail: &'static str) -> Done {
    Done::Report(Report::new(verdict).detail(detail))
}

pub(crate) fn success() -> Done {
    report(Verdict::Success, "")
}

pub(crate) fn failure() -> Done {
    report(Verdict::Failure, "")
}

/// Lets time pass until it is so, within a day of paused time; then it has been so for no longer
/// than [`STEP`].
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_hours(24), "not within a day: {what}");
        sleep(STEP).await;
    }
}

/// This moment, which [`until`] found, is that.
#[track_caller]
pub(crate) fn assert_by(at: Duration, expected: Duration) {
    assert!(at >= expected && at <= expected + STEP + SLACK, "{at:?}, not {expected:?}");
}

/// Both are the same moment, but for timers.
#[track_caller]
pub(crate) fn assert_at(at: Duration, expected: Duration) {
    assert!(at >= expected && at <= expected + SLACK, "{at:?}, not {expected:?}");
}
