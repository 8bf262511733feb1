//! The request path: key, scope, claim, run, capture, complete, answer; or replay, or reject.
//!
//! A comment at each await says what happens if the request is dropped there. A request is dropped
//! when its client disconnects. After the claim, the future moves to the runtime instead
//! (`future.rs`), so from there on only a killed process can interrupt it. The steps between claim
//! and answer are in `engine/claimed.rs`.

mod admission;
mod call;
mod callee;
mod capture;
mod claimed;
mod context;
mod ended;
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
use http::request::Parts;
use http::{Request, Response};
use tower_service::Service;

use self::admission::{Asked, Granted, NotAsked};
use self::call::{is_call, judge_call};
use self::callee::Callee;
use self::claimed::ClaimedRun;
use self::ended::Ended;
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
use crate::scope::Scope;
use crate::store::{Claim, RecordId, RequestTransaction, Run, Store, Tombstone};
use crate::trace;

/// The `Retry-After` of a request whose key is in progress.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// What to do with a request, decided from its head.
pub(crate) enum Admission<St, B, R> {
    /// The layer does not process the request.
    Bypass(Request<B>),
    /// The request has no key, but its handler may write to the store's database.
    WithoutKey(Request<B>),
    Reject(Response<R>),
    Engage(Arc<Engine<St>>, Request<B>),
}

/// Decides from the head of a request what to do with it. A bypass awaits and allocates nothing.
pub(crate) fn admit<St, B, R: Replayable>(
    config: &Arc<Config<St>>,
    mut request: Request<B>,
) -> Admission<St, B, R> {
    let contract = &config.contract;
    // An outer layer has claimed this request already. A second claim would find that one in
    // flight.
    if !contract.concerns(request.method()) || request.extensions().get::<Idempotency>().is_some() {
        return Admission::Bypass(request);
    }
    if let Some(when) = &config.when {
        let (parts, body) = request.into_parts();
        let is_processed = when(&parts);
        request = Request::from_parts(parts, body);
        if !is_processed {
            return Admission::Bypass(request);
        }
    }
    // Looked up once, after `when`, because a bypass must not copy the key.
    let key = match contract.key.parse(request.headers(), &contract.header) {
        Ok(Some(key)) => key,
        Ok(None) if contract.required => {
            return Admission::Reject(reject(config, RejectionKind::KeyMissing, None));
        }
        Ok(None) => return Admission::WithoutKey(request),
        Err(why) => return Admission::Reject(reject(config, RejectionKind::KeyInvalid(why), None)),
    };
    let (parts, body) = request.into_parts();
    let Some(scope) = scope_of(config, &parts) else {
        return Admission::Reject(reject(config, RejectionKind::ScopeMissing, Some(&key)));
    };
    let record = scope.record(&key);
    let engine = Engine {
        config: config.clone(),
        key,
        record,
        cancellation: CancellationState::default(),
        granted: OnceLock::new(),
    };
    Admission::Engage(Arc::new(engine), Request::from_parts(parts, body))
}

/// Returns what the key of a request is scoped by.
fn scope_of<St>(config: &Config<St>, parts: &Parts) -> Option<Scope> {
    let mut scope = (config.scope)(parts)?;
    if config.contract.bind == Bind::Endpoint {
        scope.push(parts.method.as_str().as_bytes());
        scope.push(original_uri(&parts.extensions, &parts.uri).path().as_bytes());
    }
    Some(scope)
}

/// Returns the record that a request with this head would claim, if any.
pub(crate) fn record_of<St>(config: &Config<St>, parts: &Parts) -> Option<RecordId> {
    let contract = &config.contract;
    let is_processed = contract.concerns(&parts.method)
        && parts.extensions.get::<Idempotency>().is_none()
        && config.when.as_ref().is_none_or(|when| when(parts));
    if !is_processed {
        return None;
    }
    let key = contract.key.parse(&parts.headers, &contract.header).ok()??;
    Some(scope_of(config, parts)?.record(&key))
}

/// Runs a request without a key whose handler may write to the store's database.
///
/// The rule is the same as for keyed requests: rows commit with a response that the contract would
/// store and that [`Builder::commits`](crate::Builder::commits) selects.
pub(crate) async fn run_without_key<St, R: Replayable, E>(
    config: Arc<Config<St>>,
    transaction: Option<Box<dyn RequestTransaction>>,
    unclaimed: Unclaimed,
    handler: impl Future<Output = Result<Response<R>, E>>,
) -> Result<Response<R>, E> {
    // Dropped, killed, or a panic: the transaction is dropped, which rolls it back.
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
    // Dropped or killed here: committed as a whole or not at all. Without a key there is no record
    // that tells which.
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

/// How a keyed request continues if the claim did not answer it.
enum NextStep<'a, St> {
    Leased(Lease<'a, St>),
    InTransaction(Box<TransactionalRun<'a, St>>),
    WithoutClaim(NoClaim),
}

/// A keyed request and its record. The request path, the response future and the handler's context
/// share it.
pub(crate) struct Engine<St> {
    config: Arc<Config<St>>,
    key: Key,
    record: RecordId,
    cancellation: CancellationState,
    /// The fingerprint of the request and the run that the store granted it. Set by the claim.
    granted: OnceLock<(Fingerprint, Run)>,
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

    /// Processes a keyed request, from reading its body to its response.
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
            // Dropped here while reading or waiting: this request holds no claim. Killed here while
            // claiming: at worst the claim becomes an orphan. The block ends the life of everything
            // about the claim. Whatever outlived it would take room in the future of every request.
            let next = {
                let mut asking = pin!(self.ask_for_claim(&mut request));
                let asked = poll_fn(|cx| {
                    let poll = asking.as_mut().poll(cx);
                    if poll.is_pending() {
                        // A slow upload, a slow store or a wait must not hold the readiness of the
                        // inner service, which other requests need.
                        inner.give_readiness_back();
                    }
                    poll
                });
                match asked.await {
                    Ok(Asked::Granted(granted)) => self.next_step(granted),
                    Ok(Asked::Answered(claim)) => return Ok(self.answer_without_running(&claim)),
                    Err(NotAsked::Streaming) => NextStep::WithoutClaim(NoClaim::NotConcerned),
                    Err(NotAsked::Failed(error)) if self.config.passes_through(&error) => {
                        NextStep::WithoutClaim(NoClaim::StoreFailed)
                    }
                    Err(NotAsked::Failed(_)) => return Ok(self.reject(RejectionKind::StoreUnavailable)),
                    Err(NotAsked::Rejected(kind, source)) => {
                        return Ok(reject_because(&self.config, kind, source, Some(&self.key)));
                    }
                }
            };
            let mut claimed = match next {
                NextStep::Leased(lease) => ClaimedRun { lease, transaction: None, upload: None },
                NextStep::InTransaction(claimed) => return Box::pin(claimed.engage(inner, request)).await,
                // Dropped or killed here: the same as for a request without a key.
                NextStep::WithoutClaim(why) => return Box::pin(self.pass(request, inner, why)).await,
            };
            // Killed here, or at any await before the completion: the claim becomes an orphan.
            let is_orphan = self.run().orphan;
            if is_orphan || !inner.is_ready() || self.cancellation.is_cancelled() {
                let orphan = || Orphan { idempotency: self.context(), request: head_of(&request) };
                claimed = match Box::pin(claimed.prepare(is_orphan.then(orphan), &mut inner)).await {
                    Ok(claimed) => claimed,
                    Err(answer) => return answer,
                };
            }
            claimed.upload = self.watch_upload(&mut request);
            request.extensions_mut().insert(self.context());
            claimed.transaction = St::offer_transaction(&self.config.store, request.extensions_mut());
            // The handler's future has its own box because its size is unknown, and a replay does
            // not need it. A panic in `call` is treated like a panic in the future.
            match catch_unwind(AssertUnwindSafe(move || Box::pin(inner.call(request)))) {
                Ok(handler) => claimed.run(handler).await,
                Err(panic) => Box::pin(claimed.settle(Ended::Panicked(panic))).await,
            }
        }
    }

    /// Returns the next step of a request whose claim was granted.
    fn next_step(self: &Arc<Self>, granted: Granted) -> NextStep<'_, St> {
        let Granted { asked_at, transaction } = granted;
        match transaction {
            None => NextStep::Leased(Lease { engine: self, fence: self.run().fence, held_since: asked_at }),
            Some(transaction) => {
                let claimed = TransactionalRun::new(self, self.context(), transaction, asked_at);
                NextStep::InTransaction(Box::new(claimed))
            }
        }
    }

    /// Returns the handler's view of the request.
    fn context(self: &Arc<Self>) -> Idempotency {
        Idempotency::new(self.clone())
    }

    fn granted(&self) -> &(Fingerprint, Run) {
        self.granted.get().expect("nothing of a run happens before the claim")
    }

    /// Returns the run that the request was granted.
    fn run(&self) -> &Run {
        &self.granted().1
    }

    /// Runs a keyed request in the same way as a request without a key.
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

    /// Waits until the service is ready. Returns `None` once it is.
    async fn wait_until_ready<S, Q, R>(&self, inner: &mut Callee<S>) -> Option<Ended<R, S::Error>>
    where
        S: Service<Q> + Clone,
    {
        match self.unless_cancelled(pin!(inner.wait_until_ready())).await {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Ended::NotReady(error)),
            None => Some(Ended::Cancelled),
        }
    }

    /// Drives a future to its end. Returns `None` if the request is cancelled first, because its
    /// client disconnected under [`OnDisconnect::Cancel`].
    fn unless_cancelled<F: Future + Unpin>(&self, mut future: F) -> impl Future<Output = Option<F::Output>> {
        let cancels = self.config.on_disconnect == OnDisconnect::Cancel;
        let mut cancelled = cancels.then(|| Box::pin(self.cancellation.cancelled()));
        poll_fn(move |cx| {
            if cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            Pin::new(&mut future).poll(cx).map(Some)
        })
    }

    /// Answers a request that does not run: the record is finished, or another request holds the
    /// claim.
    fn answer_without_running<R: Replayable>(&self, claim: &Claim) -> Response<R> {
        match claim {
            Claim::Replay { response, expires_in } => self.replay(response, *expires_in),
            Claim::Run(_) | Claim::InFlight { .. } => self.reject(RejectionKind::InProgress),
            Claim::Mismatch => self.reject(RejectionKind::KeyReused),
            Claim::Tombstone(tombstone) => self.reject(RejectionKind::Tombstone(*tombstone)),
        }
    }

    /// Returns the stored response. Its body shares the bytes of the record.
    fn replay<R: Replayable>(&self, stored: &StoredResponse, expires_in: Duration) -> Response<R> {
        let parts = match stored.decode() {
            Ok(parts) => parts,
            Err(error) => {
                trace::store_failed(self.record, "decode", &error);
                return self.reject(RejectionKind::Tombstone(Tombstone::Unreplayable));
            }
        };
        trace::replayed(self.record);
        let mut response =
            Response::new(R::from_replay(ReplayBody::read(parts.body, parts.trailers.map(Box::new))));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        self.config.contract.mark_answer(response.headers_mut(), Some(&self.key), true);
        let age = self.config.contract.ttl.checked_sub(expires_in);
        response.extensions_mut().insert(RequestOutcome::Replayed { age });
        response
    }

    /// Marks the response of a request that ran. A rejection that replaced it is marked already.
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
    use crate::store::MemoryStore;
    use crate::{IdempotencyLayer, Scope};

    /// The largest allocation that glibc serves from its per-thread cache.
    const CACHED_BYTES: usize = 1032;

    #[test]
    fn the_future_of_a_request_fits_the_cache_of_the_allocator() {
        let layer =
            IdempotencyLayer::builder(MemoryStore::default()).scope(|_| Some(Scope::of("me"))).build();
        let request = || Request::post("/").header("idempotency-key", "\"key\"").body(Body::empty()).unwrap();
        let Admission::Engage(engine, request) = admit::<_, _, Body>(&layer.config, request()) else {
            panic!("a request with a key");
        };
        let size = size_of_val(&engine.engage(request, Router::new()));
        assert!(size <= CACHED_BYTES, "{size} bytes");
    }
}
