//! The steps from the claim to the answer: run, capture, settle. If the process is killed at an
//! await in here, it leaves an orphan before the completion and a finished record after it.

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use tower_service::Service;

use super::callee::Callee;
use super::ended::Ended;
use super::lease::Lease;
use crate::body::Replayable;
use crate::error::{StoreError, StoreErrorKind};
use crate::orphan::Orphan;
use crate::rejection::RejectionKind;
use crate::store::{Fenced, Outcome, RequestTransaction, Store};
use crate::trace;

/// A request that holds the claim of its record.
pub(super) struct ClaimedRun<'a, St> {
    pub(super) lease: Lease<'a, St>,
    /// The layer's handle of the transaction that the handler was offered.
    pub(super) transaction: Option<Box<dyn RequestTransaction>>,
    /// Whether the request body broke off while the handler read it. `None` if it was read before
    /// the claim.
    pub(super) upload: Option<Arc<AtomicBool>>,
}

impl<St: Store> ClaimedRun<'_, St> {
    /// Reconciles an orphan, waits for a service that is not ready, and ends a cancelled request.
    ///
    /// # Errors
    ///
    /// Returns the answer if the claim is settled and the handler must not run.
    pub(super) async fn prepare<S, Q, R>(
        self,
        orphan: Option<Orphan>,
        inner: &mut Callee<S>,
    ) -> Result<Self, Result<Response<R>, S::Error>>
    where
        S: Service<Q> + Clone,
        R: Replayable,
    {
        let engine = self.lease.engine;
        let mut ended = None;
        if let Some(orphan) = orphan {
            inner.give_readiness_back();
            let reconciled = self.lease.keep_during(Box::pin(engine.reconcile(orphan))).await;
            ended = reconciled.unwrap_or_else(|panic| Some(Ended::Panicked(panic)));
        }
        if ended.is_none() && !inner.is_ready() {
            let ready = self.lease.keep_during(Box::pin(engine.wait_until_ready(inner))).await;
            ended = ready.unwrap_or_else(|panic| Some(Ended::Panicked(panic)));
        }
        if ended.is_none() && engine.cancellation.is_cancelled() {
            ended = Some(Ended::Cancelled);
        }
        match ended {
            None => Ok(self),
            Some(ended) => Err(self.settle(ended).await),
        }
    }

    /// Runs the handler, captures its response and settles the claim.
    #[expect(clippy::manual_async_fn, reason = "an async fn would keep room for its arguments twice")]
    pub(super) fn run<F, R, E>(mut self, handler: Pin<Box<F>>) -> impl Future<Output = Result<Response<R>, E>>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Replayable,
    {
        async move {
            let engine = self.lease.engine;
            // The block drops the handler and the response body before the claim is given up.
            let ended = {
                let answered = pin!(async {
                    let response = match handler.await {
                        Ok(response) => response,
                        Err(error) => return Ended::Failed(error),
                    };
                    engine.capture(response).await
                });
                match self.lease.keep_during(engine.unless_cancelled(answered)).await {
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
                // Nearly every run ends here. The other cases are boxed to keep the future small.
                Ended::Stored { mut response, outcome, .. } if !self.has_begun() => {
                    self.transaction = None;
                    let recorded = self.lease.complete(outcome, &mut response).await;
                    Ok(self.answer(&recorded, response))
                }
                ended => Box::pin(self.settle(ended)).await,
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.is_begun())
    }

    fn upload_broke_off(&self) -> bool {
        self.upload.as_ref().is_some_and(|broke_off| broke_off.load(Ordering::Relaxed))
    }

    /// Records how the run ended, then answers. A response that is not recorded is not sent, and
    /// rows commit only with a response that is stored.
    pub(super) async fn settle<R: Replayable, E>(mut self, ended: Ended<R, E>) -> Result<Response<R>, E> {
        match ended {
            // Killed in here: no answer was sent. A retry finds the record, or an orphan.
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
            // Killed in one of these: the claim is an orphan, or was given up.
            Ended::NotStored(response) => {
                if let Err(error) = self.roll_back().await {
                    return Ok(self.not_committed(&error).await);
                }
                self.lease.release().await;
                Ok(self.lease.engine.mark(response))
            }
            Ended::Failed(error) => {
                trace::ended_without_response(self.lease.engine.record, "error");
                let _ = self.roll_back().await;
                self.lease.abandon().await;
                Err(error)
            }
            Ended::NotReady(error) => {
                // The handler did not run, so the policy for orphans does not apply.
                trace::ended_without_response(self.lease.engine.record, "not ready");
                self.lease.release().await;
                Err(error)
            }
            Ended::Panicked(panic) => {
                trace::ended_without_response(self.lease.engine.record, "panic");
                let _ = self.roll_back().await;
                self.lease.abandon().await;
                resume_unwind(panic)
            }
            Ended::Cancelled => {
                let _ = self.roll_back().await;
                self.lease.release().await;
                Ok(self.lease.engine.reject(RejectionKind::InProgress)) // nobody receives it
            }
        }
    }

    /// Rolls back the handler's rows. It happens before the claim is given up, so that the next run
    /// meets neither its rows nor its locks.
    async fn roll_back(&mut self) -> Result<(), StoreError> {
        let Some(transaction) = self.transaction.take().filter(|transaction| transaction.is_begun()) else {
            return Ok(());
        };
        let rolled_back = self.lease.keep_during(transaction.roll_back()).await;
        rolled_back.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Commits the outcome together with the handler's rows, then answers. If it is unknown whether
    /// the commit took effect, the next claim after the end of the lease learns it from the record.
    async fn commit<R: Replayable>(
        self,
        transaction: Box<dyn RequestTransaction>,
        outcome: Outcome,
        response: Response<R>,
    ) -> Response<R> {
        let commit = transaction.complete(self.lease.engine.record, self.lease.fence, outcome);
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
        trace::store_failed(self.lease.engine.record, "commit", error);
        if error.kind() == StoreErrorKind::Unavailable {
            self.lease.ended();
            return self.lease.engine.reject(RejectionKind::NotRecorded);
        }
        self.lease.abandon().await;
        self.lease.engine.reject(RejectionKind::RolledBack)
    }

    /// Returns the response if retries will get the same one, and otherwise a rejection.
    fn answer<R: Replayable>(
        &self,
        recorded: &Result<Fenced, StoreError>,
        response: Response<R>,
    ) -> Response<R> {
        let engine = self.lease.engine;
        match recorded {
            Ok(Fenced::Held) => {
                trace::completed(engine.record);
                engine.mark(response)
            }
            Ok(Fenced::Stale) => {
                // Another run holds the claim. Retries will get its answer.
                trace::stale(engine.record);
                engine.reject(RejectionKind::InProgress)
            }
            Err(error) if engine.config.passes_through(error) => engine.mark(response),
            Err(_) => engine.reject(RejectionKind::NotRecorded),
        }
    }
}
