//! Completed records in memory, in front of any store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use http::Extensions;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use super::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, ClaimsInTransaction, Fence, Fenced, Outcome, Purge,
    RecordId, RequestTransaction, Store, TransactionClaim,
};
use crate::clock::{after, now};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;

/// Completed records in memory, in front of any store.
///
/// A record with a response does not change until it expires. So `Layered` keeps the first replay that the inner store
/// answers for the rest of the record's time to live, and answers the next ones from memory. It passes everything else to
/// the inner store, which decides as if `Layered` were not there. Any number of processes may each have a `Layered` in
/// front of one store.
///
/// | claim of a record in memory | answered by |
/// |---|---|
/// | with the fingerprint of an earlier replay | memory |
/// | with another fingerprint | the store; after its first [`Claim::Mismatch`], memory |
/// | with a fingerprint that [cannot be compared](Fingerprint::matches) | the store |
///
/// Records in memory are replayed even while the inner store is not reached.
///
/// The time in memory is counted from before the store was asked. So a record is not replayed after the store has
/// forgotten it, if both clocks run at the same speed. (A suspended machine stops this one.) If you delete rows of the
/// store by hand, restart the processes in front of it.
///
/// A completion puts nothing into memory. [`Fenced::Held`] also answers a repeated completion, and then the stored outcome
/// is an earlier one, perhaps of another process.
///
/// ```
/// use idempotency_layer::{IdempotencyLayer, Layered, MemoryStore};
///
/// let store = Layered::new(MemoryStore::default(), 16 * 1024 * 1024);
/// let layer = IdempotencyLayer::builder(store).single_tenant().build();
/// ```
pub struct Layered<S> {
    inner: S,
    finished: Cache<RecordId, Finished>,
    /// Bytes that came in since the cache last looked at its bound.
    unsettled: AtomicU64,
    max_bytes: u64,
}

/// How full the memory of a [`Layered`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayeredStats {
    /// The number of records in memory.
    pub records: u64,
    /// The bytes in memory, as the bound counts them.
    pub bytes: u64,
}

/// What a record costs beside its response: the entry, its key, and what moka keeps to find, order and time it.
const RECORD_BYTES: usize = 400;

impl<S> Layered<S> {
    /// Creates a store that keeps at most `max_bytes` bytes of completed records in front of `inner`, and briefly up to a
    /// sixteenth more.
    ///
    /// If they do not fit, the least recently used record is dropped. A response larger than a sixteenth of `max_bytes` is
    /// not kept.
    pub fn new(inner: S, max_bytes: u64) -> Self {
        let finished = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, finished: &Finished| finished.weight())
            // Retries come soon or not at all. moka's default would turn new records away in favour of popular ones.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(AtItsEnd)
            .build();
        Self { inner, finished, unsettled: AtomicU64::new(0), max_bytes }
    }

    /// Returns the inner store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns how full the memory is.
    pub fn stats(&self) -> LayeredStats {
        self.finished.run_pending_tasks();
        LayeredStats { records: self.finished.entry_count(), bytes: self.finished.weighted_size() }
    }

    /// The answer to a claim, where it is in memory.
    fn known(&self, request: &ClaimRequest, now: Instant) -> Option<Claim> {
        self.finished.get(&request.record).and_then(|known| known.answer(request, now))
    }

    /// Keeps what the inner store answered to a claim that was asked at `asked`.
    fn learn(&self, request: &ClaimRequest, asked: Instant, answer: &Claim) {
        match answer {
            Claim::Replay { response, expires_in } => self.keep(
                request.record,
                Finished {
                    fingerprint: request.fingerprint,
                    is_own: false,
                    // A copy: the store's may be cut from a larger buffer, and then the bound would be none.
                    response: StoredResponse::from_bytes(Bytes::copy_from_slice(response.as_bytes())),
                    expires_at: after(asked, *expires_in),
                },
            ),
            Claim::Mismatch => {
                // The store compared the two, so the record's scheme is that of this request. If it is also the scheme of
                // the one that was replayed, then that one was compared too, and is the record's own. (Had the answer
                // been about the record's successor, then what is known would have expired, and be of no use.)
                let known = self.finished.get(&request.record);
                let known = known.filter(|it| !it.is_own && !it.fingerprint.matches(&request.fingerprint));
                if let Some(known) = known {
                    self.keep(request.record, Finished { is_own: true, ..known });
                }
            }
            Claim::Run(_) | Claim::InFlight { .. } | Claim::Tombstone(_) => {}
        }
    }

    fn keep(&self, record: RecordId, finished: Finished) {
        let (weight, slack) = (u64::from(finished.weight()), self.max_bytes / 16);
        // What would fill so much of the room by itself is not worth what would have to go for it.
        if weight > slack {
            return;
        }
        // moka evicts some time after the insertion, counted in entries: of large ones that would be far too late.
        self.finished.insert(record, finished);
        if self.unsettled.fetch_add(weight, Ordering::Relaxed) + weight > slack / 2 {
            self.unsettled.store(0, Ordering::Relaxed);
            self.finished.run_pending_tasks();
        }
    }
}

impl<S: Store> Store for Layered<S> {
    fn token(&self) -> ClaimToken {
        self.inner.token()
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        let asked = now();
        if let Some(claim) = self.known(&request, asked) {
            return Ok(claim);
        }
        // Dropped here: nothing was learnt.
        let answer = self.inner.claim(request).await?;
        self.learn(&request, asked, &answer);
        Ok(answer)
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.inner.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.inner.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.inner.extend(record, fence, lease).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        self.inner.checkpoint(record, fence, checkpoint).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        self.inner.offer_transaction(extensions)
    }
}

impl<S: ClaimsInTransaction> ClaimsInTransaction for Layered<S> {
    const TRANSACTION_TIME: Duration = S::TRANSACTION_TIME;

    async fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        transaction_time: Duration,
    ) -> Result<TransactionClaim, StoreError> {
        let asked = now();
        if let Some(claim) = self.known(&request, asked) {
            return Ok(TransactionClaim::Answered(claim));
        }
        // Dropped here: nothing was learnt.
        let answer = self.inner.claim_in_transaction(request, transaction_time).await?;
        if let TransactionClaim::Answered(answer) = &answer {
            self.learn(&request, asked, answer);
        }
        Ok(answer)
    }
}

impl<S: Purge> Purge for Layered<S> {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_expired(limit).await
    }
}

impl<S: fmt::Debug> fmt::Debug for Layered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// A record with a response.
#[derive(Clone)]
struct Finished {
    /// One that the record's own matched.
    fingerprint: Fingerprint,
    /// Whether it is the record's own, which then decides for every other. Matching is not transitive: this one may have
    /// matched only because the two could not be compared.
    is_own: bool,
    response: StoredResponse,
    /// Not after the inner store forgets the record.
    expires_at: Instant,
}

impl Finished {
    /// The answer to a claim; `None` where only the inner store knows it.
    fn answer(self, request: &ClaimRequest, now: Instant) -> Option<Claim> {
        let expires_in = self.expires_at.saturating_duration_since(now);
        let replays = self.fingerprint == request.fingerprint
            || self.is_own && self.fingerprint.matches(&request.fingerprint);
        if expires_in.is_zero() {
            None
        } else if replays {
            Some(Claim::Replay { response: self.response, expires_in })
        } else {
            self.is_own.then_some(Claim::Mismatch)
        }
    }

    fn weight(&self) -> u32 {
        u32::try_from(RECORD_BYTES + self.response.as_bytes().len()).unwrap_or(u32::MAX)
    }
}

/// Frees the memory of an expired record. Whether it may be replayed is decided where it is read, by the crate's clock:
/// moka counts on its own, which a test cannot hold.
struct AtItsEnd;

impl Expiry<RecordId, Finished> for AtItsEnd {
    fn expire_after_create(&self, _: &RecordId, finished: &Finished, _: StdInstant) -> Option<Duration> {
        Some(finished.expires_at.saturating_duration_since(now()))
    }

    fn expire_after_update(
        &self,
        _: &RecordId,
        finished: &Finished,
        _: StdInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(finished.expires_at.saturating_duration_since(now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store is not needed to fill the memory.
    fn fill(layered: &Layered<()>, number: u8, response: &Bytes) {
        let request = ClaimRequest {
            record: RecordId::from_bytes([number; 32]),
            fingerprint: Fingerprint::NONE,
            token: ClaimToken::new(),
            lease: Duration::ZERO,
            ttl: Duration::ZERO,
        };
        let response = StoredResponse::from_bytes(response.clone());
        let answer = Claim::Replay { response, expires_in: Duration::from_mins(1) };
        layered.learn(&request, now(), &answer);
    }

    /// What is there, and not what moka has counted so far.
    fn held(layered: &Layered<()>) -> u64 {
        layered.finished.iter().map(|(_, finished)| u64::from(finished.weight())).sum()
    }

    #[test]
    fn large_responses_do_not_wait_for_many_to_be_evicted() {
        let layered = Layered::new((), 1_000_000);
        for number in 0..60 {
            fill(&layered, number, &Bytes::from(vec![0; 50_000]));
            let held = held(&layered);
            assert!(held <= 1_000_000 + 1_000_000 / 16, "{held} after {number}");
        }
        assert!(held(&layered) > 900_000);
    }

    #[test]
    fn what_is_kept_does_not_keep_the_buffer_it_was_cut_from() {
        let (layered, buffer) = (Layered::new((), 1_000_000), Bytes::from(vec![0; 1_000_000]));
        fill(&layered, 0, &buffer.slice(..10));
        assert_eq!(held(&layered), 10 + RECORD_BYTES as u64);
        assert!(buffer.is_unique());
    }
}
