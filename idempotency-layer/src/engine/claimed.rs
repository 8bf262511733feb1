//! From the claim to the answer: run, capture, complete. The process may die at any await in here; what it leaves is an
//! orphan, until the completion, and a record after.

use std::any::Any;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::time::sleep;

use super::{Engine, body_of};
use crate::body::{self, Read, ReplayBody, Replayable};
use crate::contract::Disposition;
use crate::error::{StoreError, StoreErrorKind};
use crate::grpc::{self, Call, is_grpc};
use crate::layer::{OnDisconnect, OnStoreFailure};
use crate::orphan::{OnOrphan, Orphan, Reconciled};
use crate::rejection::RejectionKind;
use crate::response::StoredResponse;
use crate::store::{Fence, Fenced, Outcome, RequestTransaction, Store, Tombstone};
use crate::trace;

/// The pauses before a completion is tried again.
const COMPLETION_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];

/// What is to be stored of a response that cannot be repeated.
const NOT_REPLAYED: Option<Outcome> = Some(Outcome::Tombstone(Tombstone::Unreplayable));

pub(super) type Panic = Box<dyn Any + Send>;

/// How a run ended.
pub(super) enum Ended<R, E> {
    /// With a response, and what is to be stored of it; `None`: nothing.
    Answered(Response<R>, Option<Outcome>),
    /// With the service's own error.
    Failed(E),
    /// With a panic.
    Panicked(Panic),
    /// The client went away, and the layer cancels then.
    Cancelled,
}

impl<St: Store> Engine<St> {
    /// Carries the request out and reads the response as far as it is stored.
    pub(super) async fn run<F, R, E>(
        &self,
        fence: Fence,
        mut handler: Pin<Box<F>>,
        unit: Option<Box<dyn RequestTransaction>>,
    ) -> Result<Response<R>, E>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Replayable,
    {
        let cancels = self.config.on_disconnect == OnDisconnect::Cancel;
        // The handler goes with this block: it is gone before its claim is given up.
        let answered = async move {
            let mut cancelled = cancels.then(|| Box::pin(self.lifeline.cancelled()));
            let response = poll_fn(|cx| {
                if cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(None);
                }
                handler.as_mut().poll(cx).map(Some)
            });
            match response.await {
                Some(Ok(response)) => self.capture(response).await,
                Some(Err(error)) => Ended::Failed(error),
                None => Ended::Cancelled,
            }
        };
        let ended = self.under_lease(fence, pin!(answered)).await.unwrap_or_else(Ended::Panicked);
        self.settle(fence, ended, unit).await
    }

    /// Records how the run ended, then answers. What is not recorded is not answered, and what is not stored is not
    /// committed.
    pub(super) async fn settle<R: Replayable, E>(
        &self,
        fence: Fence,
        ended: Ended<R, E>,
        unit: Option<Box<dyn RequestTransaction>>,
    ) -> Result<Response<R>, E> {
        let unit = unit.filter(|unit| unit.is_begun());
        match ended {
            // Died in either: recorded or not, the answer was not given; the retry finds it, or an orphan.
            Ended::Answered(response, Some(outcome)) => {
                if let Some(unit) = unit {
                    return Ok(self.commit(unit, fence, outcome, response).await);
                }
                let recorded = self.complete(fence, outcome).await;
                Ok(self.answer(&recorded, response))
            }
            Ended::Answered(response, None) => {
                roll_back(unit).await;
                self.release(fence).await;
                Ok(self.mark(response))
            }
            Ended::Failed(error) => {
                trace::ended_without_response(self.record, "error");
                roll_back(unit).await;
                self.abandon(fence).await;
                Err(error)
            }
            Ended::Panicked(panic) => {
                trace::ended_without_response(self.record, "panic");
                roll_back(unit).await;
                self.abandon(fence).await;
                resume_unwind(panic)
            }
            Ended::Cancelled => {
                roll_back(unit).await;
                self.release(fence).await;
                Ok(self.reject(RejectionKind::InProgress)) // to nobody
            }
        }
    }

    /// Reads what is to be stored of a response.
    async fn capture<R: Replayable, E>(&self, response: Response<R>) -> Ended<R, E> {
        if is_grpc(response.headers()) {
            return self.capture_call(response).await;
        }
        let (parts, body) = response.into_parts();
        let disposition = self.config.contract.stores.classify(&parts);
        let mut response = Response::from_parts(parts, body);
        match disposition {
            Disposition::Release => return Ended::Answered(response, None),
            Disposition::Tombstone => return Ended::Answered(response, NOT_REPLAYED),
            Disposition::Store => {}
        }
        let read = body::read(response.body_mut(), self.config.max_response_bytes).await;
        match read {
            Read::Whole(data, trailers) => {
                let outcome = self.stored(&response, &data, trailers.as_ref());
                *response.body_mut() = R::from_replay(ReplayBody::read(data, trailers));
                Ended::Answered(response, Some(outcome))
            }
            unread => self.unstored(response, unread),
        }
    }

    /// Reads the response of a gRPC call, whose outcome may stand at its end, and what is to be stored of it.
    async fn capture_call<R: Replayable, E>(&self, mut response: Response<R>) -> Ended<R, E> {
        match response.extensions().get::<Disposition>() {
            Some(Disposition::Release) => return Ended::Answered(response, None),
            Some(Disposition::Tombstone) => return Ended::Answered(response, NOT_REPLAYED),
            Some(Disposition::Store) | None => {}
        }
        match grpc::read(response.body_mut(), self.config.max_response_bytes).await {
            Call::Streaming(data) => {
                trace::not_stored(self.record, "a stream");
                Ended::Answered(resumed(response, data), NOT_REPLAYED)
            }
            Call::Unary(Read::Whole(data, trailers)) => {
                let (mut parts, body) = response.into_parts();
                let disposition = self.config.contract.stores.classify_call(&mut parts, trailers.as_ref());
                let mut response = Response::from_parts(parts, body);
                let outcome = match disposition {
                    Disposition::Release => None,
                    Disposition::Tombstone => NOT_REPLAYED,
                    Disposition::Store => Some(self.stored(&response, &data, trailers.as_ref())),
                };
                *response.body_mut() = R::from_replay(ReplayBody::read(data, trailers));
                Ended::Answered(response, outcome)
            }
            Call::Unary(unread) => self.unstored(response, unread),
        }
    }

    /// A response of which not all could be read.
    fn unstored<R: Replayable, E>(&self, response: Response<R>, read: Read) -> Ended<R, E> {
        match read {
            Read::Whole(data, _) | Read::TooLarge(data) => {
                trace::not_stored(self.record, "longer than max_response_bytes");
                Ended::Answered(resumed(response, data), NOT_REPLAYED)
            }
            Read::Failed(_) => {
                trace::not_stored(self.record, "its body broke off");
                Ended::Answered(self.reject(RejectionKind::ResponseUnreadable), NOT_REPLAYED)
            }
        }
    }

    /// What the record is to hold of a response.
    fn stored<R>(&self, response: &Response<R>, data: &[u8], trailers: Option<&HeaderMap>) -> Outcome {
        let keeps = |name: &_| self.config.contract.keeps_header(name);
        match StoredResponse::encode(response.status(), response.headers(), keeps, data, trailers) {
            Ok(stored) => Outcome::Response(stored),
            Err(error) => {
                trace::store_failed(self.record, "encode", &error);
                Outcome::Tombstone(Tombstone::Unreplayable)
            }
        }
    }

    /// Finds out what became of the run that left an orphan, and answers; `None`: the handler is to run.
    pub(super) async fn reconcile<R: Replayable, E>(
        &self,
        fence: Fence,
        orphan: Orphan,
    ) -> Option<Result<Response<R>, E>> {
        let found = match &self.config.on_orphan {
            OnOrphan::Rerun => return None,
            OnOrphan::Halt => Ok(Reconciled::Halt),
            OnOrphan::Reconcile(reconcile) => {
                self.under_lease(fence, pin!(async { reconcile.find_out(orphan).await })).await
            }
        };
        let ended = match found {
            Ok(Reconciled::Rerun) => return None,
            Ok(Reconciled::Halt) => {
                let unknown = Tombstone::Unknown;
                let rejection = self.reject(RejectionKind::Tombstone(unknown));
                Ended::Answered(rejection, Some(Outcome::Tombstone(unknown)))
            }
            Ok(Reconciled::Response(response)) => self.capture(response.map(body_of)).await,
            Err(panic) => Ended::Panicked(panic),
        };
        Some(self.settle(fence, ended, None).await)
    }

    /// Drives a future and renews the lease meanwhile; one that is ready at once sets no timer. A panic is a value, so
    /// that the claim can be given up before it goes on.
    async fn under_lease<F: Future>(
        &self,
        fence: Fence,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Panic> {
        let mut renewal = None;
        poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Ready(output)) => return Poll::Ready(Ok(output)),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready(Err(panic)),
            }
            let renewal = renewal.get_or_insert_with(|| Box::pin(self.renew(fence)));
            let Poll::Pending = renewal.as_mut().poll(cx);
            Poll::Pending
        })
        .await
    }

    /// Renews the lease for ever, or until it is lost.
    async fn renew(&self, fence: Fence) -> Infallible {
        let lease = self.config.lease;
        loop {
            sleep(lease / 3).await;
            match St::extend(&self.config.store, self.record, fence, lease).await {
                Ok(Fenced::Held) => {}
                Ok(Fenced::Stale) => {
                    // The run goes on: stopping it half way would be worse. Its outcome will be refused.
                    trace::lease_lost(self.record);
                    pending::<()>().await;
                }
                Err(error) => trace::store_failed(self.record, "extend", &error),
            }
        }
    }

    /// The response, if it is the one that retries will get.
    fn answer<R: Replayable>(
        &self,
        recorded: &Result<Fenced, StoreError>,
        response: Response<R>,
    ) -> Response<R> {
        match recorded {
            Ok(Fenced::Held) => {
                trace::completed(self.record);
                self.mark(response)
            }
            Ok(Fenced::Stale) => {
                // Another run holds the claim: its answer is the one that retries will get.
                trace::stale(self.record);
                self.reject(RejectionKind::InProgress)
            }
            Err(_) if self.config.on_store_failure == OnStoreFailure::PassThrough => self.mark(response),
            Err(_) => self.reject(RejectionKind::NotRecorded),
        }
    }

    /// Commits the outcome together with what the handler wrote, then answers. Where it is not known whether that took
    /// effect, the record tells the next claim, when the lease is over.
    async fn commit<R: Replayable>(
        &self,
        unit: Box<dyn RequestTransaction>,
        fence: Fence,
        outcome: Outcome,
        response: Response<R>,
    ) -> Response<R> {
        let commit = unit.complete(self.record, fence, outcome);
        let committed =
            self.under_lease(fence, pin!(commit)).await.unwrap_or_else(|panic| resume_unwind(panic));
        let Err(error) = &committed else {
            self.done();
            return self.answer(&committed, response);
        };
        trace::store_failed(self.record, "commit", error);
        if error.kind() == StoreErrorKind::Unavailable {
            self.done();
            return self.reject(RejectionKind::NotRecorded);
        }
        self.abandon(fence).await;
        self.reject(RejectionKind::RolledBack)
    }

    /// Writes the outcome. A lost answer is asked for again with the same fence; a response that the store has no room
    /// for leaves a tombstone, so that at least it does not run again.
    async fn complete(&self, fence: Fence, mut outcome: Outcome) -> Result<Fenced, StoreError> {
        let mut pauses = COMPLETION_PAUSES.iter();
        let completion = async {
            loop {
                let error = match St::complete(&self.config.store, self.record, fence, outcome.clone()).await
                {
                    Ok(fenced) => return Ok(fenced),
                    Err(error) => error,
                };
                trace::store_failed(self.record, "complete", &error);
                match (error.kind(), &outcome) {
                    (StoreErrorKind::Unavailable, _) => match pauses.next() {
                        Some(pause) => sleep(*pause).await,
                        None => return Err(error),
                    },
                    (_, Outcome::Response(_)) => outcome = Outcome::Tombstone(Tombstone::Unreplayable),
                    (_, Outcome::Tombstone(_)) => return Err(error),
                }
            }
        };
        // Renewed until it is recorded: the effect is done, so this is no time for a second run.
        let completed =
            self.under_lease(fence, pin!(completion)).await.unwrap_or_else(|panic| resume_unwind(panic));
        self.done();
        completed
    }

    /// Gives up the claim of a run that ended without a response, by the policy for orphans.
    async fn abandon(&self, fence: Fence) {
        match self.config.on_orphan {
            OnOrphan::Rerun => self.release(fence).await,
            OnOrphan::Halt => {
                // Where this fails, or comes too late, the next claim finds an orphan and halts.
                let _ = self.complete(fence, Outcome::Tombstone(Tombstone::Unknown)).await;
            }
            OnOrphan::Reconcile(_) => {
                // An orphan at once, instead of when the lease runs out.
                if let Err(error) = St::extend(&self.config.store, self.record, fence, Duration::ZERO).await {
                    trace::store_failed(self.record, "extend", &error);
                }
                self.done();
            }
        }
    }

    /// Gives the claim back. Where the store is not reached, the lease runs out instead.
    async fn release(&self, fence: Fence) {
        match St::release(&self.config.store, self.record, fence).await {
            Ok(_) => trace::released(self.record),
            Err(error) => trace::store_failed(self.record, "release", &error),
        }
        self.done();
    }

    /// The claim is settled: nothing is left to finish if the client goes away, and waiters may look.
    fn done(&self) {
        self.lifeline.let_go();
        if !self.config.wait.is_zero() {
            self.config.waiters.wake(self.record);
        }
    }
}

/// Before a claim is given up, so that the next run meets neither the rows nor the locks of this one.
async fn roll_back(unit: Option<Box<dyn RequestTransaction>>) {
    if let Some(unit) = unit {
        unit.roll_back().await;
    }
}

/// A response whose body was read in part.
fn resumed<R: Replayable>(response: Response<R>, data: Bytes) -> Response<R> {
    response.map(|rest| R::from_replay(ReplayBody::resumed(data, rest)))
}
