//! The way of a request: key, scope, claim, run, capture, complete, answer; or replay, or reject.
//!
//! Each await says what happens if the request is dropped there. "Dropped" is the client leaving: from the claim on
//! the future is not dropped then but moved onto the runtime (`future.rs`), so what is left is the process being killed.
//! What happens between claim and answer is in `engine/claimed.rs`.

mod capture;
mod claimed;
mod lease;
mod reconcile;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::timeout;
use tower_service::Service;

use self::claimed::{ClaimedRun, Ended};
use self::lease::Lease;
use crate::body::{self, Read, ReplayBody, Replayable};
use crate::cancellation::CancellationState;
use crate::clock::{after, now};
use crate::config::Config;
use crate::context::Idempotency;
use crate::contract::{Bind, Disposition};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::{Fingerprint, FingerprintMode, fingerprint};
use crate::handler_error::{NoClaim, Unclaimed};
use crate::key::Key;
use crate::original_uri::original_uri;
use crate::orphan::Orphan;
use crate::rejection::{Rejection, RejectionKind};
use crate::response::StoredResponse;
use crate::store::{Claim, ClaimRequest, RecordId, RequestTransaction, Store, Tombstone};
use crate::trace;

/// What a client is told to wait while another request with its key is carried out.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// How often a waiter looks, in case the owner is in another process.
const POLL: Duration = Duration::from_millis(250);

/// What to do with a request, decided from its head.
pub(crate) enum Admission<St, B, R> {
    Bypass(Request<B>, NoClaim),
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
    if !contract.concerns(request.method()) {
        return Admission::Bypass(request, NoClaim::NotConcerned);
    }
    if !(contract.required || request.headers().contains_key(&contract.header)) {
        return Admission::Bypass(request, NoClaim::NoKey);
    }
    let (parts, body) = request.into_parts();
    let elsewhere = config.when.as_ref().is_some_and(|when| !when(&parts));
    // A second layer further in would take the first one's claim for somebody else's.
    if elsewhere || parts.extensions.get::<Idempotency>().is_some() {
        return Admission::Bypass(Request::from_parts(parts, body), NoClaim::NotConcerned);
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
    let engine = Engine { config: config.clone(), key, record, cancellation: Arc::default() };
    Admission::Engage(engine, Request::from_parts(parts, body))
}

/// Offers the handler of a request without a key a transaction. `None` where the store shares no database with handlers,
/// or where a layer further out has offered one.
pub(crate) fn offer_transaction<St: Store, B>(
    config: &Config<St>,
    request: &mut Request<B>,
) -> Option<Box<dyn RequestTransaction>> {
    let is_keyed = request.extensions().get::<Idempotency>().is_some();
    if is_keyed { None } else { St::offer_transaction(&config.store, request.extensions_mut()) }
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
    let (parts, body) = response.into_parts();
    let is_stored = config.contract.stores.classify(&parts, &body) != Disposition::Release;
    if !is_stored || !(config.commits.takes(&parts) || transaction.keeps_on_error()) {
        transaction.roll_back().await;
        return Ok(Response::from_parts(parts, body));
    }
    // Dropped or killed here: committed whole or not at all; without a key, nobody can ask which.
    match transaction.commit().await {
        Ok(()) => Ok(Response::from_parts(parts, body)),
        Err(error) => {
            trace::not_committed(&error);
            let unknown = error.kind() == StoreErrorKind::Unavailable;
            let kind = if unknown { RejectionKind::CommitUnknown } else { RejectionKind::RolledBack };
            Ok(reject(&config, kind, None))
        }
    }
}

/// A request with a key, and its record.
pub(crate) struct Engine<St> {
    config: Arc<Config<St>>,
    key: Key,
    record: RecordId,
    cancellation: Arc<CancellationState>,
}

impl<St: Store> Engine<St> {
    pub(crate) fn cancellation(&self) -> Arc<CancellationState> {
        self.cancellation.clone()
    }

    /// The way of a request with a key.
    #[expect(clippy::manual_async_fn, reason = "an async fn would keep room for its arguments twice")]
    pub(crate) fn engage<S, B, R>(
        self,
        mut request: Request<B>,
        mut inner: S,
    ) -> impl Future<Output = Result<Response<R>, S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Replayable,
        R: Replayable,
    {
        async move {
            // Dropped here: nothing was asked of the store yet.
            let fingerprint = match self.read(&mut request).await {
                Ok(fingerprint) => fingerprint,
                Err(rejection) => return Ok(render(&self.config, rejection, Some(&self.key))),
            };
            // Dropped here, waiting: the owner's record was not touched. Killed here, claiming: an orphan at worst.
            let run = match self.claim(fingerprint).await {
                Ok(Claim::Run(run)) => run,
                Ok(Claim::Replay { response, .. }) => return Ok(self.replay(&response)),
                Ok(Claim::InFlight { .. }) => return Ok(self.reject(RejectionKind::InProgress)),
                Ok(Claim::Mismatch) => return Ok(self.reject(RejectionKind::KeyReused)),
                Ok(Claim::Tombstone(tombstone)) => {
                    return Ok(self.reject(RejectionKind::Tombstone(tombstone)));
                }
                Err(error) if self.config.passes_through(&error) => {
                    // Dropped or killed here: as without a key.
                    let transaction = St::offer_transaction(&self.config.store, request.extensions_mut());
                    let unclaimed = Unclaimed::new(&self.config, NoClaim::StoreFailed);
                    let handler = inner.call(request);
                    return run_without_key(self.config.clone(), transaction, unclaimed, handler).await;
                }
                Err(_) => return Ok(self.reject(RejectionKind::StoreUnavailable)),
            };
            trace::claimed(self.record, &run);
            let is_orphan = run.orphan;
            let lease = Lease { engine: &self, fence: run.fence };
            let idempotency =
                Idempotency::new(self.key.clone(), self.record, fingerprint, run, self.config.store.clone());
            // Killed here, or in any await from here to the completion: an orphan (again).
            let mut ended = None;
            if is_orphan {
                let orphan = Orphan { idempotency: idempotency.clone(), request: head_of(&request) };
                ended = Box::pin(lease.reconcile(orphan)).await;
            }
            if ended.is_none() && self.cancellation.is_cancelled() {
                ended = Some(Ended::Cancelled);
            }
            if let Some(ended) = ended {
                return Box::pin(
                    ClaimedRun { engine: &self, lease, transaction: None, upload: None }.settle(ended),
                )
                .await;
            }
            request.extensions_mut().insert(idempotency);
            let transaction = St::offer_transaction(&self.config.store, request.extensions_mut());
            let upload = self.watch_upload(&mut request);
            let claimed = ClaimedRun { engine: &self, lease, transaction, upload };
            // Boxed apart, so that a replay, which never comes here, does not carry the room for it. A service may panic
            // before it has made its future, too.
            match catch_unwind(AssertUnwindSafe(|| Box::pin(inner.call(request)))) {
                Ok(handler) => Box::pin(claimed.run(handler)).await,
                Err(panic) => Box::pin(claimed.settle(Ended::Panicked(panic))).await,
            }
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
            Read::TooLarge(_) => {
                return Err(contract.reject(RejectionKind::BodyTooLarge { limit: Some(limit) }));
            }
            Read::LimitedElsewhere(error) => {
                return Err(contract.reject(RejectionKind::BodyTooLarge { limit: None }).because(error));
            }
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

    /// Watches the body of a request that the handler reads while it comes. Returns whether it broke off; `None`: there is
    /// nothing to watch, since the body was read to its end before the claim.
    fn watch_upload<B: Replayable>(&self, request: &mut Request<B>) -> Option<Arc<AtomicBool>> {
        if self.config.contract.fingerprint != FingerprintMode::None || request.body().is_end_stream() {
            return None;
        }
        let broke_off = Arc::new(AtomicBool::new(false));
        let unread = mem::replace(request.body_mut(), body_of(Bytes::new()));
        *request.body_mut() = B::from_replay(ReplayBody::watched(unread, broke_off.clone()));
        Some(broke_off)
    }

    /// Asks for the claim and, where the layer waits, waits for its owner.
    async fn claim(&self, fingerprint: Fingerprint) -> Result<Claim, StoreError> {
        let Config { contract, lease, wait, .. } = &*self.config;
        let request = ClaimRequest {
            record: self.record,
            fingerprint,
            token: St::token(&self.config.store),
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
        self.cancellation.claim_begins();
        let mut answer = St::claim(&self.config.store, *request).await;
        if let Err(error) = &answer
            && error.kind() == StoreErrorKind::Unavailable
        {
            trace::store_failed(self.record, "claim", error);
            answer = Box::pin(St::claim(&self.config.store, *request)).await;
        }
        if !matches!(answer, Ok(Claim::Run(_))) {
            self.cancellation.claim_ends();
        }
        answer.inspect_err(|error| trace::store_failed(self.record, "claim", error))
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
    if let RejectionKind::InProgress
    | RejectionKind::StoreUnavailable
    | RejectionKind::NotRecorded
    | RejectionKind::RolledBack = kind
    {
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
