//! What the caller writes: the attempt itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimed, Report};
use crate::cycle::Cycle;
use crate::metadata::Metadata;

/// Makes the attempts of a [`Worker`](crate::Worker): of every namespace that its scheduler holds, so it looks at
/// `attempt.cycle().key.namespace` where there are several.
///
/// An attempt is made **at least once**: after a crash, or a lease that was lost, it is made again with the same
/// [key](Attempt::key). A handler hands that key to the next service, or does its work in the transaction that it
/// [settles](Done::Settled) the attempt in.
///
/// # Cancel safety
///
/// The future is dropped at one of its awaits when the attempt outlasts
/// [`attempt_timeout`](crate::WorkerBuilder::attempt_timeout), when it is still running after the shutdown's grace, and when
/// [`Worker::run`](crate::Worker::run) is dropped. A panic counts as a failed attempt.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Makes one attempt.
    async fn attempt(&self, attempt: Attempt) -> Done;
}

/// One attempt to make.
#[derive(Clone, Debug)]
pub struct Attempt {
    claimed: Claimed,
    token: CancellationToken,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Done {
    /// With a result, which the worker records.
    Report(Report),
    /// With a result that the handler recorded itself, with
    /// [`finish_in`](crate::TransactionalScheduler::finish_in) in a transaction of its own that it has committed; or has
    /// rolled back, because the answer was [`Stale`](crate::Finished::Stale).
    ///
    /// A cycle that was not settled after all is attempted again when the lease runs out, as after a crash.
    Settled,
    /// The service that this namespace is about is down, or says that it has enough. The attempt does not count.
    ///
    /// The cycle is due again in `retry_in`, and so long the worker asks nothing of this namespace: what is due is deferred
    /// without a run, and without an attempt being spent. Then one attempt is let through; when it ends with a result,
    /// the others follow. From 100 ms to a day.
    Unavailable {
        /// For how long.
        retry_in: Duration,
    },
    /// It was not made, or not to its end. It does not count, and says nothing of other cycles: the answer of a handler
    /// whose [token](Attempt::token) fired.
    Deferred {
        /// When the cycle is due again. Zero is at once: also for this worker, unless it is shutting down.
        retry_in: Duration,
    },
}

impl Attempt {
    /// An attempt, for a handler's own tests.
    pub fn new(claimed: Claimed, token: CancellationToken) -> Self {
        Self { claimed, token }
    }

    /// The claim, as [`finish_in`](crate::TransactionalScheduler::finish_in) wants it.
    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// The cycle that this is an attempt of.
    pub fn cycle(&self) -> &Cycle {
        &self.claimed.cycle
    }

    /// What the cycle was scheduled with.
    pub fn payload(&self) -> &Bytes {
        &self.claimed.payload
    }

    /// Returns what the cycle was scheduled with, beside the payload.
    pub fn metadata(&self) -> &Metadata {
        &self.claimed.metadata
    }

    /// Which attempt of the cycle this is, from 1.
    pub fn number(&self) -> u32 {
        self.claimed.attempt()
    }

    /// Returns an idempotency key for the next service that is the same for all attempts of the cycle: for an effect that
    /// must happen once, whichever attempt makes it. See [`Claimed::cycle_key`].
    pub fn cycle_key(&self) -> String {
        self.claimed.cycle_key()
    }

    /// Returns an idempotency key for the next service that is this attempt's alone, and the same whenever it is made
    /// again. See [`Claimed::attempt_key`].
    pub fn key(&self) -> String {
        self.claimed.attempt_key()
    }

    /// Fires when there is no point in going on: somebody else has the cycle, or has changed or cancelled it (known at the
    /// next heartbeat, a third of the lease at most), the lease ran out because the database was not reached, the attempt
    /// took too long, or the worker shuts down and its grace is over.
    ///
    /// A handler that does not look goes on to its end; what it reports is then refused, if somebody else has the cycle.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl From<Report> for Done {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

#[async_trait]
impl<H: Handler + ?Sized> Handler for Arc<H> {
    async fn attempt(&self, attempt: Attempt) -> Done {
        H::attempt(self, attempt).await
    }
}

/// A handler that calls a function.
pub fn handler_fn<F, Fut>(function: F) -> HandlerFn<F>
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Done> + Send + 'static,
{
    HandlerFn(function)
}

/// The handler that [`handler_fn`] makes.
#[derive(Clone, Copy)]
pub struct HandlerFn<F>(F);

impl<F> std::fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, Fut> Handler for HandlerFn<F>
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Done> + Send + 'static,
{
    async fn attempt(&self, attempt: Attempt) -> Done {
        (self.0)(attempt).await
    }
}
