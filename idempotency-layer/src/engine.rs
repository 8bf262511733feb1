//! The way of a request: key, scope, claim, run, capture, complete, answer; or replay, or reject.
//!
//! Each await says what happens if the request is dropped there. "Dropped" is the client leaving: from the claim on
//! the future is not dropped then but moved onto the runtime (`future.rs`), so what is left is the process being killed.
//! What happens between claim and answer is in `engine/claimed.rs`.

mod admission;
mod call;
mod callee;
mod capture;
mod claimed;
mod context;
mod give_up;
mod lease;
mod reconcile;
mod transactional;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use self::admission::{Asked, Granted, NotAsked};
use self::call::{is_call, judge_call};
use self::callee::Callee;
use self::claimed::{ClaimedRun, Ended};
use self::lease::Lease;
use self::transactional::TransactionalRun;
use crate::body::{ReplayBody, Replayable};
use crate::cancellation::CancellationState;
use crate::config::{Config, OnDisconnect};
use crate::context::Idempotency;
use crate::contract::Disposition;
use crate::error::{BoxError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::handler_error::{NoClaim, Unclaimed};
use crate::key::{Bind, Key};
use crate::original_uri::original_uri;
use crate::orphan::Orphan;
use crate::rejection::RejectionKind;
use crate::request_outcome::RequestOutcome;
use crate::response::StoredResponse;
use crate::store::{Claim, ClaimToken, RecordId, RequestTransaction, Run, Store, Tombstone};
use crate::trace;

/// The `Retry-After` of a request whose key is in progress.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// What to do with a request, decided from its head.
pub(crate) enum Admission<St, B, R> {
    /// The layer does not look at it.
    Bypass(Request<B>),
    /// It has no key, but its handler may share the store's database.
    WithoutKey(Request<B>),
    Reject(Response<R>),
    Engage(Arc<Engine<St>>, Request<B>),
}

/// Decides from the head of a request whether the layer has any business with it. Nothing is awaited or allocated on
/// the way to a bypass.
pub(crate) fn admit<St, B, R: Replayable>(
    config: &Arc<Config<St>>,
    request: Request<B>,
) -> Admission<St, B, R> {
    let contract = &config.contract;
    // A second layer further in would take the first one's claim for somebody else's.
    if !contract.concerns(request.method()) || request.extensions().get::<Idempotency>().is_some() {
        return Admission::Bypass(request);
    }
    let is_keyed = contract.required || request.headers().contains_key(&contract.header);
    if !is_keyed && config.when.is_none() {
        return Admission::WithoutKey(request);
    }
    let (parts, body) = request.into_parts();
    if config.when.as_ref().is_some_and(|when| !when(&parts)) {
        return Admission::Bypass(Request::from_parts(parts, body));
    }
    if !is_keyed {
        return Admission::WithoutKey(Request::from_parts(parts, body));
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
    let engine = Engine {
        config: config.clone(),
        key,
        record,
        cancellation: CancellationState::default(),
        claimant: OnceLock::new(),
        run: OnceLock::new(),
    };
    Admission::Engage(Arc::new(engine), Request::from_parts(parts, body))
}

/// Runs a request without a key whose handler may write through the store's database. The rule is that of keyed
/// requests: rows are committed with a response that would be stored and that [`Builder::commits`](crate::Builder)
/// takes.
pub(crate) async fn run_without_key<St, R: Replayable, E>(
    config: Arc<Config<St>>,
    transaction: Option<Box<dyn RequestTransaction>>,
    unclaimed: Unclaimed,
    handler: impl Future<Output = Result<Response<R>, E>>,
) -> Result<Response<R>, E> {
    // Dropped or killed here, or in a panic: the transaction is dropped, which rolls it back.
    let response = unclaimed.answer(handler.await?);
    let Some(transaction) = transaction.filter(|transaction| transaction.is_begun()) else {
        return Ok(response);
    };
    // Dropped or killed here: rolled back.
    let (response, is_stored, commits) = if is_call(&response) {
        let Ok(call) = Box::pin(judge_call(&config, response)).await else {
            let _ = transaction.roll_back().await;
            return Ok(reject(&config, RejectionKind::ResponseUnreadable, None));
        };
        (call.response, call.disposition != Disposition::Release, call.commits)
    } else {
        let (parts, body) = response.into_parts();
        let is_stored = config.contract.stores.classify(&parts, &body) != Disposition::Release;
        let commits = config.commits.takes(&parts);
        (Response::from_parts(parts, body), is_stored, commits)
    };
    if !is_stored || !(commits || transaction.keeps_on_error()) {
        return Ok(match transaction.roll_back().await {
            Ok(()) => response,
            Err(error) => {
                trace::not_committed(&error);
                reject(&config, RejectionKind::RolledBack, None)
            }
        });
    }
    // Dropped or killed here: committed whole or not at all; without a key, nobody can ask which.
    match transaction.commit().await {
        Ok(()) => Ok(response),
        Err(error) => {
            trace::not_committed(&error);
            let unknown = error.kind() == StoreErrorKind::Unavailable;
            let kind = if unknown { RejectionKind::CommitUnknown } else { RejectionKind::RolledBack };
            Ok(reject(&config, kind, None))
        }
    }
}

/// How a keyed request goes on that was not answered.
enum Way<'a, St> {
    Leased(ClaimedRun<'a, St>, Idempotency),
    InTransaction(Box<TransactionalRun<'a, St>>),
    WithoutClaim(NoClaim),
}

/// A request with a key, and its record: what the way of the request, the future of its response and the context of its
/// handler share.
pub(crate) struct Engine<St> {
    config: Arc<Config<St>>,
    key: Key,
    record: RecordId,
    cancellation: CancellationState,
    /// Set before the claim.
    claimant: OnceLock<Claimant>,
    /// Set by the claim.
    run: OnceLock<Run>,
}

/// What a request asks for its claim with.
struct Claimant {
    fingerprint: Fingerprint,
    token: ClaimToken,
}

impl<St: Store> Engine<St> {
    pub(crate) fn config(&self) -> &Config<St> {
        &self.config
    }

    pub(crate) fn cancellation(&self) -> &CancellationState {
        &self.cancellation
    }

    /// Lets requests that wait for this record ask the store again.
    pub(crate) fn wake_waiters(&self) {
        self.config.wake_waiters(self.record);
    }

    /// The way of a request with a key.
    #[expect(clippy::manual_async_fn, reason = "an async fn would keep room for its arguments twice")]
    pub(crate) fn engage<S, B, R>(
        self: Arc<Self>,
        mut request: Request<B>,
        inner: S,
    ) -> impl Future<Output = Result<Response<R>, S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Replayable,
        R: Replayable,
    {
        async move {
            let mut inner = Callee::ready(inner);
            // Dropped here, reading or waiting: nothing was asked of the store, or another's record was not touched. Killed
            // here, claiming: an orphan at worst.
            // What is asked and answered ends with this block: what outlives it, each request carries to its end.
            let way = {
                let mut asking = pin!(self.ask_for_claim(&mut request));
                let asked = poll_fn(|cx| {
                    let poll = asking.as_mut().poll(cx);
                    if poll.is_pending() {
                        // A slow upload, a slow store and a waiter keep nobody else from being served.
                        inner.give_readiness_back();
                    }
                    poll
                });
                match asked.await {
                    Ok(Asked::Granted(granted)) => self.way_of(granted),
                    Ok(Asked::Answered(claim)) => return Ok(self.answer_without_running(&claim)),
                    Err(NotAsked::Streaming) => Way::WithoutClaim(NoClaim::NotConcerned),
                    Err(NotAsked::Failed(error)) if self.config.passes_through(&error) => {
                        Way::WithoutClaim(NoClaim::StoreFailed)
                    }
                    Err(NotAsked::Failed(_)) => return Ok(self.reject(RejectionKind::StoreUnavailable)),
                    Err(NotAsked::Rejected(kind, source)) => {
                        return Ok(reject_because(&self.config, kind, source, Some(&self.key)));
                    }
                }
            };
            let (mut claimed, idempotency) = match way {
                Way::Leased(claimed, idempotency) => (claimed, idempotency),
                Way::InTransaction(claimed) => return Box::pin(claimed.engage(inner, request)).await,
                // Dropped or killed here: as without a key.
                Way::WithoutClaim(why) => return Box::pin(self.pass(request, inner, why)).await,
            };
            // Killed here, or in any await from here to the completion: an orphan (again).
            let is_orphan = self.run().orphan;
            if is_orphan || !inner.is_ready() || self.cancellation.is_cancelled() {
                let orphan = || Orphan { idempotency: idempotency.clone(), request: head_of(&request) };
                claimed = match Box::pin(claimed.prepare(is_orphan.then(orphan), &mut inner)).await {
                    Ok(claimed) => claimed,
                    Err(answer) => return answer,
                };
            }
            claimed.upload = self.watch_upload(&mut request);
            request.extensions_mut().insert(idempotency);
            claimed.transaction = St::offer_transaction(&self.config.store, request.extensions_mut());
            // Boxed apart, so that a replay, which never comes here, does not carry the room for it. A service that panics
            // before it has made its future ends like one that does after.
            match catch_unwind(AssertUnwindSafe(move || Box::pin(inner.call(request)))) {
                Ok(handler) => Box::pin(claimed.run(handler)).await,
                Err(panic) => Box::pin(claimed.settle(Ended::Panicked(panic))).await,
            }
        }
    }

    /// Decides how a request goes on that may run.
    fn way_of(self: &Arc<Self>, granted: Granted) -> Way<'_, St> {
        let Granted { run, asked_at, transaction } = granted;
        trace::claimed(self.record, &run);
        let fence = run.fence;
        // A request is granted one run.
        let _ = self.run.set(run);
        let idempotency = Idempotency::new(self.clone());
        if let Some(transaction) = transaction {
            let claimed = TransactionalRun::new(self, idempotency, transaction, asked_at);
            return Way::InTransaction(Box::new(claimed));
        }
        let lease = Lease { engine: self, fence, held_since: asked_at };
        Way::Leased(ClaimedRun { engine: self, lease, transaction: None, upload: None }, idempotency)
    }

    /// Returns the run that the request was granted.
    fn run(&self) -> &Run {
        self.run.get().expect("nothing of a run happens before the claim")
    }

    /// Runs a keyed request as if it had no key.
    async fn pass<S, B, R>(
        &self,
        mut request: Request<B>,
        mut inner: Callee<S>,
        why: NoClaim,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        R: Replayable,
    {
        inner.wait_until_ready().await?;
        let transaction = St::offer_transaction(&self.config.store, request.extensions_mut());
        let unclaimed = Unclaimed::new(&self.config, why);
        run_without_key(self.config.clone(), transaction, unclaimed, inner.call(request)).await
    }

    /// Drives a future until it is ready, or until the client disconnects and the layer cancels then: `None`.
    async fn unless_cancelled<F: Future + Unpin>(&self, mut future: F) -> Option<F::Output> {
        let cancels = self.config.on_disconnect == OnDisconnect::Cancel;
        let mut cancelled = cancels.then(|| Box::pin(self.cancellation.cancelled()));
        poll_fn(|cx| {
            if cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            Pin::new(&mut future).poll(cx).map(Some)
        })
        .await
    }

    /// Answers a request whose claim is somebody else's, or is over.
    fn answer_without_running<R: Replayable>(&self, claim: &Claim) -> Response<R> {
        match claim {
            Claim::Replay { response, expires_in } => self.replay(response, *expires_in),
            Claim::Run(_) | Claim::InFlight { .. } => self.reject(RejectionKind::InProgress),
            Claim::Mismatch => self.reject(RejectionKind::KeyReused),
            Claim::Tombstone(tombstone) => self.reject(RejectionKind::Tombstone(*tombstone)),
        }
    }

    /// The stored response, with the body's bytes shared with the record.
    fn replay<R: Replayable>(&self, stored: &StoredResponse, expires_in: Duration) -> Response<R> {
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
        let age = self.config.contract.ttl.checked_sub(expires_in);
        response.extensions_mut().insert(RequestOutcome::Replayed { age });
        response
    }

    /// Marks the response of a request that ran. A rejection in its place says so already.
    fn mark<R>(&self, mut response: Response<R>) -> Response<R> {
        if response.extensions().get::<RequestOutcome>().is_none() {
            let Run { attempt, orphan, .. } = *self.run();
            response.extensions_mut().insert(RequestOutcome::Ran { attempt, orphan });
        }
        self.config.contract.mark_answer(response.headers_mut(), Some(&self.key), false);
        response
    }

    fn reject<R: Replayable>(&self, kind: RejectionKind) -> Response<R> {
        reject(&self.config, kind, Some(&self.key))
    }
}

fn reject<St, R: Replayable>(config: &Config<St>, kind: RejectionKind, key: Option<&Key>) -> Response<R> {
    reject_because(config, kind, None, key)
}

fn reject_because<St, R: Replayable>(
    config: &Config<St>,
    kind: RejectionKind,
    source: Option<BoxError>,
    key: Option<&Key>,
) -> Response<R> {
    let mut rejection = config.contract.reject(kind);
    if let Some(source) = source {
        rejection = rejection.because(source);
    }
    if let RejectionKind::InProgress
    | RejectionKind::Overloaded
    | RejectionKind::StoreUnavailable
    | RejectionKind::NotRecorded
    | RejectionKind::RolledBack = kind
    {
        rejection = rejection.retry_after(RETRY_SOON);
    }
    trace::rejected(&rejection);
    let mut response = config.contract.answer(rejection, key).map(body_of);
    response.extensions_mut().insert(RequestOutcome::Rejected(kind));
    response
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

#[cfg(all(test, feature = "axum", feature = "memory"))]
mod tests {
    use axum::Router;
    use axum::body::Body;

    use super::*;
    use crate::clock::now;
    use crate::store::{Fence, MemoryStore};
    use crate::{IdempotencyLayer, Scope};

    /// The most that glibc serves from a thread's cache. More takes the slow way.
    const CACHED_BYTES: usize = 1032;

    #[test]
    fn the_futures_of_a_request_fit_the_cache_of_the_allocator() {
        let layer =
            IdempotencyLayer::builder(MemoryStore::default()).scope(|_| Some(Scope::of("me"))).build();
        let request = || Request::post("/").header("idempotency-key", "\"key\"").body(Body::empty()).unwrap();
        let Admission::Engage(engine, request) = admit::<_, _, Body>(&layer.config, request()) else {
            panic!("a request with a key");
        };
        let granted = Granted { run: Run::new(Fence(1), 1), asked_at: now(), transaction: None };
        let Way::Leased(claimed, _) = engine.way_of(granted) else { panic!("a claim with a lease") };
        let mut service = Router::new();
        let handler = Box::pin(Service::<Request<Body>>::call(&mut service, Request::default()));
        let run = size_of_val(&claimed.run(handler));
        let engaged = size_of_val(&engine.clone().engage(request, service));
        assert!(
            engaged <= CACHED_BYTES && run <= CACHED_BYTES,
            "{engaged} before the run, {run} for the run"
        );
    }
}
