//! What makes the attempts of every cycle: the scheduler's worker, and a handler for each kind of work.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use retry_scheduler::{Attempt, CycleKey, Done, Handler, RetryScheduler, Worker, WorkerHandle};

use crate::config::Scheduler;

/// A worker as the configuration has it; attempts that run may take the grace to end when it is told to stop.
pub(crate) fn worker(
    scheduler: Arc<dyn RetryScheduler>,
    handle: WorkerHandle,
    handlers: Handlers,
    config: &Scheduler,
    grace: Duration,
) -> Worker {
    let (attempt_timeout, keep_ended) = (handlers.attempt_timeout, handlers.keep_ended.max(KEEP_ENDED));
    let namespaces: Vec<_> = handlers.of.keys().copied().collect();
    Worker::builder(scheduler, handlers)
        .handle(handle)
        .concurrency(config.concurrency.get())
        .poll(config.poll())
        .lease(config.lease())
        .grace(grace)
        .attempt_timeout(attempt_timeout)
        .keep_ended(keep_ended)
        .namespaces(namespaces)
        .build()
}

/// Wakes the worker of who answered with its handle in the extensions. Out here what a handler did is committed.
pub(crate) async fn wake(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(worker) = response.extensions_mut().remove::<WorkerHandle>() {
        worker.wake();
    }
    response
}

/// Who makes the attempts of which namespace.
#[derive(Default)]
pub(crate) struct Handlers {
    of: HashMap<&'static str, Arc<dyn Handler>>,
    /// The longest that an attempt of any of them takes.
    attempt_timeout: Duration,
    /// The longest that any of them needs a cycle after its end, where that is longer than the worker keeps it anyway.
    keep_ended: Duration,
}

/// How long the worker keeps ended cycles at least.
const KEEP_ENDED: Duration = Duration::from_hours(30 * 24);

impl Handlers {
    /// One more kind of work; an attempt takes `attempt_timeout` at the most.
    pub(crate) fn add(
        &mut self,
        namespace: &'static str,
        handler: impl Handler + 'static,
        attempt_timeout: Duration,
    ) {
        self.of.insert(namespace, Arc::new(handler));
        self.attempt_timeout = self.attempt_timeout.max(attempt_timeout);
    }

    /// Keeps ended cycles for at least this long.
    pub(crate) fn keep_ended(&mut self, at_least: Duration) {
        self.keep_ended = self.keep_ended.max(at_least);
    }
}

/// Makes an attempt, and writes what comes of it by itself, in the transaction that moves its cycle on.
#[async_trait]
pub(crate) trait Recording: Send + Sync {
    /// With a fault it could not be written.
    async fn make(&self, attempt: &Attempt) -> Result<Done, Fault>;
}

/// What keeps something from being done for now.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// Has an attempt that could not be written made again.
#[derive(Debug)]
pub(crate) struct Recorded<T>(pub(crate) T);

/// When it is.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);

#[async_trait]
impl<T: Recording + 'static> Handler for Recorded<T> {
    async fn attempt(&self, attempt: Attempt) -> Done {
        match self.0.make(&attempt).await {
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

/// For work of another version of this program, which knows what to do with it.
const UNKNOWN: Duration = Duration::from_mins(1);

#[async_trait]
impl Handler for Handlers {
    async fn attempt(&self, attempt: Attempt) -> Done {
        match self.of.get(attempt.cycle().key.namespace.as_str()) {
            Some(handler) => handler.attempt(attempt).await,
            None => Done::Deferred { retry_in: UNKNOWN },
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.of.keys()).finish()
    }
}
