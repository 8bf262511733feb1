//! The handler: makes the attempts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimed, Report};
use crate::cycle::Cycle;
use crate::metadata::Metadata;

/// Makes the attempts of a [`Worker`](crate::Worker), of all
/// [namespaces](crate::WorkerBuilder::namespaces) that it claims from. Where there are several, the
/// handler looks at `attempt.cycle().key.namespace`.
///
/// An attempt is made **at least once**: after a crash or a lost lease it is made again. A handler
/// therefore hands an idempotency key to the next service, or does its work in the transaction in
/// which it [records](Done::AlreadyRecorded) the attempt.
///
/// Which key is the right one for a service, the crate's documentation says under [effects that
/// must happen once](crate#effects-that-must-happen-once). When in doubt, use the key of the cycle.
/// With the key of the attempt, a service that did what it was asked, and whose answer was lost,
/// does it again.
///
/// # Cancel safety
///
/// The future is dropped at one of its awaits when the attempt outlasts
/// [`attempt_timeout`](crate::WorkerBuilder::attempt_timeout), when it is still running after the
/// shutdown's grace, and when [`Worker::run`](crate::Worker::run) is dropped. A panic counts as a
/// failed attempt.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Makes one attempt.
    async fn attempt(&self, attempt: Attempt) -> Done;
}

/// An attempt to make.
#[derive(Clone, Debug)]
pub struct Attempt {
    claimed: Claimed,
    token: CancellationToken,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Done {
    /// The attempt has a result, which the worker records.
    Report(Report),
    /// The handler recorded the result itself, with
    /// [`finish_in`](crate::TransactionalScheduler::finish_in) in a transaction of its own. It has
    /// committed the transaction, or rolled it back because the answer was
    /// [`Stale`](crate::Finished::Stale).
    ///
    /// If nothing was recorded after all, the attempt is made again when the lease has run out, as
    /// after a crash.
    AlreadyRecorded,
    /// The service that this namespace is about is down, or overloaded. The attempt does not count.
    ///
    /// The cycle is due again in `retry_in`. Until then the worker claims nothing of this
    /// namespace, so no attempt is spent, and other namespaces go on. Then it lets one attempt
    /// through; when that ends with a result, the others follow.
    #[doc(alias = "circuit breaker")]
    Unavailable {
        /// For how long. From 100 ms to a day.
        retry_in: Duration,
    },
    /// The attempt was not made, or not to its end. It does not count, and says nothing about other
    /// cycles. A handler whose [token](Attempt::token) fired returns this.
    #[doc(alias = "snooze")]
    Deferred {
        /// When the cycle is due again. Zero is at once, also for this worker unless it is shutting
        /// down.
        retry_in: Duration,
    },
}

impl Attempt {
    /// Creates an attempt, for a handler's own tests.
    pub fn new(claimed: Claimed, token: CancellationToken) -> Self {
        Self { claimed, token }
    }

    /// Returns the idempotency key of the cycle, which is the same for all its attempts. Use it for
    /// a service that must do it once, such as a bank. See [effects that must happen
    /// once](crate#effects-that-must-happen-once) and [`Claimed::cycle_key`].
    #[doc(alias = "idempotency key")]
    pub fn cycle_key(&self) -> String {
        self.claimed.cycle_key()
    }

    /// Returns the idempotency key of this attempt alone, which is the same whenever it is made
    /// again after a crash. Use it for a service that has definitely refused the attempt before.
    /// See [`Claimed::attempt_key`].
    pub fn key(&self) -> String {
        self.claimed.attempt_key()
    }

    /// Returns the number of this attempt, from 1.
    pub fn number(&self) -> u32 {
        self.claimed.attempt()
    }

    /// Returns the payload that the cycle was scheduled with.
    pub fn payload(&self) -> &Bytes {
        &self.claimed.payload
    }

    /// Returns the metadata that the cycle was scheduled with.
    pub fn metadata(&self) -> &Metadata {
        &self.claimed.metadata
    }

    /// Returns the cycle of this attempt.
    pub fn cycle(&self) -> &Cycle {
        &self.claimed.cycle
    }

    /// Returns the claim, for [`finish_in`](crate::TransactionalScheduler::finish_in).
    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// Returns the token that fires when there is no point in going on: somebody else has claimed,
    /// changed or cancelled the cycle (known at the next heartbeat, within a third of the lease);
    /// the lease ran out because the database was not reached; the attempt took too long; or the
    /// worker shuts down and its grace is over.
    ///
    /// A handler that ignores it goes on to its end. Its report is then refused, if somebody else
    /// has the cycle.
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

/// Creates a handler that calls a function.
pub fn handler_fn<F, Fut>(function: F) -> HandlerFn<F>
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Done> + Send + 'static,
{
    HandlerFn(function)
}

/// The handler that [`handler_fn`] creates.
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
