//! The way of a request: key, scope, claim, run, capture, complete, answer; or replay, or reject.
//!
//! Each await says what happens if the request is dropped there. "Dropped" is the client leaving: from the claim on
//! the future is not dropped then but moved onto the runtime (`future.rs`), so what is left is the process dying.

use std::any::Any;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
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
use crate::rejection::{Rejection, RejectionKind};
use crate::response::StoredResponse;
use crate::store::{Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, RecordId, Store, Tombstone};
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
        scope = scope.and(parts.method.as_str()).and(original_uri(&parts.extensions, &parts.uri).path());
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

type Panic = Box<dyn Any + Send>;

/// How a run ended.
enum Ended<R, E> {
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
    pub(crate) fn lifeline(&self) -> Arc<Lifeline> {
        self.lifeline.clone()
    }

    /// The way of a request with a key.
    pub(crate) async fn engage<S, B, R>(
        self,
        mut request: Request<B>,
        mut inner: S,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Replayable,
        R: Replayable,
    {
        // Dropped here: nothing was asked of the store yet.
        let fingerprint = match self.read(&mut request).await {
            Ok(fingerprint) => fingerprint,
            Err(rejection) => return Ok(render(&self.config, rejection, Some(&self.key))),
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
        let idempotency = Idempotency::new(self.key.clone(), self.record, run, self.config.store.clone());
        // Died here, or in any await from here to the completion: an orphan (again).
        if orphan {
            let orphan = Orphan { idempotency: idempotency.clone(), request: head_of(&request) };
            if let Some(ended) = Box::pin(self.reconcile(fence, orphan)).await {
                return Box::pin(self.settle(fence, ended)).await;
            }
        }
        request.extensions_mut().insert(idempotency);
        // Boxed apart, so that a replay, which never comes here, does not carry the room for it. A service may panic
        // before it has made its future, too.
        match catch_unwind(AssertUnwindSafe(|| Box::pin(inner.call(request)))) {
            Ok(handler) => Box::pin(self.run(fence, handler)).await,
            Err(panic) => Box::pin(self.settle(fence, Ended::Panicked(panic))).await,
        }
    }

    /// Reads the request as far as its fingerprint needs it, and puts a body of the same bytes in its place.
    async fn read<B: Replayable>(&self, request: &mut Request<B>) -> Result<Fingerprint, Rejection> {
        let contract = &self.config.contract;
        let mode = contract.fingerprint;
        if mode == FingerprintMode::None {
            return Ok(Fingerprint::NONE);
        }
        let limit = self.config.max_request_bytes;
        let (data, trailers) = match body::read(request.body_mut(), limit).await {
            Read::Whole(data, trailers) => (data, trailers),
            Read::TooLarge(_) => return Err(contract.reject(RejectionKind::BodyTooLarge { limit })),
            Read::Failed(error) => return Err(contract.reject(RejectionKind::BodyUnreadable).because(error)),
        };
        let fingerprint = fingerprint(
            mode,
            request.method(),
            original_uri(request.extensions(), request.uri()),
            request.headers(),
            &data,
        );
        *request.body_mut() = B::from_replay(ReplayBody::read(data, trailers));
        Ok(fingerprint)
    }

    /// Asks for the claim and, where the layer waits, waits for its owner.
    async fn claim(&self, fingerprint: Fingerprint) -> Result<Claim, StoreError> {
        let Config { contract, lease, wait, .. } = &*self.config;
        let request = ClaimRequest {
            record: self.record,
            fingerprint,
            token: ClaimToken::new(),
            lease: *lease,
            ttl: contract.ttl,
        };
        match self.ask(&request).await? {
            Claim::InFlight { .. } if !wait.is_zero() => Box::pin(self.wait(&request)).await,
            claim => Ok(claim),
        }
    }

    /// Waits for the owner of a claim, up to the layer's bound.
    async fn wait(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        let Config { wait, waiters, .. } = &*self.config;
        trace::waiting(self.record, *wait);
        let until = after(now(), *wait);
        // The store is asked after the place is taken: what happens between the two is not missed.
        let mut place = waiters.join(self.record);
        loop {
            let claim = self.ask(request).await?;
            let left = until.saturating_duration_since(now());
            let Claim::InFlight { lease_left } = claim else { return Ok(claim) };
            if left.is_zero() {
                return Ok(claim);
            }
            // Whatever ends this, the store is asked what became of the record.
            let _ = timeout(left.min(lease_left).min(POLL), place.changed()).await;
        }
    }

    /// One claim. When its answer is lost it is asked again, with the same token: the store knows its own answer.
    async fn ask(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        self.lifeline.hold();
        let mut answer = self.config.store.claim(*request).await;
        if let Err(error) = &answer
            && error.kind() == StoreErrorKind::Unavailable
        {
            trace::store_failed(self.record, "claim", error);
            answer = Box::pin(self.config.store.claim(*request)).await;
        }
        if !matches!(answer, Ok(Claim::Run(_))) {
            self.lifeline.let_go();
        }
        answer.inspect_err(|error| trace::store_failed(self.record, "claim", error))
    }

    /// Carries the request out and reads the response as far as it is stored.
    async fn run<F, R, E>(&self, fence: Fence, mut handler: Pin<Box<F>>) -> Result<Response<R>, E>
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
        self.settle(fence, ended).await
    }

    /// Records how the run ended, then answers. What is not recorded is not answered.
    async fn settle<R: Replayable, E>(&self, fence: Fence, ended: Ended<R, E>) -> Result<Response<R>, E> {
        match ended {
            Ended::Answered(response, Some(outcome)) => {
                // Died here: recorded or not, the answer was not given; the retry finds it, or an orphan.
                let recorded = self.complete(fence, outcome).await;
                Ok(self.answer(&recorded, response))
            }
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

    /// Reads what is to be stored of a response.
    async fn capture<R: Replayable, E>(&self, response: Response<R>) -> Ended<R, E> {
        const NOT_REPLAYED: Option<Outcome> = Some(Outcome::Tombstone(Tombstone::Unreplayable));
        let (parts, body) = response.into_parts();
        let disposition = self.config.contract.stores.classify(&parts);
        let mut response = Response::from_parts(parts, body);
        match disposition {
            Disposition::Release => return Ended::Answered(response, None),
            Disposition::Tombstone => return Ended::Answered(response, NOT_REPLAYED),
            Disposition::Store => {}
        }
        match body::read(response.body_mut(), self.config.max_response_bytes).await {
            Read::Whole(data, trailers) => {
                let outcome = self.stored(&response, &data, trailers.as_ref());
                *response.body_mut() = R::from_replay(ReplayBody::read(data, trailers));
                Ended::Answered(response, Some(outcome))
            }
            Read::TooLarge(data) => {
                trace::not_stored(self.record, "longer than max_response_bytes");
                let whole = response.map(|rest| R::from_replay(ReplayBody::resumed(data, rest)));
                Ended::Answered(whole, NOT_REPLAYED)
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
        match self.under_lease(fence, pin!(async { reconcile.find_out(orphan).await })).await {
            Ok(Reconciled::Rerun) => None,
            Ok(Reconciled::Halt) => halted(),
            Ok(Reconciled::Response(response)) => Some(self.capture(response.map(body_of)).await),
            Err(panic) => Some(Ended::Panicked(panic)),
        }
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

    /// Writes the outcome. A lost answer is asked for again with the same fence; a response that the store has no room
    /// for leaves a tombstone, so that at least it does not run again.
    async fn complete(&self, fence: Fence, mut outcome: Outcome) -> Result<Fenced, StoreError> {
        let mut pauses = COMPLETION_PAUSES.iter();
        let completion = async {
            loop {
                let error = match self.config.store.complete(self.record, fence, outcome.clone()).await {
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
                if let Err(error) = self.config.store.extend(self.record, fence, Duration::ZERO).await {
                    trace::store_failed(self.record, "extend", &error);
                }
                self.done();
            }
        }
    }

    /// Gives the claim back. Where the store is not reached, the lease runs out instead.
    async fn release(&self, fence: Fence) {
        match self.config.store.release(self.record, fence).await {
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
    render(config, rejection, key)
}

fn render<St, R: Replayable>(config: &Config<St>, rejection: Rejection, key: Option<&Key>) -> Response<R> {
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
