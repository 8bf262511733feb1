//! What makes the attempts of every cycle: the scheduler's worker, and a handler for each kind of work.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use retry_scheduler::{
    Attempt, Cycle, CycleKey, Done, EndReason, EndedHook, Handler, Report, Worker, WorkerHandle,
};
use sqlx::{PgConnection, SqliteConnection};
use tokio::time::timeout;

use crate::BoxError;
use crate::config::Scheduler;
use crate::cycles::Cycles;
use crate::db::Connection;

/// A worker as the configuration has it; attempts that run may take the grace to end when it is told to stop.
pub fn worker(
    cycles: &Cycles,
    handle: WorkerHandle,
    handlers: Handlers,
    config: &Scheduler,
    grace: Duration,
) -> Worker {
    let (attempt_timeout, keep_ended) = (handlers.attempt_timeout, handlers.keep_ended.max(KEEP_ENDED));
    let namespaces: Vec<_> = handlers.by_namespace.keys().copied().collect();
    Worker::builder(cycles.scheduler(handlers.endings()), handlers)
        .handle(handle)
        .concurrency(config.concurrency.get())
        .poll(config.poll())
        .lease(config.lease())
        .grace(grace)
        .attempt_timeout(attempt_timeout)
        .poison_limit(POISON_LIMIT)
        .keep_ended(keep_ended)
        .namespaces(namespaces)
        .build()
}

/// Who makes the attempts of which namespace.
#[derive(Default)]
pub struct Handlers {
    by_namespace: HashMap<&'static str, Arc<dyn Handler>>,
    recording: HashMap<&'static str, Arc<dyn Recording>>,
    /// The longest that an attempt of any of them takes.
    attempt_timeout: Duration,
    /// The longest that any of them needs a cycle after its end, where that is longer than the worker keeps it anyway.
    keep_ended: Duration,
}

/// How long the worker keeps ended cycles at least.
const KEEP_ENDED: Duration = Duration::from_hours(30 * 24);

impl Handlers {
    /// One more kind of work, whose end nobody needs to be told of; an attempt takes `attempt_timeout` at the most.
    pub fn add(
        &mut self,
        namespace: &'static str,
        handler: impl Handler + 'static,
        attempt_timeout: Duration,
    ) {
        self.by_namespace.insert(namespace, Arc::new(handler));
        self.attempt_timeout = self.attempt_timeout.max(attempt_timeout);
    }

    /// One more kind of work that records its attempts itself; one takes `attempt_timeout` at the most.
    pub fn record(
        &mut self,
        namespace: &'static str,
        recording: impl Recording + 'static,
        attempt_timeout: Duration,
    ) {
        let recording: Arc<dyn Recording> = Arc::new(recording);
        let recorded = Recorded { recording: Arc::clone(&recording), attempt_timeout };
        self.add(namespace, recorded, attempt_timeout.saturating_add(TO_RECORD));
        self.recording.insert(namespace, recording);
    }

    /// Keeps ended cycles for at least this long.
    pub fn keep_ended(&mut self, at_least: Duration) {
        self.keep_ended = self.keep_ended.max(at_least);
    }

    /// Returns the hook for ended cycles.
    pub fn endings(&self) -> Endings {
        Endings(self.recording.clone())
    }
}

/// Makes an attempt, and writes what comes of it by itself, in the transaction that moves its cycle on.
#[async_trait]
pub trait Recording: Send + Sync {
    /// With a fault it could not be written.
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError>;

    /// Records an attempt that has no outcome: it panicked, took too long, or crashed its processes. Not needed where no
    /// row shows single attempts: the worker then records it.
    async fn record_without_outcome(&self, _: &Attempt, report: Report) -> Result<Done, BoxError> {
        Ok(Done::Report(report))
    }

    /// Writes what the end of a cycle means, in the transaction that ends it: called where the scheduler or an operator
    /// ended it. The cycle is locked. Not needed where only [`make`](Self::make) ends cycles.
    ///
    /// After a fault the cycle has not ended; the verb that ended it is repeated.
    async fn ended(&self, _: Connection<'_>, _: &Cycle, _: EndReason) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Sees to it that an attempt is recorded, whatever becomes of it: one without an outcome as a failure, and one that could
/// not be written is made again.
///
/// The worker would record panics and time-outs, too, but in a transaction of its own, and the rows that show the attempt
/// would not know of it. It is left with what happens while this here fails: [`Endings`] tells of the last attempt of a
/// cycle, and the next attempt of the others before it.
struct Recorded {
    recording: Arc<dyn Recording>,
    attempt_timeout: Duration,
}

/// When an attempt that could not be written is made again.
pub const AGAIN: Duration = Duration::from_secs(5);
/// How long it may take to record an attempt without an outcome.
const TO_RECORD: Duration = Duration::from_secs(10);

/// After how many processes that died in it, or lost their leases, an attempt is not made again.
pub const CRASHES: u32 = 3;
/// When the worker records it without asking anybody: recording it must have crashed processes, too.
const POISON_LIMIT: u32 = 2 * CRASHES;

#[async_trait]
impl Handler for Recorded {
    async fn attempt(&self, attempt: Attempt) -> Done {
        let made = if attempt.cycle().lapses >= CRASHES {
            self.without_outcome(&attempt, "crashed", Report::crashed()).await
        } else {
            // What a panic leaves half done is this attempt's own: a transaction, which is rolled back.
            let making = AssertUnwindSafe(self.recording.make(&attempt)).catch_unwind();
            match timeout(self.attempt_timeout, making).await {
                Ok(Ok(made)) => made,
                Ok(Err(_)) => self.without_outcome(&attempt, "panicked", Report::failure()).await,
                // Where its commit took effect after all, the report is stale.
                Err(_) => self.without_outcome(&attempt, "timed_out", Report::failure()).await,
            }
        };
        match made {
            Ok(done) => done,
            Err(fault) => {
                let CycleKey { namespace, subject } = &attempt.cycle().key;
                // Where the commit took effect after all, giving the claim back changes nothing.
                tracing::error!(
                    error = &*fault,
                    namespace,
                    subject,
                    "an attempt was not recorded, and is made again"
                );
                Done::Deferred { retry_in: AGAIN }
            }
        }
    }
}

impl Recorded {
    async fn without_outcome(
        &self,
        attempt: &Attempt,
        why: &'static str,
        report: Report,
    ) -> Result<Done, BoxError> {
        let CycleKey { namespace, subject } = &attempt.cycle().key;
        tracing::error!(namespace, subject, why, "an attempt came to nothing, and counts as failed");
        metrics::counter!(WITHOUT_OUTCOME, "namespace" => namespace.clone(), "why" => why).increment(1);
        self.recording.record_without_outcome(attempt, report.detail(why)).await
    }
}

/// Attempts that panicked, took too long, or crashed their processes.
pub const WITHOUT_OUTCOME: &str = "attempts_without_outcome_total";

/// Tells those whose cycle ended, by its namespace. This is called where they did not end it themselves.
pub struct Endings(HashMap<&'static str, Arc<dyn Recording>>);

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Endings {
    async fn tell(
        &self,
        connection: Connection<'_>,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        match self.0.get(cycle.key.namespace.as_str()) {
            Some(recording) => recording.ended(connection, cycle, reason).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl EndedHook<SqliteConnection> for Endings {
    async fn on_ended(
        &self,
        c: &mut SqliteConnection,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        self.tell(Connection::of_sqlite(c, None), cycle, reason).await
    }
}

#[async_trait]
impl EndedHook<PgConnection> for Endings {
    async fn on_ended(&self, c: &mut PgConnection, cycle: &Cycle, reason: EndReason) -> Result<(), BoxError> {
        self.tell(Connection::of_postgres(c, None), cycle, reason).await
    }
}

/// For work of another version of this program, which knows what to do with it.
const UNKNOWN: Duration = Duration::from_mins(1);

#[async_trait]
impl Handler for Handlers {
    async fn attempt(&self, attempt: Attempt) -> Done {
        match self.by_namespace.get(attempt.cycle().key.namespace.as_str()) {
            Some(handler) => handler.attempt(attempt).await,
            None => Done::Deferred { retry_in: UNKNOWN },
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_namespace.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
