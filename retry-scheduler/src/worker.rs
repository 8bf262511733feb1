//! The worker: claims what is due, has it attempted, records what came of it.

mod builder;
mod gate;
mod handle;
mod handler;
mod lease;
mod reports;
mod run;
mod slots;
mod supervisor;
mod trace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use account_retry_policy::Backoff;
use tokio_util::sync::CancellationToken;

use self::builder::Config;
pub use self::builder::WorkerBuilder;
use self::gate::Gates;
use self::handle::Meter;
pub use self::handle::{AttemptCounts, WorkerHandle, WorkerPhase, WorkerSnapshot};
pub use self::handler::{Attempt, Done, Handler, HandlerFn, handler_fn};
use self::reports::Reports;
use self::run::Run;
use crate::scheduler::RetryScheduler;

/// How long a handler whose token fired at a shutdown may go on.
const WINDING_DOWN: Duration = Duration::from_secs(1);

/// How long a handler that is dropped may take to its next await, before it counts as stuck.
const STOPPING: Duration = Duration::from_secs(1);

/// Claims the cycles that are due, has a [`Handler`] make the attempts, and records how they ended.
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
/// | what happens | what becomes of the attempt |
/// |---|---|
/// | the handler returns [`Done::Report`] | recorded; reports that end while others are being recorded go in one call |
/// | [`Done::Settled`] | nothing is left to record |
/// | [`Done::Unavailable`] | does not count; the cycle and all others of its namespace wait |
/// | [`Done::Deferred`] | does not count; the cycle waits |
/// | the handler panics | a failure |
/// | it takes longer than [`attempt_timeout`](WorkerBuilder::attempt_timeout) | it is dropped: a failure |
/// | the cycle is cancelled, rescheduled, or claimed by another | the [token](Attempt::token) fires within a third of the lease; what is reported is refused |
/// | the lease cannot be renewed | the token fires when it is over; what is reported counts if nobody has claimed the cycle since |
/// | the report cannot be recorded | tried again while the lease lasts, then made again after it |
/// | the process dies | made again after the lease |
/// | that for [`poison_limit`](WorkerBuilder::poison_limit) times | not made: a failure |
/// | the process is asked to end | see [`run`](Self::run) |
///
/// The detail of a failure that the worker itself reports is a short text that says which.
///
/// # Between tenants
///
/// One tenant has at most [`per_tenant`](WorkerBuilder::per_tenant) attempts at a time, by default half of them all. So
/// there is room for the others, however much one has due.
///
/// # What it tells
///
/// On `tracing`: namespace, subject and number of attempts; never payloads, details, tenants or attempt keys. A database
/// that is not reached is told once, and once when it is again. [`WorkerHandle::snapshot`] is for health checks and metrics.
#[must_use = "a worker does nothing until it runs"]
pub struct Worker {
    core: Arc<Core>,
}

/// What the parts of one worker share.
struct Core {
    scheduler: Arc<dyn RetryScheduler>,
    handler: Arc<dyn Handler>,
    config: Config,
    reports: Reports,
    gates: Gates,
    meter: Arc<Meter>,
    /// Fires when the grace of a shutdown is over.
    stop: CancellationToken,
}

impl Worker {
    /// A worker on this scheduler, whose attempts this handler makes.
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
        let reports = Reports::new(Arc::clone(&scheduler), Arc::clone(&meter));
        let (gates, stop) = (Gates::default(), CancellationToken::new());
        Self { core: Arc::new(Core { scheduler, handler, config, reports, gates, meter, stop }) }
    }

    /// To wake it, and to see how it is.
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle(Arc::clone(&self.core.meter))
    }

    /// Works until `shutdown` fires, and then ends what it has begun.
    ///
    /// It claims no more, and attempts that are running have the [grace](WorkerBuilder::grace) to end. Then their
    /// [tokens](Attempt::token) fire; a second later they are dropped, and their claims given back, so that another worker
    /// makes the attempts at once; they do not count. Returns three seconds after the grace at the latest, whatever hangs:
    /// what is then left is as after a crash.
    ///
    /// # Panics
    ///
    /// When the scheduler panics in `claim_due` or `next_wake`. A panic of the handler is a failed attempt.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: attempts are dropped with it, at their next awaits, and their leases run out; nothing is
    /// lost. Firing `shutdown` and awaiting the end is better: leases are given back, and what has ended is recorded.
    pub async fn run(self, shutdown: CancellationToken) {
        Run::new(self.core, shutdown).run().await;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.core.config).finish_non_exhaustive()
    }
}

/// The pause after so many failures of the scheduler's. Without chance in it: the calls of one worker that failed together
/// go together in one call again.
fn backoff(failures: u32) -> Duration {
    Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)).delay(failures)
}
