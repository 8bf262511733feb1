//! A request whose claim is its transaction. If the process is killed anywhere in here, everything
//! is committed or nothing is.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::callee::Callee;
use super::ended::{Ended, Panic};
use super::lease::Lease;
use super::{Engine, head_of};
use crate::body::Replayable;
use crate::clock::{after, now};
use crate::context::Idempotency;
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::orphan::{OnOrphan, Orphan};
use crate::rejection::RejectionKind;
use crate::store::{
    Claim, ClaimRequest, ClaimToken, ClaimTransaction, Completion, Outcome, Store, Tombstone,
};
use crate::trace;

/// How long to wait for the rollback of a run whose handler was dropped.
const ROLL_BACK_WITHIN: Duration = Duration::from_millis(500);

/// A request whose claim is its transaction.
pub(super) struct TransactionalRun<'a, St> {
    engine: &'a Engine<St>,
    idempotency: Idempotency,
    transaction: Box<dyn ClaimTransaction>,
    /// The end of `transaction_time`.
    until: Instant,
}

/// How a run ended.
enum RunEnded<R, E> {
    In(Ended<R, E>),
    TooLate,
}

impl<'a, St: Store> TransactionalRun<'a, St> {
    pub(super) fn new(
        engine: &'a Engine<St>,
        idempotency: Idempotency,
        transaction: Box<dyn ClaimTransaction>,
        asked_at: Instant,
    ) -> Self {
        let time = engine.config.in_transaction.as_ref().map_or(Duration::ZERO, |way| way.time);
        Self { engine, idempotency, transaction, until: after(asked_at, time) }
    }

    /// Runs the handler in the transaction, ends the transaction, and answers.
    pub(super) async fn engage<S, B, R>(
        self,
        mut inner: Callee<S>,
        mut request: Request<B>,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Replayable,
        R: Replayable,
    {
        let engine = self.engine;
        let idempotency = self.idempotency.clone();
        // If the process is killed in any of these awaits, the transaction ends with its
        // connection, and nothing is left.
        let mut ended = None;
        if engine.run().orphan {
            inner.give_readiness_back();
            let orphan = Orphan { idempotency: idempotency.clone(), request: head_of(&request) };
            ended = within_time(self.until, Box::pin(engine.reconcile(orphan))).await;
        }
        if ended.is_none() && !inner.is_ready() {
            ended = within_time(self.until, Box::pin(engine.wait_until_ready(&mut inner))).await;
        }
        if ended.is_none() && engine.cancellation.is_cancelled() {
            ended = Some(RunEnded::In(Ended::Cancelled));
        }
        if let Some(ended) = ended {
            return self.settle(ended).await;
        }
        request.extensions_mut().insert(idempotency);
        self.transaction.offer(request.extensions_mut());
        // The block drops the handler and the response body before the transaction ends.
        let ended = {
            let answered = pin!(async move {
                match inner.call(request).await {
                    Ok(response) => engine.capture(response).await,
                    Err(error) => Ended::Failed(error),
                }
            });
            let answered = engine.unless_cancelled(answered);
            let answered = pin!(async { Some(answered.await.unwrap_or(Ended::Cancelled)) });
            within_time(self.until, answered).await
        };
        self.settle(ended.unwrap_or(RunEnded::TooLate)).await
    }

    /// Commits or rolls back, as the run ended, then answers.
    async fn settle<R: Replayable, E>(self, ended: RunEnded<R, E>) -> Result<Response<R>, E> {
        let Self { engine, transaction, .. } = self;
        // If the process is killed in any of these awaits, everything is committed or nothing is.
        let answer = match ended {
            RunEnded::In(Ended::Stored { response, outcome, commits }) => {
                let with_rows = commits || transaction.keeps_on_error();
                Ok(match transaction.complete(outcome, with_rows).await {
                    Ok(Completion::Committed) => {
                        trace::completed(engine.record);
                        engine.mark(response)
                    }
                    Ok(Completion::Overtaken(claim)) => {
                        trace::stale(engine.record);
                        engine.answer_without_running(&claim)
                    }
                    Err(error) => engine.not_committed(&error).await,
                })
            }
            RunEnded::In(Ended::NotStored(response)) => match transaction.roll_back().await {
                Ok(()) => {
                    trace::released(engine.record);
                    Ok(engine.mark(response))
                }
                Err(error) => Ok(engine.not_committed(&error).await),
            },
            RunEnded::In(Ended::NotReady(error)) => {
                trace::ended_without_response(engine.record, "not ready");
                let _ = transaction.roll_back().await;
                Err(error)
            }
            RunEnded::In(Ended::Failed(error)) => {
                trace::ended_without_response(engine.record, "error");
                let _ = transaction.roll_back().await;
                Err(error)
            }
            RunEnded::In(Ended::Panicked(panic)) => {
                trace::ended_without_response(engine.record, "panic");
                let _ = transaction.roll_back().await;
                engine.transaction_ended();
                resume_unwind(panic)
            }
            RunEnded::In(Ended::Cancelled) => {
                give_up(transaction).await;
                Ok(engine.reject(RejectionKind::InProgress)) // nobody receives it
            }
            RunEnded::TooLate => {
                trace::ended_without_response(engine.record, "transaction_time");
                give_up(transaction).await;
                Ok(engine.reject(RejectionKind::RolledBack))
            }
        };
        engine.transaction_ended();
        answer
    }
}

impl<St: Store> Engine<St> {
    /// Answers a run whose commit failed. If it is unknown whether it did and the policy forbids
    /// another run, writes a tombstone.
    async fn not_committed<R: Replayable>(&self, error: &StoreError) -> Response<R> {
        trace::store_failed(self.record, "commit", error);
        if error.kind() != StoreErrorKind::Unavailable {
            return self.reject(RejectionKind::RolledBack);
        }
        if matches!(self.config.on_orphan, OnOrphan::Halt) {
            // If the commit took effect, this claim finds its record and is a replay.
            let asked = ClaimRequest {
                record: self.record,
                fingerprint: Fingerprint::NONE,
                token: ClaimToken::new(),
                lease: self.config.lease,
                ttl: self.config.contract.ttl,
            };
            if let Ok(Claim::Run(run)) = St::claim(&self.config.store, asked).await {
                let lease = Lease { engine: self, fence: run.fence, held_since: now() };
                let mut response = self.reject(RejectionKind::NotRecorded);
                let _ = lease.complete(Outcome::Tombstone(Tombstone::Unknown), &mut response).await;
                return response;
            }
        }
        self.reject(RejectionKind::NotRecorded)
    }

    /// Notes that a disconnect leaves nothing to finish, and wakes the waiters.
    fn transaction_ended(&self) {
        self.cancellation.claim_ends();
        if !self.config.wait.is_zero() {
            self.config.waiters.wake(self.record);
        }
    }
}

/// Rolls back a run whose handler was dropped. If a long statement of the handler is still running,
/// the connection is closed instead, and the database ends the transaction when it notices.
async fn give_up(transaction: Box<dyn ClaimTransaction>) {
    let _ = timeout(ROLL_BACK_WITHIN, transaction.roll_back()).await;
}

/// Drives a future until the end of `transaction_time`. A panic ends the run.
async fn within_time<R, E>(
    until: Instant,
    future: impl Future<Output = Option<Ended<R, E>>> + Unpin,
) -> Option<RunEnded<R, E>> {
    match timeout_at(until, contained(future)).await {
        Ok(Ok(ended)) => ended.map(RunEnded::In),
        Ok(Err(panic)) => Some(RunEnded::In(Ended::Panicked(panic))),
        Err(_) => Some(RunEnded::TooLate),
    }
}

/// Drives a future, and returns a panic as a value.
async fn contained<F: Future + Unpin>(mut future: F) -> Result<F::Output, Panic> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
