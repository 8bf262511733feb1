//! A leased claim and its operations: renew, complete, abandon, release.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::Response;
use tokio::time::{Instant, sleep, sleep_until};

use super::Engine;
use super::ended::Panic;
use super::give_up::{GiveUp, GivenUp};
use crate::body::Replayable;
use crate::clock::{after, now};
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Fence, Fenced, Outcome, Store, Tombstone};
use crate::trace;

/// The pauses before a completion is tried again.
const COMPLETION_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];
/// The longest pause before a renewal is tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// A claim on the record of a request. It holds until the lease ends.
pub(super) struct Lease<'a, St> {
    pub(super) engine: &'a Engine<St>,
    /// Identifies the claim to the store.
    pub(super) fence: Fence,
    /// The moment before the store was asked. The lease began then or later.
    pub(super) held_since: Instant,
}

impl<St: Store> Lease<'_, St> {
    /// Drives a future and renews the lease meanwhile. A future that is ready at once sets no
    /// timer. A panic is returned, so that the claim can be given up before the panic resumes.
    pub(super) fn keep_during<F: Future + Unpin>(
        &self,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Panic>> {
        let mut renewal = None;
        poll_fn(move |cx| {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
                Ok(Poll::Ready(output)) => return Poll::Ready(Ok(output)),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready(Err(panic)),
            }
            let renewal = renewal.get_or_insert_with(|| Box::pin(self.renew()));
            let Poll::Pending = renewal.as_mut().poll(cx);
            Poll::Pending
        })
    }

    /// Renews the lease until it is lost. A failed renewal is tried again soon, so that an outage
    /// shorter than the lease does not lose the claim.
    async fn renew(&self) -> Infallible {
        let (record, lease) = (self.engine.record, self.engine.config.lease);
        let mut next = after(self.held_since, lease / 3);
        loop {
            sleep_until(next).await;
            let asked_at = now();
            match self.extend(lease).await {
                Ok(Fenced::Held) => next = after(asked_at, lease / 3),
                Ok(Fenced::Stale) => {
                    // The run continues, because stopping it half way would be worse. The store
                    // will refuse its outcome.
                    trace::lease_lost(record);
                    pending::<()>().await;
                }
                Err(error) => {
                    trace::store_failed(record, "extend", &error);
                    next = after(now(), (lease / 10).min(RENEWAL_PAUSE));
                }
            }
        }
    }

    /// Writes the outcome of `response`. If the answer is lost, writes it again with the same
    /// fence. If the store has no room for the response, writes a tombstone, so that no retry runs.
    pub(super) async fn complete<R: Replayable>(
        &self,
        outcome: Outcome,
        response: &mut Response<R>,
    ) -> Result<Fenced, StoreError> {
        let tombstone = match outcome {
            Outcome::Response(_) => None,
            Outcome::Tombstone(tombstone) => Some(tombstone),
        };
        // The lease is renewed until the outcome is recorded: the handler has run, so no other run
        // may begin.
        let written = pin!(self.write(outcome));
        let mut written = self.keep_during(written).await.unwrap_or_else(|panic| resume_unwind(panic));
        if let Err(error) = written {
            // Boxed because few completions need it.
            let again = Box::pin(self.complete_again(tombstone, response, error));
            written = self.keep_during(again).await.unwrap_or_else(|panic| resume_unwind(panic));
        }
        self.ended();
        written
    }

    /// Writes the outcome again. Encodes the response anew, because a copy kept for this case would
    /// cost every request an allocation.
    async fn complete_again<R: Replayable>(
        &self,
        mut tombstone: Option<Tombstone>,
        response: &mut Response<R>,
        mut error: StoreError,
    ) -> Result<Fenced, StoreError> {
        let mut pauses = COMPLETION_PAUSES.iter();
        loop {
            trace::store_failed(self.engine.record, "complete", &error);
            match (error.kind(), tombstone) {
                (StoreErrorKind::Unavailable, _) => match pauses.next() {
                    Some(pause) => sleep(*pause).await,
                    None => return Err(error),
                },
                (_, None) => tombstone = Some(Tombstone::Unreplayable),
                (_, Some(_)) => return Err(error),
            }
            let outcome = match tombstone {
                None => self.engine.encode_again(response).await,
                Some(tombstone) => Outcome::Tombstone(tombstone),
            };
            match self.write(outcome).await {
                Ok(fenced) => return Ok(fenced),
                Err(again) => error = again,
            }
        }
    }

    fn write(&self, outcome: Outcome) -> impl Future<Output = Result<Fenced, StoreError>> {
        St::complete(&self.engine.config.store, self.engine.record, self.fence, outcome)
    }

    /// Gives up the claim of a run without a response, as the policy for orphans says.
    pub(super) async fn abandon(&self) {
        self.give_up(GiveUp::of_policy(&self.engine.config.on_orphan)).await;
    }

    /// Gives the claim back.
    pub(super) async fn release(&self) {
        self.give_up(GiveUp::Release).await;
    }

    async fn give_up(&self, how: GiveUp) {
        let Engine { config, record, .. } = self.engine;
        GivenUp { config: config.clone(), record: *record, fence: self.fence, how }.settle().await;
        self.ended();
    }

    async fn extend(&self, lease: Duration) -> Result<Fenced, StoreError> {
        St::extend(&self.engine.config.store, self.engine.record, self.fence, lease).await
    }

    /// Notes that the claim is settled, so the request can be dropped, and wakes the waiting
    /// requests.
    pub(super) fn ended(&self) {
        self.engine.cancellation.claim_ends();
        self.engine.config.wake_waiters(self.engine.record);
    }
}
