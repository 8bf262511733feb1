//! The worker: claims due cycles, has them attempted, and records the results.

mod builder;
mod gate;
mod handle;
mod handler;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "worker/metrics/off.rs"]
mod metrics;
mod outcome;
mod reports;
mod run;
mod slots;
mod supervisor;
#[cfg(feature = "tracing")]
mod trace;
#[cfg(not(feature = "tracing"))]
#[path = "worker/trace/off.rs"]
mod trace;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use account_retry_policy::Backoff;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::builder::Config;
pub use self::builder::WorkerBuilder;
use self::gate::Gates;
use self::handle::Meter;
pub use self::handle::{AttemptCounts, WorkerHandle, WorkerPhase, WorkerSnapshot};
pub use self::handler::{Attempt, Done, Handler, HandlerFn, handler_fn};
use self::lease::Leases;
use self::reports::Reports;
use self::run::Run;
use crate::error::SchedulerError;
use crate::scheduler::RetryScheduler;

/// How long a handler whose token fired at a shutdown may go on.
const WINDING_DOWN: Duration = Duration::from_secs(1);

/// How long a handler that is dropped may take to its next await, before it counts as stuck.
const STOPPING: Duration = Duration::from_secs(1);

/// Claims due cycles, has a [`Handler`] make the attempts, and records how they ended.
///
/// Any number of workers, in any number of processes, share a scheduler.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use retry_scheduler::{
///     Attempt, CycleKey, Done, MemoryScheduler, NewCycle, Plan, Report, RetryScheduler, Worker, handler_fn,
/// };
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scheduler = Arc::new(MemoryScheduler::default());
///
/// let shutdown = CancellationToken::new();
/// # let ended = shutdown.clone();
/// let handler = handler_fn(move |attempt: Attempt| {
/// #   let ended = ended.clone();
///     async move {
///         // Asks another service, with attempt.cycle_key() as the idempotency key.
/// #       if attempt.number() == 3 { ended.cancel(); }
///         Done::Report(if attempt.number() == 3 { Report::success() } else { Report::failure() })
///     }
/// });
/// let worker = Worker::builder(scheduler.clone(), handler).concurrency(32).build();
/// let handle = worker.handle();
/// let running = tokio::spawn(worker.run(shutdown.clone()));
///
/// let key = CycleKey::new("webhook", "delivery 17");
/// let plan = Plan::every(Duration::from_mins(10), 5)?;
/// scheduler.schedule(NewCycle::new(key.clone(), plan).tenant("account 1").payload("what to deliver")).await?;
/// handle.wake(); // in place of waiting for the next poll
///
/// // At the end of the process: shutdown.cancel()
/// running.await?;
/// assert_eq!(scheduler.attempts(&key, 0, 10).await?.len(), 3);
/// assert_eq!(handle.snapshot().attempts.succeeded, 1);
/// # Ok(())
/// # }
/// ```
///
/// # What it does with a claim
///
/// | event | the attempt |
/// |---|---|
/// | the handler returns [`Done::Report`] | is recorded; reports go together in one call, and with the next claim |
/// | [`Done::AlreadyRecorded`] | was recorded by the handler |
/// | [`Done::Unavailable`] | does not count; the cycle waits, and its namespace is not claimed from meanwhile |
/// | [`Done::Deferred`] | does not count; the cycle waits |
/// | the handler panics | fails |
/// | it takes longer than [`attempt_timeout`](WorkerBuilder::attempt_timeout) | is dropped, and fails |
/// | the cycle is cancelled, rescheduled, or claimed by another worker | its [token](Attempt::token) fires within a third of the lease, and its report is refused |
/// | the lease cannot be renewed | its token fires when the lease has run out; its report counts if nobody has claimed the cycle since |
/// | the report cannot be recorded | keeps its place; the report is repeated until it is recorded, or until somebody else has claimed the cycle, however long the database is down |
/// | the process dies | is made again when the lease has run out |
/// | that happens [`poison_limit`](WorkerBuilder::poison_limit) times | is not made, and recorded as [`Crashed`](crate::Verdict::Crashed) |
/// | the process is asked to stop | see [`run`](Self::run) |
///
/// The detail of a failure that the worker itself reports is a short text that says which.
///
/// # Tenants
///
/// While other tenants have due cycles, one tenant has at most
/// [`per_tenant`](WorkerBuilder::per_tenant) attempts at a time, half of the concurrency by
/// default. A tenant that is alone may have every place. So another tenant that comes waits for the
/// next free place, however much the first one has due.
///
/// # Ended cycles
///
/// The worker deletes cycles that ended 30 days ago; see [`keep_ended`](WorkerBuilder::keep_ended).
///
/// # Observability
///
/// [`WorkerHandle::snapshot`] is for health checks. With the features `metrics` and `tracing`, the
/// worker counts and logs; see the [crate's documentation](crate#metrics). An outage of the
/// database is logged once when it begins, and once when it is over.
#[must_use = "a worker does nothing until it runs"]
pub struct Worker {
    core: Arc<Core>,
}

/// What the parts of one worker share.
struct Core {
    scheduler: Arc<dyn RetryScheduler>,
    handler: Arc<dyn Handler>,
    config: Config,
    leases: Leases,
    reports: Reports,
    gates: Arc<Gates>,
    meter: Arc<Meter>,
    /// Fires when the grace of a shutdown is over.
    stop: CancellationToken,
}

impl Worker {
    /// Returns a builder for a worker on this scheduler. The handler makes the attempts.
    pub fn builder(scheduler: Arc<dyn RetryScheduler>, handler: impl Handler) -> WorkerBuilder {
        WorkerBuilder::new(scheduler, Arc::new(handler))
    }

    fn new(
        scheduler: Arc<dyn RetryScheduler>,
        handler: Arc<dyn Handler>,
        config: Config,
        handle: WorkerHandle,
    ) -> Self {
        let WorkerHandle(meter) = handle;
        meter.note(|snapshot| snapshot.concurrency = config.concurrency);
        let leases = Leases::new(Arc::clone(&scheduler), Arc::clone(&meter), config.lease);
        let reports = Reports::new(Arc::clone(&scheduler), Arc::clone(&meter), patience(config.lease));
        let (gates, stop) = (Arc::new(Gates::new(Arc::clone(&meter))), CancellationToken::new());
        Self { core: Arc::new(Core { scheduler, handler, config, leases, reports, gates, meter, stop }) }
    }

    /// Returns a handle that wakes the worker and shows how it is.
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle(Arc::clone(&self.core.meter))
    }

    /// Works until `shutdown` fires, and then ends what it has begun.
    ///
    /// It claims no more, and running attempts have the [grace](WorkerBuilder::grace) to end. Then
    /// their [tokens](Attempt::token) fire. A second later they are dropped, and their claims are
    /// given back, so that another worker makes the attempts at once; they do not count. Results
    /// that are not recorded yet are repeated until the end. Returns three seconds after the grace
    /// at the latest, whatever hangs: what is left then is as after a crash.
    ///
    /// # Panics
    ///
    /// When a verb of the scheduler panics. A panic of the handler is a failed attempt.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: attempts are dropped with it, at their next awaits, and their
    /// leases run out; nothing is lost. Firing `shutdown` and awaiting the end is better: leases
    /// are given back, and results are recorded.
    pub async fn run(self, shutdown: CancellationToken) {
        Run::new(self.core, shutdown).run().await;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.core.config).finish_non_exhaustive()
    }
}

/// The pause after so many failed calls: exponential backoff, capped at 5 s. Without jitter: the
/// calls of one worker that failed together go together in one call again.
fn backoff(failures: u32) -> Duration {
    Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)).delay(failures)
}

/// How long a call of the scheduler may take before it counts as failed. It may take effect all the
/// same.
fn patience(lease: Duration) -> Duration {
    (lease / 3).max(Duration::from_secs(1))
}

/// Makes a call, which fails when there is no answer in time.
async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, SchedulerError>>,
) -> Result<T, SchedulerError> {
    timeout(patience, call).await.unwrap_or_else(|late| Err(SchedulerError::unavailable(late)))
}
