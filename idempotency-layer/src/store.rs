//! The store trait, its numbered contract, and the types of its arguments and answers.

mod any;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod batch;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod co_commit;
#[cfg(feature = "conformance")]
pub mod conformance;
mod inspect;
#[cfg(feature = "layered")]
mod layered;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod purge;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod seen;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transaction;
mod transactional;

#[cfg(feature = "memory")]
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
#[cfg(feature = "memory")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;

pub use self::any::AnyStore;
#[cfg(all(feature = "axum", any(feature = "postgres", feature = "sqlite")))]
pub use self::co_commit::NoCoCommit;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::co_commit::{CoCommit, CoCommitDatabase, CoCommitError, OpenTransaction, Savepoint};
pub use self::inspect::Inspect;
#[cfg(feature = "layered")]
pub use self::layered::{Layered, LayeredStats};
#[cfg(feature = "memory")]
pub use self::memory::{MemoryStats, MemoryStore};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
pub use self::purge::PurgeTask;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::transaction::{Ending, RequestTransaction};
pub use self::transactional::{ClaimTransaction, ClaimsInTransaction, Completion, TransactionClaim};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;

/// A store of records. Every verb is one atomic transition, which the store decides and times by
/// its own clock.
///
/// [`MemoryStore`](crate::MemoryStore), `PostgresStore` and `SqliteStore` implement it, and
/// `Layered`, [`AnyStore`] and [`Arc`] do around another store.
///
/// # The contract
///
/// A store is correct when all of these hold, for any number of concurrent callers. With the
/// feature `conformance`, the module `conformance` has one test for each number.
///
/// 1. **First claim.** The claim of a record unknown to the store is [`Claim::Run`], attempt 1, no
///    orphan, no checkpoint.
/// 2. **One runner.** Of any number of concurrent claims of one record, one is `Run`. The others
///    are [`Claim::InFlight`] with the rest of the lease: more than zero, at most the lease.
/// 3. **Replay.** After `complete` with a response, a claim is [`Claim::Replay`] with the same
///    response, byte for byte, and with the rest of the time to live: more than zero, at most the
///    time to live.
/// 4. **Mismatch.** A claim whose fingerprint does not [match](Fingerprint::matches) the record's
///    is [`Claim::Mismatch`], whether the record is running, complete or a tombstone. It changes
///    nothing.
/// 5. **Release.** After `release`, the next claim is `Run` at once, and no orphan. Without a
///    checkpoint the record is forgotten: attempt 1, any fingerprint. With a checkpoint the record
///    is kept: next attempt, the checkpoint, the same fingerprint.
/// 6. **Fences.** `complete`, `release`, `extend` and `checkpoint` with a fence that is not the
///    record's current one are [`Fenced::Stale`] and change nothing. The fences of a record only
///    grow, also after it was released, taken over, or forgotten.
/// 7. **Takeover.** A claim is not given away before its lease ends. After that, the next claim is
///    `Run` with the next attempt, marked as an orphan.
/// 8. **Extend.** The lease ends `lease` after the call. A lease of zero ends at once.
/// 9. **One heir.** Of any number of concurrent claims of an orphan, one is `Run`. The others are
///    `InFlight`.
/// 10. **Expiry.** A record is forgotten `ttl` after its first claim, but never while a lease on it
///     holds. The next claim is a first claim, except that its fence has grown.
/// 11. **Lost acknowledgement.** A claim with the token of the running claim is that claim: `Run`,
///     same fence, same attempt, with a fresh lease.
/// 12. **Repeated completion.** `complete` with the fence that has completed the record is
///     [`Fenced::Held`], and the first outcome stays.
/// 13. **Tombstone.** After `complete` with a tombstone, a claim is [`Claim::Tombstone`] with the
///     same reason.
/// 14. **Checkpoint.** Each later `Run` of a record carries its latest checkpoint, byte for byte.
/// 15. **Independence.** A verb on one record changes no other record.
/// 16. **Late but first.** A claim whose lease has ended still holds its fence until another claim
///     takes over.
/// 17. **Cancellation.** A verb whose future is dropped takes effect completely, or not at all.
///
/// Some numbers meet:
///
/// - 11 and 16: a claim with the token of the running claim is that claim even after its lease ran
///   out, until another claim takes over.
/// - 6 and 12: `release` and `complete` end the claim. Its fence is then stale for every verb
///   except a repeated `complete`.
/// - 10 and 16: if both the lease and the time to live have ended, the store may answer the owner
///   `Held` or `Stale`, as long as later answers agree. It may forget at once an outcome that is
///   completed after the time to live.
///
/// A store keeps leases and times to live of up to ten years, and may shorten longer ones.
///
/// # Errors
///
/// A verb returns a [`StoreError`] if it is unknown whether it took effect
/// ([`Unavailable`](crate::StoreErrorKind::Unavailable)), or if it certainly did not (every other
/// kind). A stale fence is an answer, not an error.
///
/// The layer sets no time-out for a verb, so a verb that hangs holds up its request. (While a
/// `complete` hangs, the layer renews the lease.) A store must bound the time it waits for its
/// database, and then return `Unavailable`.
///
/// # Cancel safety
///
/// Number 17: if the future of a verb is dropped, the verb has taken effect completely or not at
/// all.
///
/// # Transactions
///
/// If a store [offers transactions](Self::offer_transaction), its `extend` must not write the rows
/// that such a transaction writes at its end. At REPEATABLE READ and SERIALIZABLE, a database
/// refuses to write a row that was written after the transaction began.
///
/// # Example
///
/// A store that counts the claims of another:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use idempotency_layer::{
///     Checkpoint, Claim, ClaimRequest, Fence, Fenced, Outcome, RecordId, Store, StoreError,
/// };
///
/// struct Counting<S> {
///     inner: S,
///     claims: AtomicU64,
/// }
///
/// impl<S: Store> Store for Counting<S> {
///     async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
///         self.claims.fetch_add(1, Ordering::Relaxed);
///         self.inner.claim(request).await
///     }
///
///     async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
///         self.inner.complete(record, fence, outcome).await
///     }
///
///     async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
///         self.inner.release(record, fence).await
///     }
///
///     async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
///         self.inner.extend(record, fence, lease).await
///     }
///
///     async fn checkpoint(
///         &self,
///         record: RecordId,
///         fence: Fence,
///         checkpoint: Checkpoint,
///     ) -> Result<Fenced, StoreError> {
///         self.inner.checkpoint(record, fence, checkpoint).await
///     }
/// }
/// ```
pub trait Store: Send + Sync + 'static {
    /// Makes the token of a request. The layer passes it with every claim of that request.
    ///
    /// Keep the default for a store that several processes can reach. A store in the memory of one
    /// process may count instead, because the default makes a system call.
    fn token(&self) -> ClaimToken {
        ClaimToken::new()
    }

    /// Asks for the right to run.
    fn claim(&self, request: ClaimRequest) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Writes the outcome of a run. It answers every later claim until the record expires.
    fn complete(
        &self,
        record: RecordId,
        fence: Fence,
        outcome: Outcome,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Gives up a claim without an outcome. The next claim runs at once.
    fn release(
        &self,
        record: RecordId,
        fence: Fence,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Renews the lease of a claim. It ends `lease` from now.
    fn extend(
        &self,
        record: RecordId,
        fence: Fence,
        lease: Duration,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Stores a checkpoint of a running claim, in place of the previous one.
    fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Offers a transaction of the store's database to the handler of one request.
    ///
    /// Puts the handler's end into `extensions` and returns the layer's end. The call begins
    /// nothing. Returns `None`, the default, if the store shares no database with handlers.
    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        let _ = extensions;
        None
    }
}

/// A store whose expired records can be deleted on request, for example by a [`PurgeTask`].
pub trait Purge: Store {
    /// Deletes at most `limit` expired records and returns how many it deleted.
    ///
    /// A store that deletes them by itself returns 0.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::StoreErrorKind::Unavailable) if the store was not reached.
    fn purge_expired(&self, limit: usize) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

impl<S: Purge> Purge for Arc<S> {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        S::purge_expired(self, limit).await
    }
}

impl<S: Store> Store for Arc<S> {
    fn token(&self) -> ClaimToken {
        S::token(self)
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        S::claim(self, request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        S::complete(self, record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        S::release(self, record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        S::extend(self, record, fence, lease).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        S::checkpoint(self, record, fence, checkpoint).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        S::offer_transaction(self, extensions)
    }
}

/// The request of a claim.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The record to claim.
    pub record: RecordId,
    /// The fingerprint of the request. The record keeps that of its first claim.
    pub fingerprint: Fingerprint,
    /// The token of the request. It is the same if the claim is repeated because its answer was
    /// lost.
    pub token: ClaimToken,
    /// How long the claim holds unless it is renewed.
    pub lease: Duration,
    /// How long the record is kept, from its first claim.
    pub ttl: Duration,
}

impl ClaimRequest {
    /// Makes a request to claim `record` for `lease`. The store keeps the record for `ttl`.
    ///
    /// The layer makes these requests. Use this function to test a store, or to wrap one.
    pub const fn new(
        record: RecordId,
        fingerprint: Fingerprint,
        token: ClaimToken,
        lease: Duration,
        ttl: Duration,
    ) -> Self {
        Self { record, fingerprint, token, lease, ttl }
    }
}

/// The answer to a claim.
///
/// This enum may grow. A store that wraps another passes on a variant that it does not know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Claim {
    /// The caller holds the claim: it runs the handler.
    Run(Run),
    /// The record is complete and has a response.
    Replay {
        /// The stored response.
        response: StoredResponse,
        /// The rest of the record's time to live.
        expires_in: Duration,
    },
    /// Another request holds the claim.
    InFlight {
        /// The rest of the lease.
        lease_left: Duration,
    },
    /// The record has another fingerprint: the key was used for another request.
    Mismatch,
    /// The record is complete but has no response.
    Tombstone(Tombstone),
}

/// The right to run the handler.
///
/// ```
/// use idempotency_layer::{Checkpoint, Fence, Run};
///
/// let first = Run::new(Fence(1), 1);
/// let second = Run::new(Fence(2), 2).orphan(true).checkpoint(Checkpoint::new("charged", "ch_17"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The fence that later verbs must pass.
    pub fence: Fence,
    /// How many times the record was claimed, this time included.
    pub attempt: u32,
    /// Whether the previous claim ended because its lease ran out. That run may have had effects.
    pub orphan: bool,
    /// The latest checkpoint of earlier runs.
    pub checkpoint: Option<Checkpoint>,
}

impl Run {
    /// Makes a run that is not an orphan and has no checkpoint.
    pub const fn new(fence: Fence, attempt: u32) -> Self {
        Self { fence, attempt, orphan: false, checkpoint: None }
    }

    /// Sets whether the previous claim ended because its lease ran out.
    #[must_use]
    pub const fn orphan(mut self, orphan: bool) -> Self {
        self.orphan = orphan;
        self
    }

    /// Sets the latest checkpoint of earlier runs.
    #[must_use]
    pub fn checkpoint(mut self, checkpoint: impl Into<Option<Checkpoint>>) -> Self {
        self.checkpoint = checkpoint.into();
        self
    }
}

/// The outcome of a run.
///
/// A store must be able to keep every outcome, so this enum is exhaustive: a new outcome is a
/// breaking release, in which the compiler reports every store that does not handle it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A response, which is replayed.
    Response(StoredResponse),
    /// No response. The request does not run again.
    Tombstone(Tombstone),
}

/// Why a record that must not run again has no response. Exhaustive, as [`Outcome`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// The request was carried out. Its response was too large, was a stream, or broke off.
    Unreplayable,
    /// The request was begun. It is unknown whether it was carried out.
    Unknown,
}

/// Whether the fence of a verb was current. Exhaustive, as [`Outcome`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale fence means that another run holds the claim"]
pub enum Fenced {
    /// The fence is the record's current one. The verb took effect.
    Held,
    /// The fence is not the record's current one. The verb changed nothing.
    Stale,
}

/// A checkpoint of a handler with effects outside the database; see
/// [`Idempotency::checkpoint`](crate::Idempotency::checkpoint).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The step that was done.
    pub name: String,
    /// Data for the next run.
    pub data: Bytes,
}

impl Checkpoint {
    /// Makes a checkpoint of the step `name`.
    pub fn new(name: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { name: name.into(), data: data.into() }
    }
}

/// Leaves out the data, which may be secret.
impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A number that grows with each claim of a record. The store accepts writes with the current one
/// only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// The name of a record: SHA-256 of scope and key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId([u8; 32]);

impl RecordId {
    /// Makes the name from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for a store to keep.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns uniformly distributed bits of the name, to choose a shard or a bucket.
    pub(crate) fn prefix(&self) -> u64 {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(prefix)
    }
}

/// Hashes eight bytes only. The name is a digest, so they are uniformly distributed.
impl Hash for RecordId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.prefix());
    }
}

/// Shows the first four bytes: enough to follow a record through a log.
impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// Identifies the request that claims, across processes.
///
/// A store treats a claim with the token of the running claim as that claim, repeated. So two
/// requests with one token would both run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimToken([u8; 16]);

impl ClaimToken {
    /// Returns a token that no other request has, in any process: 16 random bytes of the operating
    /// system.
    ///
    /// Nothing in the memory of the process is part of them. So forked processes, and copies of one
    /// snapshot of a machine, never make the same token, provided that the kernel learns that it
    /// was restored (Linux since 5.18, from the hypervisor's generation number). Each token costs a
    /// system call of 0.2 to 0.8 µs.
    ///
    /// # Panics
    ///
    /// If the operating system refuses to give random bytes. No supported one does.
    pub fn new() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// Returns a token that no other request of this process has: the number of its thread, and a
    /// count. For a store that lives in this process, and is copied with it by `fork` or by a
    /// snapshot.
    #[cfg(feature = "memory")]
    pub(crate) fn of_this_process() -> Self {
        static THREADS: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            /// Per thread, so that cores share no cache line.
            static NEXT: Cell<(u64, u64)> = Cell::new((THREADS.fetch_add(1, Ordering::Relaxed), 0));
        }
        let (thread, count) = NEXT.get();
        NEXT.set((thread, count + 1));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&thread.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        Self(bytes)
    }

    /// Makes the token from bytes that a store kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for a store to keep.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Default for ClaimToken {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn halves(token: ClaimToken) -> [[u8; 8]; 2] {
        [0, 8].map(|at| token.as_bytes()[at..at + 8].try_into().unwrap())
    }

    /// A forked child would share a constant part or a counter with its parent.
    #[test]
    fn no_part_of_a_token_is_a_number_of_the_process_or_a_count() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            for half in halves(ClaimToken::new()) {
                assert!(seen.insert(half));
            }
        }
        let bits = seen.iter().flatten().map(|byte| byte.count_ones()).sum::<u32>();
        assert!((60_000..68_000).contains(&bits), "of 128000 bits, {bits} are set");
    }

    #[cfg(feature = "memory")]
    #[test]
    fn tokens_of_this_process_differ_on_every_thread() {
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| [(); 500].map(|()| *ClaimToken::of_this_process().as_bytes())))
            .collect();
        let tokens: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(tokens.len(), 8 * 500);
    }

    #[cfg(feature = "memory")]
    #[test]
    fn a_store_in_front_of_another_gives_the_tokens_of_the_one_behind() {
        let counts = |store: &dyn Fn() -> ClaimToken| halves(store())[0] == halves(store())[0];
        let memory = Arc::new(MemoryStore::default());
        assert!(counts(&|| memory.token()));
        let any = AnyStore::new(memory.clone());
        assert!(counts(&|| any.token()));
        #[cfg(feature = "layered")]
        {
            let layered = Layered::new(memory.clone(), 1024);
            assert!(counts(&|| layered.token()));
        }
    }
}
