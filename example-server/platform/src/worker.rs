//! The worker that runs the attempts of every cycle, and the handlers it calls.

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

/// Builds the worker from the configuration. After a stop, running attempts get `grace` to finish.
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

/// The handlers, by the namespace of the cycles they serve.
#[derive(Default)]
pub struct Handlers {
    by_namespace: HashMap<&'static str, Arc<dyn Handler>>,
    transactional: HashMap<&'static str, Arc<dyn TransactionalHandler>>,
    /// The longest time-out of any handler.
    attempt_timeout: Duration,
    /// The longest time for which a handler needs cycles after their end.
    keep_ended: Duration,
}

/// The shortest time for which the worker keeps ended cycles.
const KEEP_ENDED: Duration = Duration::from_hours(30 * 24);

impl Handlers {
    /// Adds a handler whose attempts the worker records. An attempt may take `attempt_timeout`.
    pub fn add(
        &mut self,
        namespace: &'static str,
        handler: impl Handler + 'static,
        attempt_timeout: Duration,
    ) {
        self.by_namespace.insert(namespace, Arc::new(handler));
        self.attempt_timeout = self.attempt_timeout.max(attempt_timeout);
    }

    /// Adds a handler that records its own attempts. An attempt may take `attempt_timeout`.
    pub fn add_transactional(
        &mut self,
        namespace: &'static str,
        handler: impl TransactionalHandler + 'static,
        attempt_timeout: Duration,
    ) {
        let handler: Arc<dyn TransactionalHandler> = Arc::new(handler);
        let adapter = TransactionalAdapter { handler: Arc::clone(&handler), attempt_timeout };
        self.add(namespace, adapter, attempt_timeout.saturating_add(TO_RECORD));
        self.transactional.insert(namespace, handler);
    }

    /// Keeps ended cycles for at least `at_least`.
    pub fn keep_ended(&mut self, at_least: Duration) {
        self.keep_ended = self.keep_ended.max(at_least);
    }

    /// Returns the hook for ended cycles.
    pub fn endings(&self) -> Endings {
        Endings(self.transactional.clone())
    }
}

/// A handler that records its attempt itself, in the transaction that moves the cycle on.
#[async_trait]
pub trait TransactionalHandler: Send + Sync {
    /// Runs one attempt and records its outcome.
    ///
    /// # Errors
    ///
    /// If the outcome could not be written. The attempt is then made again.
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError>;

    /// Records an attempt without an outcome: it panicked, timed out, or crashed its processes. By
    /// default, the worker records it. Implement this if the handler has rows for single attempts.
    async fn record_without_outcome(&self, _: &Attempt, report: Report) -> Result<Done, BoxError> {
        Ok(Done::Report(report))
    }

    /// Updates the handler's rows when the scheduler or an operator ends a cycle, in the
    /// transaction that ends it. The cycle is locked. By default, nothing happens, which is enough
    /// if only [`make`](Self::make) ends cycles.
    ///
    /// # Errors
    ///
    /// If the rows could not be updated. Then the cycle has not ended, and the call that ends it is
    /// repeated.
    async fn ended(&self, _: Connection<'_>, _: &Cycle, _: EndReason) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Runs a [`TransactionalHandler`] so that every attempt is recorded. An attempt without an outcome
/// counts as a failure. An attempt that could not be recorded is made again.
///
/// The worker records panics and time-outs too, but in a transaction of its own, so the handler's
/// rows would miss the attempt. That is still possible if recording fails here as well. Then
/// [`Endings`] updates the rows after the last attempt of a cycle, and the next attempt updates
/// them after an earlier one.
struct TransactionalAdapter {
    handler: Arc<dyn TransactionalHandler>,
    attempt_timeout: Duration,
}

/// The delay before an attempt that could not be recorded is made again.
pub const AGAIN: Duration = Duration::from_secs(5);
/// The time-out for recording an attempt without an outcome.
const TO_RECORD: Duration = Duration::from_secs(10);

/// Maximum crashes and lost leases per attempt. When reached, the attempt is recorded as crashed.
pub const CRASHES: u32 = 3;
/// Maximum crashes before the worker records the attempt without the handler. By then, recording
/// must have crashed processes, too.
const POISON_LIMIT: u32 = 2 * CRASHES;

#[async_trait]
impl Handler for TransactionalAdapter {
    async fn attempt(&self, attempt: Attempt) -> Done {
        let made = if attempt.cycle().lapses >= CRASHES {
            self.without_outcome(&attempt, "crashed", Report::crashed()).await
        } else {
            // Unwind safe: a panic leaves behind only this attempt's transaction, which is rolled
            // back.
            let outcome = AssertUnwindSafe(self.handler.make(&attempt)).catch_unwind();
            match timeout(self.attempt_timeout, outcome).await {
                Ok(Ok(made)) => made,
                Ok(Err(_)) => self.without_outcome(&attempt, "panicked", Report::failure()).await,
                // If its commit took effect after all, this report is stale and refused.
                Err(_) => self.without_outcome(&attempt, "timed_out", Report::failure()).await,
            }
        };
        match made {
            Ok(done) => done,
            Err(error) => {
                let CycleKey { namespace, subject } = &attempt.cycle().key;
                // If the commit took effect after all, giving the claim back changes nothing.
                tracing::error!(
                    error = &*error,
                    namespace,
                    subject,
                    "could not record an attempt; it will be made again"
                );
                Done::Deferred { retry_in: AGAIN }
            }
        }
    }
}

impl TransactionalAdapter {
    async fn without_outcome(
        &self,
        attempt: &Attempt,
        why: &'static str,
        report: Report,
    ) -> Result<Done, BoxError> {
        let CycleKey { namespace, subject } = &attempt.cycle().key;
        tracing::error!(namespace, subject, why, "an attempt has no outcome and counts as failed");
        metrics::counter!(WITHOUT_OUTCOME, "namespace" => namespace.clone(), "why" => why).increment(1);
        self.handler.record_without_outcome(attempt, report.detail(why)).await
    }
}

/// The metric that counts attempts that panicked, timed out or crashed their processes.
pub const WITHOUT_OUTCOME: &str = "attempts_without_outcome_total";

/// The hook that notifies the handler of a namespace when one of its cycles ends. The scheduler
/// calls it if the handler did not end the cycle itself.
pub struct Endings(HashMap<&'static str, Arc<dyn TransactionalHandler>>);

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Endings {
    async fn notify(
        &self,
        connection: Connection<'_>,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        match self.0.get(cycle.key.namespace.as_str()) {
            Some(handler) => handler.ended(connection, cycle, reason).await,
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
        self.notify(Connection::of_sqlite(c, None), cycle, reason).await
    }
}

#[async_trait]
impl EndedHook<PgConnection> for Endings {
    async fn on_ended(&self, c: &mut PgConnection, cycle: &Cycle, reason: EndReason) -> Result<(), BoxError> {
        self.notify(Connection::of_postgres(c, None), cycle, reason).await
    }
}

/// The delay of a cycle in an unknown namespace. Another version of this program scheduled it and
/// can run it.
const UNKNOWN_NAMESPACE_DELAY: Duration = Duration::from_mins(1);

#[async_trait]
impl Handler for Handlers {
    async fn attempt(&self, attempt: Attempt) -> Done {
        match self.by_namespace.get(attempt.cycle().key.namespace.as_str()) {
            Some(handler) => handler.attempt(attempt).await,
            None => Done::Deferred { retry_in: UNKNOWN_NAMESPACE_DELAY },
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
