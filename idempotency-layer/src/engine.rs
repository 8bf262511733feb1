//! The way of a request: key, scope, claim, run, capture, complete, answer; or replay, or reject.
//!
//! Each await says what happens if the request is dropped there. "Dropped" is the client leaving: from the claim on
//! the future is not dropped then but moved onto the runtime (`future.rs`), so what is left is the process dying.

use std::any::Any;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use crate::body::{self, Read, ReplayBody, Replayable};
use crate::clock::{after, now};
use crate::context::Idempotency;
use crate::contract::{Bind, Disposition};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::{Fingerprint, FingerprintMode, fingerprint};
use crate::future::Lifeline;
use crate::key::Key;
use crate::layer::{Config, OnDisconnect, OnStoreFailure};
use crate::original_uri::original_uri;
use crate::orphan::{OnOrphan, Orphan, Reconciled};
use crate::rejection::RejectionKind;
use crate::response::StoredResponse;
use crate::store::{
    Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, RecordId, Run, Store, Tombstone,
};
use crate::trace;

/// What a client is told to wait while another request with its key is carried out.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// How often a waiter looks, in case the owner is in another process.
const POLL: Duration = Duration::from_millis(250);
/// The pauses before a completion is tried again.
const COMPLETION_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];

/// What becomes of a request at the door.
pub(crate) enum Admission<St, B, R> {
    Bypass(Request<B>),
    Reject(Response<R>),
    Engage(Engine<St>, Request<B>),
}

/// Decides from the head of a request whether the layer has any business with it. Nothing is awaited or allocated on
/// the way to a bypass.
pub(crate) fn admit<St, B, R: Replayable>(
    config: &Arc<Config<St>>,
    request: Request<B>,
) -> Admission<St, B, R> {
    let contract = &config.contract;
    if !contract.concerns(request.method())
        || !(contract.required || request.headers().contains_key(&contract.header))
    {
        return Admission::Bypass(request);
    }
    let (parts, body) = request.into_parts();
    let elsewhere = config.when.as_ref().is_some_and(|when| !when(&parts));
    // A second layer further in would take the first one's claim for somebody else's.
    if elsewhere || parts.extensions.get::<Idempotency>().is_some() {
        return Admission::Bypass(Request::from_parts(parts, body));
    }
    let key = match contract.key.parse(&parts.headers, &contract.header) {
        Ok(Some(key)) => key,
        Ok(None) => return Admission::Reject(reject(config, RejectionKind::KeyMissing, None)),
        Err(why) => return Admission::Reject(reject(config, RejectionKind::KeyInvalid(why), None)),
    };
    let Some(mut scope) = (config.scope)(&parts) else {
        return Admission::Reject(reject(config, RejectionKind::ScopeMissing, Some(&key)));
    };
    if contract.bind == Bind::Endpoint {
        scope = scope.and(parts.method.as_str()).and(original_uri(&parts).path());
    }
    let record = scope.record(&key);
    let engine = Engine { config: config.clone(), key, record, lifeline: Arc::default() };
    Admission::Engage(engine, Request::from_parts(parts, body))
}

/// A request with a key, and its record.
pub(crate) struct Engine<St> {
    config: Arc<Config<St>>,
    key: Key,
    record: RecordId,
    lifeline: Arc<Lifeline>,
}

/// How a run ended.
enum Ended<R, E> {
    /// With a response, and what is to be stored of it; `None`: nothing.
    Answered(Response<R>, Option<Outcome>),
    /// With the service's own error.
    Failed(E),
    /// With a panic.
    Panicked(Box<dyn Any + Send>),
    /// The client went away, and the layer cancels then.
    Cancelled,
}

impl<St: Store> Engine<St> {
    pub(crate) fn lifeline(&self) -> Arc<Lifeline> {
        self.lifeline.clone()
    }

    /// The way of a request with a key.
    pub(crate) async fn engage<S, B, R>(
        self,
        request: Request<B>,
        mut inner: S,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Replayable,
        R: Replayable,
    {
        // Dropped here: nothing was asked of the store yet.
        let (mut request, fingerprint) = match self.read(request).await {
            Ok(read) => read,
            Err(kind) => return Ok(self.reject(kind)),
        };
        // Dropped here, waiting: the owner's record was not touched. Died here, claiming: an orphan at worst.
        let run = match self.claim(fingerprint).await {
            Ok(Claim::Run(run)) => run,
            Ok(Claim::Replay(stored)) => return Ok(self.replay(&stored)),
            Ok(Claim::InFlight { .. }) => return Ok(self.reject(RejectionKind::InProgress)),
            Ok(Claim::Mismatch) => return Ok(self.reject(RejectionKind::KeyReused)),
            Ok(Claim::Tombstone(tombstone)) => return Ok(self.reject(RejectionKind::Tombstone(tombstone))),
            Err(_) if self.config.on_store_failure == OnStoreFailure::PassThrough => {
                return inner.call(request).await;
            }
            Err(_) => return Ok(self.reject(RejectionKind::StoreUnavailable)),
        };
        trace::claimed(self.record, &run);
        let (fence, orphan) = (run.fence, run.orphan);
        let idempotency = self.context(run);
        let orphan = orphan.then(|| Orphan { idempotency: idempotency.clone(), request: head_of(&request) });
        // Died here, or in any of the awaits below up to the completion: an orphan (again).
        let settled = match orphan {
            Some(orphan) => self.reconcile(fence, orphan).await,
            None => None,
        };
        let ended = match settled {
            Some(ended) => ended,
            None => {
                request.extensions_mut().insert(idempotency);
                self.run(fence, request, inner).await
            }
        };
        match ended {
            // Died here: recorded or not, the answer was not given; the retry finds it, or an orphan.
            Ended::Answered(response, Some(outcome)) => Ok(self.complete(fence, outcome, response).await),
            Ended::Answered(response, None) => {
                self.release(fence).await;
                Ok(self.mark(response))
            }
            Ended::Failed(error) => {
                trace::ended_without_response(self.record, "error");
                self.abandon(fence).await;
                Err(error)
            }
            Ended::Panicked(panic) => {
                trace::ended_without_response(self.record, "panic");
                self.abandon(fence).await;
                resume_unwind(panic)
            }
            Ended::Cancelled => {
                self.release(fence).await;
                Ok(self.reject(RejectionKind::InProgress)) // to nobody
            }
        }
    }

    /// Reads the request as far as its fingerprint needs it.
    async fn read<B: Replayable>(
        &self,
        request: Request<B>,
    ) -> Result<(Request<B>, Fingerprint), RejectionKind> {
        let mode = self.config.contract.fingerprint;
        if mode == FingerprintMode::None {
            return Ok((request, Fingerprint::NONE));
        }
        let (parts, body) = request.into_parts();
        let limit = self.config.max_request_bytes;
        let (data, trailers) = match body::read(body, limit).await {
            Read::Whole(data, trailers) => (data, trailers),
            Read::TooLarge(_) => return Err(RejectionKind::BodyTooLarge { limit }),
            Read::Failed => return Err(RejectionKind::BodyUnreadable),
        };
        let fingerprint = fingerprint(mode, &parts.method, original_uri(&parts), &parts.headers, &data);
        let body = B::from_replay(ReplayBody::read(data, trailers));
        Ok((Request::from_parts(parts, body), fingerprint))
    }

    /// Asks for the claim and, where the layer waits, waits for its owner.
    async fn claim(&self, fingerprint: Fingerprint) -> Result<Claim, StoreError> {
        let Config { contract, lease, wait, waiters, .. } = &*self.config;
        let request = ClaimRequest {
            record: self.record,
            fingerprint,
            token: ClaimToken::new(),
            lease: *lease,
            ttl: contract.ttl,
        };
        let mut waiting = None;
        loop {
            self.lifeline.hold();
            let claim = self.ask(request).await;
            if !matches!(claim, Ok(Claim::Run(_))) {
                self.lifeline.let_go();
            }
            let lease_left = match claim {
                Ok(Claim::InFlight { lease_left }) if !wait.is_zero() => lease_left,
                claim => return claim,
            };
            match &mut waiting {
                None => {
                    trace::waiting(self.record, *wait);
                    waiting = Some((waiters.join(self.record), after(now(), *wait)));
                    // And ask once more: the owner may have finished before the place was taken.
                }
                Some((_, until)) if now() >= *until => return Ok(Claim::InFlight { lease_left }),
                Some((place, until)) => {
                    let left = until.saturating_duration_since(now());
                    // Either way the store is asked what became of the record.
                    let _ = timeout(left.min(lease_left).min(POLL), place.changed()).await;
                }
            }
        }
    }

    /// One claim. When its answer is lost it is asked again, with the same token: the store knows its own answer.
    async fn ask(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        match self.config.store.claim(request).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                trace::store_failed(self.record, "claim", &error);
                let again = self.config.store.claim(request).await;
                again.inspect_err(|error| trace::store_failed(self.record, "claim", error))
            }
            answer => answer.inspect_err(|error| trace::store_failed(self.record, "claim", error)),
        }
    }

    /// Carries the request out and reads the response as far as it is stored.
    async fn run<S, B, R>(&self, fence: Fence, request: Request<B>, mut inner: S) -> Ended<R, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Replayable,
        R: Replayable,
    {
        let answered = async {
            let mut handler = pin!(async { inner.call(request).await });
            let mut cancelled = pin!(self.lifeline.cancelled());
            let cancels = self.config.on_disconnect == OnDisconnect::Cancel;
            let response = poll_fn(|cx| {
                if cancels && cancelled.as_mut().poll(cx).is_ready() {
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
        self.under_lease(fence, catch_panic(answered)).await.unwrap_or_else(Ended::Panicked)
    }

    /// Reads what is to be stored of a response.
    async fn capture<R: Replayable, E>(&self, response: Response<R>) -> Ended<R, E> {
        const NOT_REPLAYED: Option<Outcome> = Some(Outcome::Tombstone(Tombstone::Unreplayable));
        let (parts, body) = response.into_parts();
        let contract = &self.config.contract;
        let (body, outcome) = match contract.stores.classify(&parts) {
            Disposition::Release => (body, None),
            Disposition::Tombstone => (body, NOT_REPLAYED),
            Disposition::Store => match body::read(body, self.config.max_response_bytes).await {
                Read::Whole(data, trailers) => {
                    let keeps = |name: &_| contract.keeps_header(name);
                    let stored =
                        StoredResponse::encode(parts.status, &parts.headers, keeps, &data, trailers.as_ref());
                    let outcome = stored.map_or_else(
                        |error| {
                            trace::store_failed(self.record, "encode", &error);
                            NOT_REPLAYED
                        },
                        |stored| Some(Outcome::Response(stored)),
                    );
                    (R::from_replay(ReplayBody::read(data, trailers)), outcome)
                }
                Read::TooLarge(body) => {
                    trace::not_stored(self.record, "longer than max_response_bytes");
                    (R::from_replay(body), NOT_REPLAYED)
                }
                Read::Failed => {
                    trace::not_stored(self.record, "its body broke off");
                    return Ended::Answered(self.reject(RejectionKind::ResponseUnreadable), NOT_REPLAYED);
                }
            },
        };
        Ended::Answered(Response::from_parts(parts, body), outcome)
    }

    /// Finds out what became of the run that left an orphan; `None`: the handler is to run.
    async fn reconcile<R: Replayable, E>(&self, fence: Fence, orphan: Orphan) -> Option<Ended<R, E>> {
        let halted = || {
            let unknown = Tombstone::Unknown;
            Some(Ended::Answered(
                self.reject(RejectionKind::Tombstone(unknown)),
                Some(Outcome::Tombstone(unknown)),
            ))
        };
        let reconcile = match &self.config.on_orphan {
            OnOrphan::Rerun => return None,
            OnOrphan::Halt => return halted(),
            OnOrphan::Reconcile(reconcile) => reconcile,
        };
        let found = catch_panic(async { reconcile.find_out(orphan).await });
        match self.under_lease(fence, found).await {
            Ok(Reconciled::Rerun) => None,
            Ok(Reconciled::Halt) => halted(),
            Ok(Reconciled::Response(response)) => Some(self.capture(response.map(body_of)).await),
            Err(panic) => Some(Ended::Panicked(panic)),
        }
    }

    /// Drives a future and renews the lease meanwhile. One that is ready at once sets no timer.
    async fn under_lease<F: Future>(&self, fence: Fence, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut renewal = pin!(self.renew(fence));
        poll_fn(|cx| {
            let output = future.as_mut().poll(cx);
            if output.is_pending() {
                let Poll::Pending = renewal.as_mut().poll(cx);
            }
            output
        })
        .await
    }

    /// Renews the lease for ever, or until it is lost.
    async fn renew(&self, fence: Fence) -> Infallible {
        let lease = self.config.lease;
        loop {
            sleep(lease / 3).await;
            match self.config.store.extend(self.record, fence, lease).await {
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

    /// Records the outcome, then gives the answer. What is not recorded is not answered.
    async fn complete<R: Replayable>(
        &self,
        fence: Fence,
        outcome: Outcome,
        response: Response<R>,
    ) -> Response<R> {
        let recorded = self.record_outcome(fence, outcome).await;
        self.lifeline.let_go();
        self.wake();
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

    /// Writes the outcome. A lost answer is asked for again with the same fence; a response that the store has no room
    /// for leaves a tombstone, so that at least it does not run again.
    async fn record_outcome(&self, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let store = &self.config.store;
        let mut outcome = outcome;
        let mut pauses = COMPLETION_PAUSES.iter();
        loop {
            let error = match store.complete(self.record, fence, outcome.clone()).await {
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
    }

    /// Gives up the claim of a run that ended without a response, by the policy for orphans.
    async fn abandon(&self, fence: Fence) {
        match self.config.on_orphan {
            OnOrphan::Rerun => self.release(fence).await,
            OnOrphan::Halt => {
                // Where this fails too, the lease runs out, and the next claim halts.
                let _ = self.record_outcome(fence, Outcome::Tombstone(Tombstone::Unknown)).await;
                self.lifeline.let_go();
                self.wake();
            }
            OnOrphan::Reconcile(_) => {
                // An orphan at once, instead of when the lease runs out.
                if let Err(error) = self.config.store.extend(self.record, fence, Duration::ZERO).await {
                    trace::store_failed(self.record, "extend", &error);
                }
                self.lifeline.let_go();
                self.wake();
            }
        }
    }

    /// Gives the claim back. Where the store is not reached, the lease runs out instead.
    async fn release(&self, fence: Fence) {
        match self.config.store.release(self.record, fence).await {
            Ok(_) => trace::released(self.record),
            Err(error) => trace::store_failed(self.record, "release", &error),
        }
        self.lifeline.let_go();
        self.wake();
    }

    fn wake(&self) {
        if !self.config.wait.is_zero() {
            self.config.waiters.wake(self.record);
        }
    }

    fn context(&self, run: Run) -> Idempotency {
        Idempotency::new(self.key.clone(), self.record, run, self.config.store.clone())
    }

    /// The stored response, with the body's bytes shared with the record.
    fn replay<R: Replayable>(&self, stored: &StoredResponse) -> Response<R> {
        let parts = match stored.decode() {
            Ok(parts) => parts,
            Err(error) => {
                trace::store_failed(self.record, "decode", &error);
                return self.reject(RejectionKind::Tombstone(Tombstone::Unreplayable));
            }
        };
        trace::replayed(self.record);
        let mut response = Response::new(R::from_replay(ReplayBody::read(parts.body, parts.trailers)));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        self.config.contract.mark_answer(response.headers_mut(), Some(&self.key), true);
        response
    }

    fn mark<R>(&self, mut response: Response<R>) -> Response<R> {
        self.config.contract.mark_answer(response.headers_mut(), Some(&self.key), false);
        response
    }

    fn reject<R: Replayable>(&self, kind: RejectionKind) -> Response<R> {
        reject(&self.config, kind, Some(&self.key))
    }
}

fn reject<St, R: Replayable>(config: &Config<St>, kind: RejectionKind, key: Option<&Key>) -> Response<R> {
    let mut rejection = config.contract.reject(kind);
    if let RejectionKind::InProgress | RejectionKind::StoreUnavailable | RejectionKind::NotRecorded = kind {
        rejection = rejection.retry_after(RETRY_SOON);
    }
    trace::rejected(&rejection);
    config.contract.answer(rejection, key).map(body_of)
}

fn body_of<R: Replayable>(bytes: Bytes) -> R {
    R::from_replay(ReplayBody::read(bytes, None))
}

fn head_of<B>(request: &Request<B>) -> http::request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts.extensions = request.extensions().clone();
    parts
}

/// A future whose panics are values, so that the claim can be given up before they go on.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
