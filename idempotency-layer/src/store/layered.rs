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
    Checkpoint, Claim, ClaimRequest, ClaimToken, ClaimsInTransaction, Fence, Fenced, Inspect, Outcome, Purge,
    RecordId, RequestTransaction, Store, TransactionClaim,
};
use crate::clock::{after, now};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;

/// Completed records in memory, in front of any store.
///
/// A record with a response does not change until it expires. So `Layered` keeps the first replay
/// that the inner store answers for the rest of the record's time to live, and answers the next
/// ones from memory. It passes everything else to the inner store, which decides as if `Layered`
/// were not there. Any number of processes may each have a `Layered` in front of one store.
///
/// | claim of a record in memory | answered by |
/// |---|---|
/// | with the fingerprint of an earlier replay | memory |
/// | with another fingerprint | the store; after its first [`Claim::Mismatch`], memory |
/// | with a fingerprint that [cannot be compared](Fingerprint::matches) | the store |
///
/// Records in memory are replayed even while the inner store is not reached.
///
/// The time in memory is counted from before the store was asked. So a record is not replayed after
/// the store has forgotten it, if both clocks run at the same speed. (A suspended machine stops
/// this one.) If you delete rows of the store by hand, restart the processes in front of it.
///
/// A completion puts nothing into memory. [`Fenced::Held`] also answers a repeated completion, and
/// then the stored outcome is an earlier one, perhaps of another process.
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
    /// The bytes that were inserted since the cache last enforced its bound.
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

/// The memory of a record beside its response: the entry, its key, and moka's bookkeeping.
const RECORD_BYTES: usize = 400;

impl<S> Layered<S> {
    /// Creates a store that keeps at most `max_bytes` bytes of completed records in front of
    /// `inner`, and briefly up to a sixteenth more.
    ///
    /// If they do not fit, the least recently used record is dropped. A response larger than a
    /// sixteenth of `max_bytes` is not kept.
    pub fn new(inner: S, max_bytes: u64) -> Self {
        let finished = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, finished: &Finished| finished.weight())
            // Retries come soon or not at all. moka's default would turn new records away in favour
            // of popular ones.
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

    /// Returns the answer to a claim if memory has it.
    fn known(&self, request: &ClaimRequest, now: Instant) -> Option<Claim> {
        self.finished.get(&request.record).and_then(|known| known.answer(request, now))
    }

    /// Keeps the inner store's answer to a claim. `asked` is the time of the call.
    fn learn(&self, request: &ClaimRequest, asked: Instant, answer: &Claim) {
        match answer {
            Claim::Replay { response, expires_in } => self.keep(
                request.record,
                Finished {
                    fingerprint: request.fingerprint,
                    is_own: false,
                    // Copied: a slice of a larger buffer would keep the whole buffer, which the
                    // bound does not count.
                    response: StoredResponse::from_bytes(Bytes::copy_from_slice(response.as_bytes())),
                    expires_at: after(asked, *expires_in),
                },
            ),
            Claim::Mismatch => {
                // The store compared the fingerprints, so the record's scheme is that of this
                // request. If the known one has the same scheme, it was compared too, so it is the
                // record's own. (If the answer were about a later record of the same name, the
                // known one would have expired.)
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
        // Keeping a response this large would evict too many others.
        if weight > slack {
            return;
        }
        // moka evicts after a number of insertions. With large responses that is too late.
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
        // If dropped here, memory is unchanged.
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
        // If dropped here, memory is unchanged.
        let answer = self.inner.claim_in_transaction(request, transaction_time).await?;
        if let TransactionClaim::Answered(answer) = &answer {
            self.learn(&request, asked, answer);
        }
        Ok(answer)
    }
}

impl<S: Inspect> Inspect for Layered<S> {
    async fn is_taken(&self, record: RecordId) -> Result<bool, StoreError> {
        if self.finished.get(&record).is_some_and(|known| known.expires_at > now()) {
            return Ok(true);
        }
        self.inner.is_taken(record).await
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
    /// A fingerprint that matches the record's own.
    fingerprint: Fingerprint,
    /// Whether it is the record's own, so that it decides about every other. If not, it may match
    /// only because the two cannot be compared. Matching is not transitive.
    is_own: bool,
    response: StoredResponse,
    /// No later than the time at which the inner store forgets the record.
    expires_at: Instant,
}

impl Finished {
    /// Returns the answer to a claim. `None` if only the inner store knows it.
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

/// Frees the memory of expired records. [`Finished::answer`] decides whether a record may be
/// replayed, by the crate's clock: a test cannot pause moka's.
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

    /// Fills the memory, for which no inner store is needed.
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

    /// Returns the weight of all records. moka's own count lags behind.
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
