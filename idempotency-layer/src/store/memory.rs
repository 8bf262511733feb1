//! Records in the memory of one process.

mod records;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::records::{Lease, Record, Records, Running, State};
use super::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, Purge, RecordId, Run, Store,
};
use crate::clock::{after, now};
use crate::error::StoreError;

/// Records in the memory of one process, bounded by bytes.
///
/// The records are lost when the process ends. Use it in tests, in development, and in a server for
/// which it is enough that a retry within the life of the process happens once.
///
/// ```
/// use idempotency_layer::{IdempotencyLayer, MemoryStore};
///
/// let store = MemoryStore::new(64 * 1024 * 1024);
/// let layer = IdempotencyLayer::builder(store).single_tenant().build();
/// ```
///
/// A running claim is never evicted. A completed record is dropped when it expires, or earlier if
/// its bytes are needed. A retry after an early drop runs again, so [`MemoryStats::evicted_early`]
/// counts early drops and should stay 0. Orphans, and claims that were released with a checkpoint,
/// stay until they expire. If nothing can be evicted, claims fail as
/// [`Full`](crate::StoreErrorKind::Full).
///
/// Records are spread over shards with a lock each. A shard finds expired records without a search,
/// because they are at the front of its queues. A record with a shorter time to live than those
/// before it expires in time, but its memory is freed later.
pub struct MemoryStore {
    shards: Box<[Padded<Mutex<Shard>>]>,
    pool: Padded<Pool>,
    /// The bytes that a shard takes from the pool at a time, beyond what it needs.
    spare: usize,
    max_bytes: usize,
}

/// How full a [`MemoryStore`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The number of records, running ones included.
    pub records: usize,
    /// The bytes of all records, as the store counts them.
    pub bytes: usize,
    /// The number of completed records that were dropped before they expired, since the store was
    /// created.
    pub evicted_early: u64,
}

/// Many enough that threads rarely contend for a shard, few enough that an empty store is small.
const SHARDS: usize = 64;
/// Bytes of a record without its response and checkpoint, with spare room in table and chunks.
const RECORD_BYTES: usize = 240;
/// Maximum expired records that one claim drops. It is more than a claim adds, so they never pile
/// up.
const PURGED_PER_CLAIM: usize = 2;
/// Maximum spare bytes of a shard. A shard takes from the pool once for about fifty records.
const MAX_SPARE: usize = 64 * 1024;

impl MemoryStore {
    /// Creates a store of at most `max_bytes` bytes. A record takes its response and about 250
    /// bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Padded::default()).collect(),
            pool: Padded(Pool(AtomicUsize::new(max_bytes))),
            // The spare bytes of all shards are at most an eighth of the store. A small store has
            // none.
            spare: (max_bytes / (16 * SHARDS)).min(MAX_SPARE) / 1024 * 1024,
            max_bytes,
        }
    }

    /// Returns how full the store is. All claims wait meanwhile, so the figures are of one moment.
    pub fn stats(&self) -> MemoryStats {
        let shards: Vec<_> = self.shards.iter().map(lock).collect();
        MemoryStats {
            records: shards.iter().map(|shard| shard.records.len()).sum(),
            bytes: shards.iter().map(|shard| shard.used).sum(),
            evicted_early: shards.iter().map(|shard| shard.evicted_early).sum(),
        }
    }

    /// Takes one atomic step on a record. A step that finds no room for its bytes returns `None`,
    /// and is repeated once there is room, because the record may have changed meanwhile.
    fn step<T>(
        &self,
        record: RecordId,
        bytes: usize,
        mut step: impl FnMut(&mut Shard) -> Option<T>,
    ) -> Result<T, StoreError> {
        let home = &self.shards[home(record)];
        let mut room = 0;
        loop {
            let mut shard = lock(home);
            shard.spare += room;
            let done = step(&mut shard);
            self.trim(&mut shard);
            if let Some(done) = done {
                return Ok(done);
            }
            drop(shard);
            room = self.make_room(bytes)?;
        }
    }

    /// Reserves bytes in a shard, from its spare bytes or from the pool.
    fn reserve(&self, shard: &mut Shard, bytes: usize) -> bool {
        if shard.spare < bytes {
            let missing = bytes - shard.spare;
            shard.spare += match missing.saturating_add(self.spare) {
                more if self.pool.0.take(more) => more,
                _ if self.pool.0.take(missing) => missing,
                _ => return false,
            };
        }
        shard.spare -= bytes;
        shard.used += bytes;
        true
    }

    /// Returns surplus spare bytes of a shard to the pool.
    fn trim(&self, shard: &mut Shard) {
        if shard.spare > 2 * self.spare {
            self.pool.0.give_back(shard.spare - self.spare);
            shard.spare = self.spare;
        }
    }

    /// Takes `bytes` from the pool. Drops finished records until there is room, in the order in
    /// which they expire. Drops none if that would not help. Holds one lock at a time.
    fn make_room(&self, bytes: usize) -> Result<usize, StoreError> {
        let mut held = 0_usize;
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.pool.0.give_back(std::mem::take(&mut shard.spare));
            held += shard.held;
        }
        if held.saturating_add(bytes) > self.max_bytes {
            return Err(StoreError::full());
        }
        let now = now();
        while !self.pool.0.take(bytes) {
            let oldest = self.shards.iter().filter_map(|shard| Some((lock(shard).first_expiry()?, shard)));
            let Some((_, shard)) = oldest.min_by_key(|(expires_at, _)| *expires_at) else {
                return Err(StoreError::full());
            };
            // Another thread may have dropped it meanwhile. Then the loop repeats.
            let mut shard = lock(shard);
            if let Some(expires_at) = shard.drop_finished() {
                self.pool.0.give_back(std::mem::take(&mut shard.spare));
                shard.evicted_early += u64::from(expires_at > now);
            }
        }
        Ok(bytes)
    }
}

/// Creates a store of at most 256 MiB, which holds about 200,000 responses of 1 KiB.
impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(256 * 1024 * 1024)
    }
}

impl Store for MemoryStore {
    fn token(&self) -> ClaimToken {
        ClaimToken::of_this_process()
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.step(request.record, RECORD_BYTES, |shard| {
            let now = now();
            shard.drop_expired(now, PURGED_PER_CLAIM);
            match shard.claim_known(&request, now) {
                Some(claim) => Some(claim),
                None => self.reserve(shard, RECORD_BYTES).then(|| shard.claim_new(&request, now)),
            }
        })
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let bytes = outcome_bytes(&outcome);
        let mut outcome = Some(outcome);
        self.step(record, bytes, |shard| {
            let Some(at) = shard.records.find(record) else { return Some(Fenced::Stale) };
            let found = shard.records.at_mut(at);
            let held = match &found.state {
                State::Running(running) if found.fence == fence && running.is_claimed() => running.bytes(),
                State::Finished(_) if found.fence == fence => return Some(Fenced::Held),
                _ => return Some(Fenced::Stale),
            };
            // Reserve first: without room, the record stays a running claim.
            let outcome = self.reserve(shard, bytes).then(|| outcome.take())??;
            shard.held -= held;
            shard.give_back(held - RECORD_BYTES);
            shard.records.finish(at, outcome);
            Some(Fenced::Held)
        })
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.step(record, 0, |shard| {
            let Some((at, running)) = shard.running_with(record, fence) else { return Some(Fenced::Stale) };
            if running.checkpoint.is_some() {
                running.lease = Lease::Released;
            } else {
                shard.forget(at);
            }
            Some(Fenced::Held)
        })
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        let mut shard = lock(&self.shards[home(record)]);
        let Some((_, running)) = shard.running_with(record, fence) else { return Ok(Fenced::Stale) };
        running.lease = Lease::Until(after(now(), lease));
        Ok(Fenced::Held)
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        let bytes = checkpoint_bytes(Some(&checkpoint));
        // A copy, like the response, because the caller's bytes may be a slice of a larger buffer.
        let copied = Checkpoint { data: checkpoint.data.to_vec().into(), name: checkpoint.name };
        let mut checkpoint = Some(Box::new(copied));
        self.step(record, bytes, |shard| {
            if shard.running_with(record, fence).is_none() {
                return Some(Fenced::Stale);
            }
            let checkpoint = self.reserve(shard, bytes).then(|| checkpoint.take())??;
            let (_, running) = shard.running_with(record, fence)?;
            let before = checkpoint_bytes(running.checkpoint.replace(checkpoint).as_deref());
            shard.held += bytes;
            shard.held -= before;
            shard.give_back(before);
            Some(Fenced::Held)
        })
    }
}

impl Purge for MemoryStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let now = now();
        let mut left = limit;
        for shard in &self.shards {
            let mut shard = lock(shard);
            left -= shard.drop_expired(now, left);
            self.trim(&mut shard);
        }
        Ok(limit - left)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A value on its own cache lines, so that threads that use different values do not slow each other
/// down.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The bytes that belong to no shard. Together with the used and spare bytes of all shards they are
/// the bound of the store.
struct Pool(AtomicUsize);

impl Pool {
    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Shard {
    records: Records,
    /// The last fence of the shard. It is not a count of each record, so that a record that was
    /// forgotten gets a new fence.
    last_fence: u64,
    /// The bytes of its records.
    used: usize,
    /// The bytes of running records among them, which cannot be dropped.
    held: usize,
    /// Bytes that were taken from the pool and are not used yet.
    spare: usize,
    evicted_early: u64,
}

impl Shard {
    /// Claims a record that the shard holds. Returns `None` if it holds none.
    fn claim_known(&mut self, request: &ClaimRequest, now: Instant) -> Option<Claim> {
        let at = self.records.find(request.record)?;
        let found = self.records.at_mut(at);
        if found.is_expired(now) {
            self.forget(at);
            return None;
        }
        if !found.fingerprint.matches(&request.fingerprint) {
            return Some(Claim::Mismatch);
        }
        let running = match &mut found.state {
            State::Running(running) => running,
            State::Finished(outcome) => return Some(answer(outcome, found.expires_at, now)),
            State::Vacant => return None,
        };
        let lease_left = running.lease_left(now);
        let own = running.token == request.token && running.is_claimed();
        if !own && !lease_left.is_zero() {
            return Some(Claim::InFlight { lease_left });
        }
        if !own {
            self.last_fence += 1;
            found.fence = Fence(self.last_fence);
            running.token = request.token;
            running.attempt = running.attempt.saturating_add(1);
            running.orphan = running.is_claimed();
        }
        running.lease = Lease::Until(after(now, request.lease));
        Some(running.claim(found.fence))
    }

    /// Claims a record that the shard does not hold. The caller has reserved its bytes.
    fn claim_new(&mut self, request: &ClaimRequest, now: Instant) -> Claim {
        self.last_fence += 1;
        self.held += RECORD_BYTES;
        let fence = Fence(self.last_fence);
        let running = Running {
            token: request.token,
            attempt: 1,
            orphan: false,
            lease: Lease::Until(after(now, request.lease)),
            checkpoint: None,
        };
        let claim = running.claim(fence);
        let expires_at = after(now, request.ttl);
        self.records.insert(request.record, request.fingerprint, fence, expires_at, running);
        claim
    }

    /// Returns the claim of a record, if `fence` is the one it runs under.
    fn running_with(&mut self, record: RecordId, fence: Fence) -> Option<(usize, &mut Running)> {
        let at = self.records.find(record)?;
        let found = self.records.at_mut(at);
        match &mut found.state {
            State::Running(running) if found.fence == fence && running.is_claimed() => Some((at, running)),
            _ => None,
        }
    }

    /// Drops a record.
    fn forget(&mut self, at: usize) {
        let bytes = match self.records.remove(at) {
            State::Running(running) => {
                self.held -= running.bytes();
                running.bytes()
            }
            State::Finished(outcome) => RECORD_BYTES + outcome_bytes(&outcome),
            State::Vacant => 0,
        };
        self.give_back(bytes);
    }

    fn give_back(&mut self, bytes: usize) {
        self.used -= bytes;
        self.spare += bytes;
    }

    /// Returns when the first finished record expires.
    fn first_expiry(&self) -> Option<Instant> {
        self.records.first_finished().map(|at| self.records.at(at).expires_at)
    }

    /// Drops the first finished record, and returns when it expires.
    fn drop_finished(&mut self) -> Option<Instant> {
        let at = self.records.first_finished()?;
        let expires_at = self.records.at(at).expires_at;
        self.forget(at);
        Some(expires_at)
    }

    /// Drops at most `limit` expired records from the fronts, and returns how many.
    fn drop_expired(&mut self, now: Instant, limit: usize) -> usize {
        for dropped in 0..limit {
            let firsts = [self.records.first_finished(), self.records.first_running()];
            let expired = firsts.into_iter().flatten().find(|at| self.records.at(*at).is_expired(now));
            let Some(at) = expired else { return dropped };
            self.forget(at);
        }
        limit
    }
}

impl Record {
    fn is_expired(&self, now: Instant) -> bool {
        let runs = match &self.state {
            State::Running(running) => !running.lease_left(now).is_zero(),
            State::Finished(_) | State::Vacant => false,
        };
        self.expires_at <= now && !runs
    }
}

impl Running {
    fn claim(&self, fence: Fence) -> Claim {
        Claim::Run(Run {
            fence,
            attempt: self.attempt,
            orphan: self.orphan,
            checkpoint: self.checkpoint.as_deref().cloned(),
        })
    }

    /// Returns whether it is claimed and not released, even if the lease has ended.
    fn is_claimed(&self) -> bool {
        matches!(self.lease, Lease::Until(_))
    }

    fn lease_left(&self, now: Instant) -> Duration {
        match self.lease {
            Lease::Until(end) => end.saturating_duration_since(now),
            Lease::Released => Duration::ZERO,
        }
    }

    fn bytes(&self) -> usize {
        RECORD_BYTES + checkpoint_bytes(self.checkpoint.as_deref())
    }
}

/// Answers a claim of a finished record.
fn answer(outcome: &Outcome, expires_at: Instant, now: Instant) -> Claim {
    match outcome {
        Outcome::Response(response) => Claim::Replay {
            response: response.clone(),
            expires_in: expires_at.saturating_duration_since(now),
        },
        Outcome::Tombstone(tombstone) => Claim::Tombstone(*tombstone),
    }
}

/// Returns the index of a record's shard, from its low bits. The table of a shard hashes all bits.
fn home(record: RecordId) -> usize {
    usize::try_from(record.prefix() % SHARDS as u64).unwrap_or(0)
}

fn outcome_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Response(response) => response.as_bytes().len(),
        Outcome::Tombstone(_) => 0,
    }
}

fn checkpoint_bytes(checkpoint: Option<&Checkpoint>) -> usize {
    checkpoint.map_or(0, |checkpoint| size_of::<Checkpoint>() + checkpoint.name.len() + checkpoint.data.len())
}

/// Locks a shard. A poisoned lock is used too: nothing under it panics half way, so its records are
/// consistent.
fn lock(shard: &Padded<Mutex<Shard>>) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}
