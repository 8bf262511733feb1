//! The way of a request whose claim is its transaction. Killed anywhere in here, it leaves nothing, or the whole.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::claimed::Ended;
use super::lease::{Lease, Panic};
use super::{Engine, POLL, head_of, run_without_key};
use crate::body::Replayable;
use crate::clock::{after, now};
use crate::config::{InTransaction, OnDisconnect, OnStoreFailure};
use crate::context::{Checkpoints, Idempotency, Written};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::orphan::{OnOrphan, Orphan};
use crate::rejection::RejectionKind;
use crate::store::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, ClaimTransaction, Completion, Fence, Outcome, RecordId,
    Store, Tombstone, TransactionClaim,
};
use crate::trace;

impl<St: Store> Engine<St> {
    /// Claims in the transaction, runs the handler in it, and answers.
    pub(super) async fn engage_in_transaction<S, B, R>(
        &self,
        way: &InTransaction<St>,
        fingerprint: Fingerprint,
        mut request: Request<B>,
        mut inner: S,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Replayable,
        R: Replayable,
    {
        let asked = ClaimRequest {
            record: self.record,
            fingerprint,
            token: ClaimToken::new(),
            lease: self.config.lease,
            ttl: self.config.contract.ttl,
        };
        // Dropped here: the store closes the connection, and the claim with it.
        let (run, transaction, until) = match self.claim_in_transaction(way, &asked).await {
            Ok((TransactionClaim::Run(run, transaction), until)) => (run, transaction, until),
            Ok((TransactionClaim::Answered(claim), _)) => return Ok(self.answer_claim(claim)),
            Err(error) if self.passes_through(&error) => {
                let offered = St::offer_transaction(&self.config.store, request.extensions_mut());
                return run_without_key(self.config.clone(), offered, inner.call(request)).await;
            }
            Err(_) => return Ok(self.reject(RejectionKind::StoreUnavailable)),
        };
        trace::claimed(self.record, &run);
        // From here on a client that disconnects is not the end: what runs is finished, or cancelled, on the runtime.
        self.cancellation.claim_begins();
        let is_orphan = run.orphan;
        let idempotency =
            Idempotency::new(self.key.clone(), self.record, fingerprint, run, Arc::new(NoCheckpoints));
        let claimed = TransactionalRun { engine: self, asked, transaction, until };
        if is_orphan {
            let orphan = Orphan { idempotency: idempotency.clone(), request: head_of(&request) };
            let ended = within_time(until, Box::pin(self.reconcile(orphan))).await;
            if let Some(ended) = ended {
                return claimed.settle(ended).await;
            }
        }
        if self.cancellation.is_cancelled() {
            return claimed.settle(RunEnded::In(Ended::Cancelled)).await;
        }
        request.extensions_mut().insert(idempotency);
        claimed.transaction.offer(request.extensions_mut());
        match catch_unwind(AssertUnwindSafe(|| Box::pin(inner.call(request)))) {
            Ok(handler) => claimed.run(handler).await,
            Err(panic) => claimed.settle(RunEnded::In(Ended::Panicked(panic))).await,
        }
    }

    /// Asks for the claim and, where the layer waits, waits for its owner: polling, without a connection in between. A
    /// run of this process wakes its waiters when it ends. Says until when the transaction may take, too.
    async fn claim_in_transaction(
        &self,
        way: &InTransaction<St>,
        request: &ClaimRequest,
    ) -> Result<(TransactionClaim, Instant), StoreError> {
        let wait_until = after(now(), self.config.wait);
        let mut place = None;
        loop {
            let until = after(now(), way.time);
            let claim = (way.claim)(&self.config.store, *request, way.time)
                .await
                .inspect_err(|error| trace::store_failed(self.record, "claim", error))?;
            let left = wait_until.saturating_duration_since(now());
            let TransactionClaim::Answered(Claim::InFlight { .. }) = claim else { return Ok((claim, until)) };
            if left.is_zero() {
                return Ok((claim, until));
            }
            match &mut place {
                // The store is asked once more after the place is taken: what happens between the two is not missed.
                None => {
                    trace::waiting(self.record, self.config.wait);
                    place = Some(self.config.waiters.join(self.record));
                }
                Some(place) => {
                    let _ = timeout(left.min(POLL), place.changed()).await;
                }
            }
        }
    }

    /// What a claim that does not run is answered.
    fn answer_claim<R: Replayable>(&self, claim: Claim) -> Response<R> {
        match claim {
            Claim::Replay { response, .. } => self.replay(&response),
            Claim::Mismatch => self.reject(RejectionKind::KeyReused),
            Claim::Tombstone(tombstone) => self.reject(RejectionKind::Tombstone(tombstone)),
            Claim::InFlight { .. } | Claim::Run(_) => self.reject(RejectionKind::InProgress),
        }
    }

    fn passes_through(&self, error: &StoreError) -> bool {
        self.config.on_store_failure == OnStoreFailure::PassThrough
            && error.kind() == StoreErrorKind::Unavailable
    }
}

/// A request that runs in a transaction that is its claim.
struct TransactionalRun<'a, St> {
    engine: &'a Engine<St>,
    asked: ClaimRequest,
    transaction: Box<dyn ClaimTransaction>,
    /// When the transaction has taken too long.
    until: Instant,
}

/// How a run ended, or that it took too long.
enum RunEnded<R, E> {
    In(Ended<R, E>),
    TooLate,
}

impl<St: Store> TransactionalRun<'_, St> {
    /// Runs the handler, reads its response as far as it is stored, and settles the claim.
    async fn run<F, R, E>(self, mut handler: Pin<Box<F>>) -> Result<Response<R>, E>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Replayable,
    {
        let engine = self.engine;
        let cancels = engine.config.on_disconnect == OnDisconnect::Cancel;
        // The handler moves into this block and is dropped with it, before its transaction is ended.
        let answered = async move {
            match handler.as_mut().await {
                Ok(response) => engine.capture(response).await,
                Err(error) => Ended::Failed(error),
            }
        };
        let mut answered = Box::pin(answered);
        let mut cancelled = cancels.then(|| Box::pin(engine.cancellation.cancelled()));
        let ended = poll_fn(|cx| {
            if cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Some(Ended::Cancelled));
            }
            answered.as_mut().poll(cx).map(Some)
        });
        let ended = within_time(self.until, ended).await;
        drop(answered);
        self.settle(ended.unwrap_or(RunEnded::TooLate)).await
    }

    /// Ends the transaction as the run ended, then answers.
    async fn settle<R: Replayable, E>(self, ended: RunEnded<R, E>) -> Result<Response<R>, E> {
        let Self { engine, asked, transaction, .. } = self;
        // Killed in any of these: the transaction is rolled back, or was committed whole.
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
                        engine.answer_claim(claim)
                    }
                    Err(error) => engine.not_committed(&asked, &error).await,
                })
            }
            RunEnded::In(Ended::NotStored(response)) => {
                transaction.roll_back().await;
                trace::released(engine.record);
                Ok(engine.mark(response))
            }
            RunEnded::In(Ended::Failed(error)) => {
                trace::ended_without_response(engine.record, "error");
                transaction.roll_back().await;
                Err(error)
            }
            RunEnded::In(Ended::Panicked(panic)) => {
                trace::ended_without_response(engine.record, "panic");
                transaction.roll_back().await;
                engine.transaction_ended();
                resume_unwind(panic)
            }
            RunEnded::In(Ended::Cancelled) => {
                transaction.roll_back().await;
                Ok(engine.reject(RejectionKind::InProgress)) // to nobody
            }
            RunEnded::TooLate => {
                trace::ended_without_response(engine.record, "transaction_time");
                // The handler may have left a statement on its way: the connection is closed.
                drop(transaction);
                Ok(engine.reject(RejectionKind::RolledBack))
            }
        };
        engine.transaction_ended();
        answer
    }
}

impl<St: Store> Engine<St> {
    /// Answers a run whose commit failed. Where nobody knows whether it did, a policy that must not run again has that
    /// written into the record.
    async fn not_committed<R: Replayable>(&self, asked: &ClaimRequest, error: &StoreError) -> Response<R> {
        trace::store_failed(self.record, "commit", error);
        if error.kind() != StoreErrorKind::Unavailable {
            return self.reject(RejectionKind::RolledBack);
        }
        if matches!(self.config.on_orphan, OnOrphan::Halt) {
            // A commit that took effect left a record, and then this finds a replay.
            let claim =
                St::claim(&self.config.store, ClaimRequest { token: ClaimToken::new(), ..*asked }).await;
            if let Ok(Claim::Run(run)) = claim {
                let lease = Lease { engine: self, fence: run.fence };
                let _ = lease.complete(Outcome::Tombstone(Tombstone::Unknown)).await;
            }
        }
        self.reject(RejectionKind::NotRecorded)
    }

    /// Notes that nothing is left to finish if the client disconnects, and lets waiters look.
    fn transaction_ended(&self) {
        self.cancellation.claim_ends();
        if !self.config.wait.is_zero() {
            self.config.waiters.wake(self.record);
        }
    }
}

/// Drives a future for as long as the transaction may take. A panic is a way to end.
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

/// Drives a future; a panic is a value.
async fn contained<F: Future + Unpin>(mut future: F) -> Result<F::Output, Panic> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// A claim in the transaction keeps no checkpoint: it would have to outlive the transaction.
struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn write(&self, _: RecordId, _: Fence, _: Checkpoint) -> Written<'_> {
        Box::pin(async {
            Err(StoreError::invalid("the claim is the transaction: a checkpoint could not outlive it"))
        })
    }
}
