//! Records in the memory of one process.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use super::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, Purge, RecordId, Run, Store,
};
use crate::clock::{after, now};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;

/// Records in the memory of one process, bounded by bytes.
///
/// For one process that may forget its records when it ends: tests, development, and servers that need no more
/// than "a retry within the life of this process happens once".
///
/// A running claim is never evicted. A finished record goes when it expires, and before that only when its bytes
/// are needed; a retry that comes after would run again, so that is counted in
/// [`MemoryStats::evicted_early`], which should stay 0. Orphans, and claims released with a checkpoint, stay until they
/// expire. When nothing can be evicted, claims are refused.
///
/// Records lie in shards, each two maps in the order of insertion. With one time to live that is the order of
/// expiry too, so what is expired stands in front and dropping it costs nothing to find. (Records with a shorter
/// time to live than those before them are dropped late, but are expired in time all the same.)
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    budget: Budget,
    evicted_early: AtomicU64,
}

/// How full a [`MemoryStore`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Records held, running ones included.
    pub records: usize,
    /// Bytes held, as the store counts them.
    pub bytes: usize,
    /// Finished records that were dropped before their time, since the store was made.
    pub evicted_early: u64,
}

/// Enough that threads rarely meet, few enough that an empty store is small.
const SHARDS: usize = 64;
/// What a record costs beside its response and checkpoint: itself twice over for the maps' spare room.
const RECORD_BYTES: usize = 240;
/// How many expired records one claim drops: more than it adds, so they never pile up.
const PURGED_PER_CLAIM: usize = 2;

impl MemoryStore {
    /// A store of at most `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            budget: Budget { used: AtomicUsize::new(0), held: AtomicUsize::new(0), max: max_bytes },
            evicted_early: AtomicU64::new(0),
        }
    }

    /// How full it is, counted now.
    pub fn stats(&self) -> MemoryStats {
        let records = |shard: MutexGuard<'_, Shard>| shard.running.len() + shard.finished.len();
        MemoryStats {
            records: self.shards.iter().map(|shard| records(lock(shard))).sum(),
            bytes: self.budget.used.load(Ordering::Relaxed),
            evicted_early: self.evicted_early.load(Ordering::Relaxed),
        }
    }

    /// One atomic step on a record. A step that finds no room for what it is about to keep gives `None`, and is taken
    /// anew once there is room: what it found may have changed meanwhile.
    fn step<T>(
        &self,
        record: RecordId,
        bytes: usize,
        mut step: impl FnMut(&mut Shard, &mut Room<'_>) -> Option<T>,
    ) -> Result<T, StoreError> {
        let home = home(record);
        let mut room = Room { budget: &self.budget, bytes: 0 };
        loop {
            if let Some(done) = step(&mut lock(&self.shards[home]), &mut room) {
                return Ok(done);
            }
            room = self.make_room(bytes)?;
        }
    }

    /// Drops finished records, the one that expires first before the others, until `bytes` fit; none, if that would not
    /// help. One lock is held at a time.
    fn make_room(&self, bytes: usize) -> Result<Room<'_>, StoreError> {
        if !self.budget.could_take(bytes) {
            return Err(StoreError::full());
        }
        let now = now();
        while !self.budget.take(bytes) {
            let first_expiry = |shard: &Mutex<Shard>| Some(lock(shard).finished.front()?.1.expires_at);
            let oldest = self.shards.iter().filter_map(|shard| Some((first_expiry(shard)?, shard)));
            let Some((_, shard)) = oldest.min_by_key(|(expires_at, _)| *expires_at) else {
                return Err(StoreError::full());
            };
            // Another thread may have taken it meanwhile; then this one looks again.
            if let Some((_, oldest)) = lock(shard).finished.pop_front() {
                self.budget.give_back(oldest.bytes());
                if oldest.expires_at > now {
                    self.evicted_early.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(Room { budget: &self.budget, bytes })
    }
}

/// 256 MiB: some two hundred thousand responses of 1 KiB.
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
        self.step(request.record, RECORD_BYTES, |shard, room| {
            let now = now();
            shard.drop_expired(now, PURGED_PER_CLAIM, &self.budget);
            match shard.claim_known(&request, now, &self.budget) {
                Some(claim) => Some(claim),
                None => room.take(RECORD_BYTES).then(|| {
                    self.budget.hold(RECORD_BYTES);
                    shard.claim_new(&request, now)
                }),
            }
        })
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let bytes = outcome_bytes(&outcome);
        let mut outcome = Some(outcome);
        self.step(record, bytes, |shard, room| {
            if shard.running_with(record, fence).is_none() {
                let finished = shard.finished.get(&record).is_some_and(|finished| finished.fence == fence);
                return Some(if finished { Fenced::Held } else { Fenced::Stale });
            }
            // Room first: what there is none for stays a running claim.
            let outcome = room.take(bytes).then(|| outcome.take())??;
            let running = shard.running.remove(&record)?;
            self.budget.let_go(running.bytes());
            self.budget.give_back(checkpoint_bytes(running.checkpoint.as_deref()));
            let Running { fingerprint, expires_at, .. } = running;
            shard.finished.insert(record, Finished { fingerprint, fence, expires_at, outcome });
            Some(Fenced::Held)
        })
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        let mut shard = lock(&self.shards[home(record)]);
        let Some(running) = shard.running_with(record, fence) else { return Ok(Fenced::Stale) };
        if running.checkpoint.is_some() {
            running.lease = Lease::Released;
        } else {
            shard.forget_running(record, &self.budget);
        }
        Ok(Fenced::Held)
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        let mut shard = lock(&self.shards[home(record)]);
        let Some(running) = shard.running_with(record, fence) else { return Ok(Fenced::Stale) };
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
        // Kept as a copy, like the response: the caller's bytes may be cut from a larger buffer.
        let copied = Checkpoint { data: checkpoint.data.to_vec().into(), name: checkpoint.name };
        let mut checkpoint = Some(Box::new(copied));
        self.step(record, bytes, |shard, room| {
            let Some(running) = shard.running_with(record, fence) else { return Some(Fenced::Stale) };
            let checkpoint = room.take(bytes).then(|| checkpoint.take())??;
            self.budget.hold(bytes);
            let before = checkpoint_bytes(running.checkpoint.replace(checkpoint).as_deref());
            self.budget.let_go(before);
            self.budget.give_back(before);
            Some(Fenced::Held)
        })
    }
}

impl Purge for MemoryStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let now = now();
        let mut left = limit;
        for shard in &self.shards {
            left -= lock(shard).drop_expired(now, left, &self.budget);
        }
        Ok(limit - left)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The bytes of all shards together, never more than `max`.
struct Budget {
    used: AtomicUsize,
    /// Those of running records, which cannot be had by dropping anything.
    held: AtomicUsize,
    max: usize,
}

impl Budget {
    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn could_take(&self, bytes: usize) -> bool {
        self.held.load(Ordering::Relaxed).saturating_add(bytes) <= self.max
    }

    fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn let_go(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes taken from the budget ahead of their use. What is not used goes back.
struct Room<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Room<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        if self.bytes >= bytes {
            self.bytes -= bytes;
            return true;
        }
        self.budget.take(bytes)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

#[derive(Default)]
struct Shard {
    /// In the order of their first claim.
    running: LinkedHashMap<RecordId, Running>,
    /// In the order of their completion.
    finished: LinkedHashMap<RecordId, Finished>,
    /// The last fence given out, to whichever record: so that a forgotten record's next fence is a new one.
    last_fence: u64,
}

struct Running {
    fingerprint: Fingerprint,
    token: ClaimToken,
    fence: Fence,
    attempt: u32,
    orphan: bool,
    lease: Lease,
    expires_at: Instant,
    checkpoint: Option<Box<Checkpoint>>,
}

#[derive(Clone, Copy)]
enum Lease {
    Until(Instant),
    /// Given up with a checkpoint: anybody's at once, and no orphan.
    Released,
}

struct Finished {
    fingerprint: Fingerprint,
    fence: Fence,
    expires_at: Instant,
    outcome: Outcome,
}

impl Shard {
    /// The claim of a record that the shard holds; `None` if it holds none.
    fn claim_known(&mut self, request: &ClaimRequest, now: Instant, budget: &Budget) -> Option<Claim> {
        if let Some(finished) = self.finished.get(&request.record) {
            if finished.expires_at > now {
                return Some(finished.answer(request.fingerprint, now));
            }
            let expired = self.finished.remove(&request.record)?;
            budget.give_back(expired.bytes());
        }
        let running = self.running.get_mut(&request.record)?;
        if running.is_expired(now) {
            self.forget_running(request.record, budget);
            return None;
        }
        let lease_left = running.lease_left(now);
        if !running.fingerprint.matches(&request.fingerprint) {
            return Some(Claim::Mismatch);
        }
        let own = running.token == request.token && !matches!(running.lease, Lease::Released);
        if !own && !lease_left.is_zero() {
            return Some(Claim::InFlight { lease_left });
        }
        if !own {
            self.last_fence += 1;
            running.fence = Fence(self.last_fence);
            running.token = request.token;
            running.attempt = running.attempt.saturating_add(1);
            running.orphan = matches!(running.lease, Lease::Until(_));
        }
        running.lease = Lease::Until(after(now, request.lease));
        Some(running.claim())
    }

    fn claim_new(&mut self, request: &ClaimRequest, now: Instant) -> Claim {
        self.last_fence += 1;
        let running = Running {
            fingerprint: request.fingerprint,
            token: request.token,
            fence: Fence(self.last_fence),
            attempt: 1,
            orphan: false,
            lease: Lease::Until(after(now, request.lease)),
            expires_at: after(now, request.ttl),
            checkpoint: None,
        };
        let claim = running.claim();
        self.running.insert(request.record, running);
        claim
    }

    fn forget_running(&mut self, record: RecordId, budget: &Budget) {
        if let Some(running) = self.running.remove(&record) {
            budget.let_go(running.bytes());
            budget.give_back(running.bytes());
        }
    }

    /// The claim of this record, if `fence` is the one it runs under.
    fn running_with(&mut self, record: RecordId, fence: Fence) -> Option<&mut Running> {
        let held =
            |running: &&mut Running| running.fence == fence && !matches!(running.lease, Lease::Released);
        self.running.get_mut(&record).filter(held)
    }

    /// Drops at most `limit` expired records from the fronts, and says how many.
    fn drop_expired(&mut self, now: Instant, limit: usize, budget: &Budget) -> usize {
        for dropped in 0..limit {
            if let Some((_, oldest)) = self.finished.front().filter(|(_, oldest)| oldest.expires_at <= now) {
                budget.give_back(oldest.bytes());
                self.finished.pop_front();
            } else if let Some((&oldest, _)) =
                self.running.front().filter(|(_, oldest)| oldest.is_expired(now))
            {
                self.forget_running(oldest, budget);
            } else {
                return dropped;
            }
        }
        limit
    }
}

impl Running {
    fn claim(&self) -> Claim {
        Claim::Run(Run {
            fence: self.fence,
            attempt: self.attempt,
            orphan: self.orphan,
            checkpoint: self.checkpoint.as_deref().cloned(),
        })
    }

    fn lease_left(&self, now: Instant) -> Duration {
        match self.lease {
            Lease::Until(end) => end.saturating_duration_since(now),
            Lease::Released => Duration::ZERO,
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expires_at <= now && self.lease_left(now).is_zero()
    }

    fn bytes(&self) -> usize {
        RECORD_BYTES + checkpoint_bytes(self.checkpoint.as_deref())
    }
}

impl Finished {
    fn answer(&self, fingerprint: Fingerprint, now: Instant) -> Claim {
        match &self.outcome {
            _ if !self.fingerprint.matches(&fingerprint) => Claim::Mismatch,
            Outcome::Response(response) => Claim::Replay {
                response: response.clone(),
                expires_in: self.expires_at.saturating_duration_since(now),
            },
            Outcome::Tombstone(tombstone) => Claim::Tombstone(*tombstone),
        }
    }

    fn bytes(&self) -> usize {
        RECORD_BYTES + outcome_bytes(&self.outcome)
    }
}

/// The shard of a record, by its low bits; the maps within mix all of them anew.
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

/// A lock that a panic left behind guards maps that are whole all the same: nothing under it can panic half way.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
