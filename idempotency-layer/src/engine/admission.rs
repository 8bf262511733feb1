//! From the request to the claim: read, ask the store, wait.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::{Claimant, Engine, body_of, give_up};
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

/// How often a waiter looks, in case the owner is in another process.
const POLL: Duration = Duration::from_millis(250);

/// The store's answer to a claim.
pub(super) enum Asked {
    /// The request runs.
    Granted(Granted),
    /// It does not. Never [`Claim::Run`].
    Answered(Claim),
}

/// The right to run.
pub(super) struct Granted {
    pub(super) run: Run,
    /// When the store was asked. A lease, and the time of a transaction, is counted from here: when the store counted it is
    /// not known.
    pub(super) asked_at: Instant,
    /// The transaction that is the claim; `None`: the claim is leased.
    pub(super) transaction: Option<Box<dyn ClaimTransaction>>,
}

/// Why a request has no answer from the store.
pub(super) enum NotAsked {
    /// It is a streaming call of gRPC.
    Streaming,
    /// The layer refuses it.
    Rejected(RejectionKind, Option<crate::error::BoxError>),
    /// The store failed.
    Failed(StoreError),
}

impl<St: Store> Engine<St> {
    /// Reads the request and asks for its claim. Where the layer waits, waits for the owner.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body is read or while it waits, nothing is left. Dropped while the store is asked, a claim may be
    /// left: `CancellationState` says so, and the future is driven on.
    pub(super) async fn ask_for_claim<B: Replayable>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Asked, NotAsked> {
        let fingerprint = self.read(request).await?;
        // Looked at right before the claim, so that handlers are bounded however many requests wait for their bodies. One
        // whose transaction is its claim is dropped with its client then, and does not count.
        if self.config.in_transaction.is_none() && self.config.detached.len() >= self.config.max_detached {
            return Err(NotAsked::Rejected(RejectionKind::Overloaded, None));
        }
        // A claim in the transaction is looked up by its token, perhaps by another process.
        let token = match self.config.in_transaction {
            Some(_) => ClaimToken::new(),
            None => St::token(&self.config.store),
        };
        // A request asks for one claim.
        let _ = self.claimant.set(Claimant { fingerprint, token });
        self.claim().await.map_err(NotAsked::Failed)
    }

    /// Reads the request as far as its fingerprint needs it, and puts a body of the same bytes in its place.
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

    /// Watches the body of a request that the handler reads while it comes. Returns whether it broke off; `None`: there is
    /// nothing to watch, since the body was read to its end before the claim.
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

    async fn claim(&self) -> Result<Asked, StoreError> {
        let asked = self.ask().await?;
        match asked {
            Asked::Answered(Claim::InFlight { .. }) if !self.config.wait.is_zero() => {
                Box::pin(self.wait(asked)).await
            }
            _ => Ok(asked),
        }
    }

    pub(super) fn claimant(&self) -> &Claimant {
        self.claimant.get().expect("the request is read before its claim")
    }

    /// Made anew for each call, so that the future of a request does not carry it.
    fn claim_request(&self) -> ClaimRequest {
        let Claimant { fingerprint, token } = *self.claimant();
        let (lease, ttl) = (self.config.lease, self.config.contract.ttl);
        ClaimRequest { record: self.record, fingerprint, token, lease, ttl }
    }

    /// Waits for the owner of a claim, up to the layer's bound. Where too many wait already, or the client left, the answer
    /// stays what it was.
    async fn wait(&self, asked: Asked) -> Result<Asked, StoreError> {
        let Config { wait, waiters, max_waiters, .. } = &*self.config;
        // The store is asked after the place is taken: what happens between the two is not missed.
        let Some(mut place) = waiters.join(self.record, *max_waiters) else { return Ok(asked) };
        trace::waiting(self.record, *wait);
        let until = after(now(), *wait);
        // Processes that wait for one record do not ask in step.
        let poll = POLL + POLL * u32::from(self.claimant().token.as_bytes()[15]) / 1024;
        loop {
            let asked = self.ask().await?;
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
            // Whatever ends this, the store is asked what became of the record.
            place.next_look(lease_left.min(poll), left).await;
        }
    }

    async fn ask(&self) -> Result<Asked, StoreError> {
        let asked = match &self.config.in_transaction {
            None => self.ask_for_lease().await,
            Some(way) => Box::pin(self.ask_for_transaction(way)).await,
        };
        asked.inspect_err(|error| trace::store_failed(self.record, "claim", error))
    }

    /// One claim. When its answer is lost it is asked again, with the same token: the store knows its own answer. When that
    /// is lost too, the claim is given back in the background.
    async fn ask_for_lease(&self) -> Result<Asked, StoreError> {
        let is_lost = |error: &StoreError| error.kind() == StoreErrorKind::Unavailable;
        self.cancellation.claim_begins();
        let mut asked_at = now();
        let mut answer = St::claim(&self.config.store, self.claim_request()).await;
        if let Err(error) = &answer
            && is_lost(error)
        {
            trace::store_failed(self.record, "claim", error);
            asked_at = now();
            answer = Box::pin(St::claim(&self.config.store, self.claim_request())).await;
        }
        if answer.as_ref().is_err_and(is_lost) {
            give_up::give_back(&self.config, self.claim_request());
        }
        if !matches!(answer, Ok(Claim::Run(_))) {
            self.cancellation.claim_ends();
        }
        Ok(match answer? {
            Claim::Run(run) => Asked::Granted(Granted { run, asked_at, transaction: None }),
            claim => Asked::Answered(claim),
        })
    }

    /// One claim in the transaction. Dropped, the store closes the connection, and the claim is gone with it.
    async fn ask_for_transaction(&self, way: &InTransaction<St>) -> Result<Asked, StoreError> {
        let asked_at = now();
        Ok(match (way.claim)(&self.config.store, self.claim_request(), way.time).await? {
            TransactionClaim::Run(run, transaction) => {
                // From here on a client that disconnects is not the end: the run is finished, or cancelled.
                self.cancellation.claim_begins();
                Asked::Granted(Granted { run, asked_at, transaction: Some(transaction) })
            }
            TransactionClaim::Answered(claim) => Asked::Answered(claim),
        })
    }
}
