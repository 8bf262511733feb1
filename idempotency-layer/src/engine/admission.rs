//! The steps before the run: read the request, ask the store for a claim, wait.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::{Engine, body_of, give_up};
use crate::body::{self, Read, ReplayBody, Replayable};
use crate::clock::{after, now};
use crate::config::{Config, InTransaction};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::{Fingerprint, FingerprintMode, fingerprint};
use crate::grpc::{self, Call, is_grpc};
use crate::original_uri::original_uri;
use crate::rejection::RejectionKind;
use crate::store::{Claim, ClaimRequest, ClaimToken, ClaimTransaction, Run, Store, TransactionClaim};
use crate::trace;

/// How often a waiting request asks the store, in case the claim's owner is in another process.
const POLL: Duration = Duration::from_millis(250);

/// The store's answer to a claim.
pub(super) enum Asked {
    /// The request runs.
    Granted(Granted),
    /// The request does not run. Never [`Claim::Run`].
    Answered(Claim),
}

/// The right to run.
pub(super) struct Granted {
    /// The moment before the store was asked. The lease and the time of a transaction are counted
    /// from it, because the moment at which the store began to count is unknown.
    pub(super) asked_at: Instant,
    /// The transaction that is the claim. `None` if the claim is leased.
    pub(super) transaction: Option<Box<dyn ClaimTransaction>>,
}

/// What identifies a request in its claims.
struct Claimant {
    fingerprint: Fingerprint,
    token: ClaimToken,
}

/// Why the store has not answered a request.
pub(super) enum NotAsked {
    /// The request is a streaming gRPC call.
    Streaming,
    /// The layer refuses it.
    Rejected(RejectionKind, Option<crate::error::BoxError>),
    /// The store failed.
    Failed(StoreError),
}

impl<St: Store> Engine<St> {
    /// Reads the request and asks the store for a claim. Waits for the owner of the claim if the
    /// layer is configured to wait.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it reads the body or waits, no claim is left. If it is
    /// dropped while it asks the store, a claim may be left. `CancellationState` says so, and the
    /// runtime drives the future to its end.
    pub(super) async fn ask_for_claim<B: Replayable>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Asked, NotAsked> {
        let fingerprint = self.read(request).await?;
        // Checked right before the claim, so that the number of handlers is bounded even if many
        // requests wait for their bodies. A request that claims in the transaction is rolled back
        // when its client disconnects, so it is not refused here.
        if self.config.in_transaction.is_none() && self.config.detached.len() >= self.config.max_detached {
            return Err(NotAsked::Rejected(RejectionKind::Overloaded, None));
        }
        // Another process may look up a claim in the transaction by its token.
        let token = match self.config.in_transaction {
            Some(_) => ClaimToken::new(),
            None => St::token(&self.config.store),
        };
        let claimant = Claimant { fingerprint, token };
        match self.ask(&claimant).await {
            Ok(Asked::Answered(claim @ Claim::InFlight { .. })) if !self.config.wait.is_zero() => {
                Box::pin(self.wait(&claimant, claim)).await
            }
            asked => asked,
        }
        .map_err(NotAsked::Failed)
    }

    /// Reads the request body if the fingerprint needs it, and replaces it by a body of the same
    /// bytes.
    async fn read<B: Replayable>(&self, request: &mut Request<B>) -> Result<Fingerprint, NotAsked> {
        let mode = self.config.contract.fingerprint;
        let limit = self.config.max_request_bytes;
        let read = if is_grpc(request.headers()) {
            match Box::pin(grpc::read(request.body_mut(), limit)).await {
                Call::Unary(read) => read,
                Call::Streaming(data) => {
                    let rest = mem::replace(request.body_mut(), body_of(Bytes::new()));
                    *request.body_mut() = B::from_replay(ReplayBody::resumed(data, rest));
                    return Err(NotAsked::Streaming);
                }
            }
        } else if mode == FingerprintMode::None {
            return Ok(Fingerprint::NONE);
        } else {
            body::read(request.body_mut(), limit).await
        };
        let (data, trailers) = match read {
            Read::Whole(data, trailers) => (data, trailers),
            Read::TooLarge(_) => {
                let kind = RejectionKind::BodyTooLarge { limit: Some(limit) };
                return Err(NotAsked::Rejected(kind, None));
            }
            Read::LimitedElsewhere(error) => {
                let kind = RejectionKind::BodyTooLarge { limit: None };
                return Err(NotAsked::Rejected(kind, Some(error)));
            }
            Read::Failed(error) => {
                return Err(NotAsked::Rejected(RejectionKind::BodyUnreadable, Some(error)));
            }
        };
        let fingerprint = fingerprint(
            mode,
            self.config.contract.bind,
            request.method(),
            original_uri(request.extensions(), request.uri()),
            request.headers(),
            &data,
        );
        *request.body_mut() = B::from_replay(ReplayBody::read(data, trailers));
        Ok(fingerprint)
    }

    /// Watches a request body that the handler reads. Returns a flag that is set if the body breaks
    /// off, or `None` if the body was read before the claim.
    pub(super) fn watch_upload<B: Replayable>(&self, request: &mut Request<B>) -> Option<Arc<AtomicBool>> {
        let is_read = self.config.contract.fingerprint != FingerprintMode::None || is_grpc(request.headers());
        if is_read || request.body().is_end_stream() {
            return None;
        }
        let broke_off = Arc::new(AtomicBool::new(false));
        let unread = mem::replace(request.body_mut(), body_of(Bytes::new()));
        *request.body_mut() = B::from_replay(ReplayBody::watched(unread, broke_off.clone()));
        Some(broke_off)
    }

    /// Keeps the run that the store granted. It happens once for each request.
    fn grant(&self, claimant: &Claimant, run: Run) {
        trace::claimed(self.record, &run);
        let _ = self.granted.set((claimant.fingerprint, run));
    }

    /// Makes the request for one call of the store. It is not kept, which would enlarge the future
    /// of the request.
    fn claim_request(&self, claimant: &Claimant) -> ClaimRequest {
        let Claimant { fingerprint, token } = *claimant;
        let (lease, ttl) = (self.config.lease, self.config.contract.ttl);
        ClaimRequest { record: self.record, fingerprint, token, lease, ttl }
    }

    /// Waits for the owner of a claim, for at most the configured time. Returns the last answer of
    /// the store if too many requests wait already, or if the client disconnects.
    async fn wait(&self, claimant: &Claimant, claim: Claim) -> Result<Asked, StoreError> {
        let Config { wait, waiters, max_waiters, .. } = &*self.config;
        // Join the queue first, then ask the store, so that no change between the two is missed.
        let Some(mut place) = waiters.join(self.record, *max_waiters) else {
            return Ok(Asked::Answered(claim));
        };
        trace::waiting(self.record, *wait);
        let until = after(now(), *wait);
        // Jitter, so that several processes that wait for one record do not ask at the same time.
        let poll = POLL + POLL * u32::from(claimant.token.as_bytes()[15]) / 1024;
        loop {
            let asked = self.ask(claimant).await?;
            let left = until.saturating_duration_since(now());
            let lease_left = match &asked {
                Asked::Answered(Claim::InFlight { lease_left }) => *lease_left,
                Asked::Answered(_) => {
                    place.tell_others();
                    return Ok(asked);
                }
                Asked::Granted(_) => return Ok(asked),
            };
            if left.is_zero() || self.cancellation.is_disconnected() {
                return Ok(asked);
            }
            // Whatever ends the wait, the loop asks the store again.
            place.next_look(lease_left.min(poll), left).await;
        }
    }

    async fn ask(&self, claimant: &Claimant) -> Result<Asked, StoreError> {
        let asked = match &self.config.in_transaction {
            None => self.ask_for_lease(claimant).await,
            Some(way) => Box::pin(self.ask_for_transaction(claimant, way)).await,
        };
        asked.inspect_err(|error| trace::store_failed(self.record, "claim", error))
    }

    /// Asks the store for a leased claim. If the answer is lost, asks once more with the same
    /// token, by which the store recognises its own claim. If the second answer is lost too, gives
    /// the claim back in the background.
    async fn ask_for_lease(&self, claimant: &Claimant) -> Result<Asked, StoreError> {
        let is_lost = |error: &StoreError| error.kind() == StoreErrorKind::Unavailable;
        self.cancellation.claim_begins();
        let mut asked_at = now();
        let mut answer = St::claim(&self.config.store, self.claim_request(claimant)).await;
        if let Err(error) = &answer
            && is_lost(error)
        {
            trace::store_failed(self.record, "claim", error);
            asked_at = now();
            answer = Box::pin(St::claim(&self.config.store, self.claim_request(claimant))).await;
        }
        if answer.as_ref().is_err_and(is_lost) {
            give_up::give_back(&self.config, self.claim_request(claimant));
        }
        if !matches!(answer, Ok(Claim::Run(_))) {
            self.cancellation.claim_ends();
        }
        Ok(match answer? {
            Claim::Run(run) => {
                self.grant(claimant, run);
                Asked::Granted(Granted { asked_at, transaction: None })
            }
            claim => Asked::Answered(claim),
        })
    }

    /// Asks the store for a claim in the transaction. If the future is dropped, the store closes
    /// the connection, which ends the claim.
    async fn ask_for_transaction(
        &self,
        claimant: &Claimant,
        way: &InTransaction<St>,
    ) -> Result<Asked, StoreError> {
        let asked_at = now();
        Ok(match (way.claim)(&self.config.store, self.claim_request(claimant), way.time).await? {
            TransactionClaim::Run(run, transaction) => {
                // From here on the request outlives its client: the run finishes, or is cancelled.
                self.cancellation.claim_begins();
                self.grant(claimant, run);
                Asked::Granted(Granted { asked_at, transaction: Some(transaction) })
            }
            TransactionClaim::Answered(claim) => Asked::Answered(claim),
        })
    }
}
