//! From the claim to the answer: run, capture, settle. The process may be killed at any await in here; what it leaves is
//! an orphan, until the completion, and a record after.

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use tower_service::Service;

use super::Engine;
use super::callee::Callee;
use super::lease::{Lease, Panic};
use crate::body::Replayable;
use crate::error::{StoreError, StoreErrorKind};
use crate::orphan::Orphan;
use crate::rejection::RejectionKind;
use crate::store::{Fenced, Outcome, RequestTransaction, Store};
use crate::trace;

/// A request that holds the claim of its record.
pub(super) struct ClaimedRun<'a, St> {
    pub(super) engine: &'a Engine<St>,
    pub(super) lease: Lease<'a, St>,
    /// The layer's end of the transaction that the handler was offered.
    pub(super) transaction: Option<Box<dyn RequestTransaction>>,
    /// Whether the request body broke off while the handler read it; `None`: it was read before the claim.
    pub(super) upload: Option<Arc<AtomicBool>>,
}

/// How a run ended.
pub(super) enum Ended<R, E> {
    /// With a response that is stored, or leaves a tombstone.
    Stored {
        response: Response<R>,
        outcome: Outcome,
        /// Whether it is one that the handler's rows are committed with.
        commits: bool,
    },
    /// With a response that is not stored: a retry runs.
    NotStored(Response<R>),
    /// With the service's own error.
    Failed(E),
    /// With the service's own error, before it was called.
    NotReady(E),
    /// With a panic.
    Panicked(Panic),
    /// The client disconnected, and the layer cancels then.
    Cancelled,
}

impl<St: Store> ClaimedRun<'_, St> {
    /// Does what comes before the run of an orphan, of a service that is not ready, or of a request that was cancelled.
    ///
    /// # Errors
    ///
    /// Returns the answer if the claim was settled meanwhile, so that nothing is to run.
    pub(super) async fn prepare<S, Q, R>(
        self,
        orphan: Option<Orphan>,
        inner: &mut Callee<S>,
    ) -> Result<Self, Result<Response<R>, S::Error>>
    where
        S: Service<Q> + Clone,
        R: Replayable,
    {
        let mut ended = None;
        if let Some(orphan) = orphan {
            inner.give_readiness_back();
            let reconciled = self.lease.keep_during(Box::pin(self.engine.reconcile(orphan))).await;
            ended = reconciled.unwrap_or_else(|panic| Some(Ended::Panicked(panic)));
        }
        if ended.is_none() && !inner.is_ready() {
            ended = self.lease.wait_until_ready(inner).await;
        }
        if ended.is_none() && self.engine.cancellation.is_cancelled() {
            ended = Some(Ended::Cancelled);
        }
        match ended {
            None => Ok(self),
            Some(ended) => Err(self.settle(ended).await),
        }
    }

    /// Runs the handler, reads its response as far as it is stored, and settles the claim.
    pub(super) async fn run<F, R, E>(mut self, handler: Pin<Box<F>>) -> Result<Response<R>, E>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Replayable,
    {
        let engine = self.engine;
        // Handler and response body are dropped with this block, before their claim is given up.
        let ended = {
            let answered = pin!(async {
                let response = match handler.await {
                    Ok(response) => response,
                    Err(error) => return Ended::Failed(error),
                };
                engine.capture(response).await
            });
            let answered = pin!(engine.unless_cancelled(answered));
            match self.lease.keep_during(answered).await {
                Ok(Some(ended)) => ended,
                Ok(None) => Ended::Cancelled,
                Err(panic) => Ended::Panicked(panic),
            }
        };
        match ended {
            Ended::Stored { response, .. } if self.upload_broke_off() => {
                trace::not_stored(engine.record, "the request body broke off");
                Box::pin(self.settle(Ended::NotStored(response))).await
            }
            // What nearly every run ends with. The others are boxed, so that it does not carry the room for them.
            Ended::Stored { mut response, outcome, .. } if !self.has_begun() => {
                self.transaction = None;
                let recorded = self.lease.complete(outcome, &mut response).await;
                Ok(self.answer(&recorded, response))
            }
            ended => Box::pin(self.settle(ended)).await,
        }
    }

    fn has_begun(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.is_begun())
    }

    fn upload_broke_off(&self) -> bool {
        self.upload.as_ref().is_some_and(|broke_off| broke_off.load(Ordering::Relaxed))
    }

    /// Records how the run ended, then answers. What is not recorded is not answered, and what is not stored is not
    /// committed.
    pub(super) async fn settle<R: Replayable, E>(mut self, ended: Ended<R, E>) -> Result<Response<R>, E> {
        match ended {
            // Killed in here: recorded or not, the answer was not given; the retry finds it, or an orphan.
            Ended::Stored { mut response, outcome, commits } => {
                let commits = |transaction: &mut Box<dyn RequestTransaction>| {
                    transaction.is_begun() && (commits || transaction.keeps_on_error())
                };
                if let Some(transaction) = self.transaction.take_if(commits) {
                    return Ok(self.commit(transaction, outcome, response).await);
                }
                if let Err(error) = self.roll_back().await {
                    return Ok(self.not_committed(&error).await);
                }
                let recorded = self.lease.complete(outcome, &mut response).await;
                Ok(self.answer(&recorded, response))
            }
            // Killed in one of these: an orphan, or a claim that was given up.
            Ended::NotStored(response) => {
                if let Err(error) = self.roll_back().await {
                    return Ok(self.not_committed(&error).await);
                }
                self.lease.release().await;
                Ok(self.engine.mark(response))
            }
            Ended::Failed(error) => {
                trace::ended_without_response(self.engine.record, "error");
                let _ = self.roll_back().await;
                self.lease.abandon().await;
                Err(error)
            }
            Ended::NotReady(error) => {
                // Nothing ran, so there is nothing to be in doubt about.
                trace::ended_without_response(self.engine.record, "not ready");
                self.lease.release().await;
                Err(error)
            }
            Ended::Panicked(panic) => {
                trace::ended_without_response(self.engine.record, "panic");
                let _ = self.roll_back().await;
                self.lease.abandon().await;
                resume_unwind(panic)
            }
            Ended::Cancelled => {
                let _ = self.roll_back().await;
                self.lease.release().await;
                Ok(self.engine.reject(RejectionKind::InProgress)) // to nobody
            }
        }
    }

    /// Rolls back what the handler wrote, before its claim is given up: the next run meets neither its rows nor its
    /// locks. A transaction that was not begun ends too.
    async fn roll_back(&mut self) -> Result<(), StoreError> {
        let Some(transaction) = self.transaction.take().filter(|transaction| transaction.is_begun()) else {
            return Ok(());
        };
        let rolled_back = self.lease.keep_during(transaction.roll_back()).await;
        rolled_back.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Commits the outcome together with what the handler wrote, then answers. Where it is not known whether that took
    /// effect, the record tells the next claim, when the lease is over.
    async fn commit<R: Replayable>(
        self,
        transaction: Box<dyn RequestTransaction>,
        outcome: Outcome,
        response: Response<R>,
    ) -> Response<R> {
        let commit = transaction.complete(self.engine.record, self.lease.fence, outcome);
        let committed =
            self.lease.keep_during(pin!(commit)).await.unwrap_or_else(|panic| resume_unwind(panic));
        let Err(error) = &committed else {
            self.lease.ended();
            return self.answer(&committed, response);
        };
        self.not_committed(error).await
    }

    /// Gives the claim up, if it is known that nothing was committed, and answers 503.
    async fn not_committed<R: Replayable>(self, error: &StoreError) -> Response<R> {
        trace::store_failed(self.engine.record, "commit", error);
        if error.kind() == StoreErrorKind::Unavailable {
            self.lease.ended();
            return self.engine.reject(RejectionKind::NotRecorded);
        }
        self.lease.abandon().await;
        self.engine.reject(RejectionKind::RolledBack)
    }

    /// Returns the response, if it is the one that retries will get.
    fn answer<R: Replayable>(
        &self,
        recorded: &Result<Fenced, StoreError>,
        response: Response<R>,
    ) -> Response<R> {
        let engine = self.engine;
        match recorded {
            Ok(Fenced::Held) => {
                trace::completed(engine.record);
                engine.mark(response)
            }
            Ok(Fenced::Stale) => {
                // Another run holds the claim: its answer is the one that retries will get.
                trace::stale(engine.record);
                engine.reject(RejectionKind::InProgress)
            }
            Err(error) if engine.config.passes_through(error) => engine.mark(response),
            Err(_) => engine.reject(RejectionKind::NotRecorded),
        }
    }
}
