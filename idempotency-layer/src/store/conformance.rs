//! Tests for stores: one for each number of the [store's contract](crate::Store#the-contract).
//!
//! To test your store, add this crate with the feature `conformance` to your dev-dependencies.
//! Implement [`Harness`], which opens the store and lets time pass, and call
//! [`conformance_tests!`](crate::conformance_tests):
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use idempotency_layer::MemoryStore;
//! use idempotency_layer::conformance::{Clause, Harness};
//!
//! #[derive(Default)]
//! struct Memory(Arc<MemoryStore>);
//!
//! impl Harness for Memory {
//!     type Store = Arc<MemoryStore>;
//!
//!     async fn store(&self) -> Self::Store {
//!         self.0.clone()
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! // Seventeen tests, from `clause_01_first_claim` to `clause_17_cancellation`.
//! idempotency_layer::conformance_tests!(Memory::default(), flavor = "current_thread", start_paused = true);
//!
//! // Or call the checks yourself.
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! for clause in Clause::ALL {
//!     clause.check(&Memory::default()).await;
//! }
//! # }
//! ```
//!
//! Also call [`check_purge`] for a store that implements [`Purge`](crate::Purge), and
//! [`check_transactions`] for one that implements
//! [`ClaimsInTransaction`](crate::ClaimsInTransaction).
//!
//! A check panics if the store breaks the clause or returns a [`StoreError`](crate::StoreError).
//! The message contains the number, the sentence and what the check saw.
//!
//! # What the checks assume
//!
//! - **Records** are new in each check, so checks may share a database, also at the same time.
//! - **Time** is counted in [`Harness::unit`]s. A check that needs a live lease or record leaves
//!   its last unit to the verbs in between. A check that needs an ended one waits for exactly its
//!   end.
//! - **Handles**: a check uses several handles in turn, to find state that a handle does not share.
//! - **Races** are run [`Harness::rounds`] times, by up to 64 tasks. On a runtime with one thread
//!   they meet only at the store's awaits, so test a store with locks on a runtime with several
//!   threads.
//!
//! The checks do not test that the store uses its own clock, that records outlive the process, or
//! that a verb that was dropped does not take effect much later.

mod cancellation;
mod claims;
mod expiry;
mod fences;
mod leases;
mod outcomes;
mod probe;
mod purge;
mod records;
mod transactions;

use std::fmt;
use std::time::Duration;

use self::probe::Probe;
pub use self::purge::check_purge;
pub use self::transactions::{TransactionClause, check_transactions};
use crate::store::Store;

/// Opens the store under test and lets its time pass.
pub trait Harness: Sync {
    /// The store under test.
    type Store: Store;

    /// Opens a new handle to the same records, as another process would.
    fn store(&self) -> impl Future<Output = Self::Store> + Send;

    /// Lets at least this much time pass on the store's clock.
    ///
    /// By default it sleeps, which a database needs. For a store that uses [`tokio::time`], pause
    /// the clock and call `tokio::time::advance`.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(by)
    }

    /// Returns the unit of time: 100 ms by default, which is enough for a database nearby.
    ///
    /// It must be longer than thirty verbs take together with the lateness of
    /// [`advance`](Self::advance). A check lets at most thirty units pass.
    fn unit(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Returns how many times a race is run: 100 by default.
    fn rounds(&self) -> usize {
        100
    }
}

/// A number of the [store's contract](crate::Store#the-contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`sentence` says what they are")]
pub enum Clause {
    FirstClaim = 1,
    OneRunner,
    Replay,
    Mismatch,
    Release,
    Fences,
    Takeover,
    Extend,
    OneHeir,
    Expiry,
    LostAcknowledgement,
    RepeatedCompletion,
    Tombstone,
    Checkpoint,
    Independence,
    LateButFirst,
    Cancellation,
}

impl Clause {
    /// All clauses, in order.
    pub const ALL: &'static [Self] = &[
        Self::FirstClaim,
        Self::OneRunner,
        Self::Replay,
        Self::Mismatch,
        Self::Release,
        Self::Fences,
        Self::Takeover,
        Self::Extend,
        Self::OneHeir,
        Self::Expiry,
        Self::LostAcknowledgement,
        Self::RepeatedCompletion,
        Self::Tombstone,
        Self::Checkpoint,
        Self::Independence,
        Self::LateButFirst,
        Self::Cancellation,
    ];

    /// Returns the number, from 1.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the text, with the name in front.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::FirstClaim => {
                "First claim. The claim of a record unknown to the store is Claim::Run, attempt 1, no orphan, no \
                 checkpoint."
            }
            Self::OneRunner => {
                "One runner. Of any number of concurrent claims of one record, one is Run. The others are \
                 Claim::InFlight with the rest of the lease: more than zero, at most the lease."
            }
            Self::Replay => {
                "Replay. After complete with a response, a claim is Claim::Replay with the same response, byte \
                 for byte, and with the rest of the time to live: more than zero, at most the time to live."
            }
            Self::Mismatch => {
                "Mismatch. A claim whose fingerprint does not match the record's is Claim::Mismatch, whether the \
                 record is running, complete or a tombstone. It changes nothing."
            }
            Self::Release => {
                "Release. After release, the next claim is Run at once, and no orphan. Without a checkpoint the \
                 record is forgotten: attempt 1, any fingerprint. With a checkpoint the record is kept: next \
                 attempt, the checkpoint, the same fingerprint."
            }
            Self::Fences => {
                "Fences. complete, release, extend and checkpoint with a fence that is not the record's current \
                 one are Fenced::Stale and change nothing. The fences of a record only grow, also after it was \
                 released, taken over, or forgotten."
            }
            Self::Takeover => {
                "Takeover. A claim is not given away before its lease ends. After that, the next claim is Run \
                 with the next attempt, marked as an orphan."
            }
            Self::Extend => "Extend. The lease ends lease after the call. A lease of zero ends at once.",
            Self::OneHeir => {
                "One heir. Of any number of concurrent claims of an orphan, one is Run. The others are InFlight."
            }
            Self::Expiry => {
                "Expiry. A record is forgotten ttl after its first claim, but never while a lease on it holds. \
                 The next claim is a first claim, except that its fence has grown."
            }
            Self::LostAcknowledgement => {
                "Lost acknowledgement. A claim with the token of the running claim is that claim: Run, same \
                 fence, same attempt, with a fresh lease."
            }
            Self::RepeatedCompletion => {
                "Repeated completion. complete with the fence that has completed the record is Fenced::Held, and \
                 the first outcome stays."
            }
            Self::Tombstone => {
                "Tombstone. After complete with a tombstone, a claim is Claim::Tombstone with the same reason."
            }
            Self::Checkpoint => {
                "Checkpoint. Each later Run of a record carries its latest checkpoint, byte for byte."
            }
            Self::Independence => "Independence. A verb on one record changes no other record.",
            Self::LateButFirst => {
                "Late but first. A claim whose lease has ended still holds its fence until another claim takes \
                 over."
            }
            Self::Cancellation => {
                "Cancellation. A verb whose future is dropped takes effect completely, or not at all."
            }
        }
    }

    /// Checks that the store keeps this clause.
    ///
    /// # Panics
    ///
    /// If the store does not, or if a verb fails.
    pub async fn check<H: Harness>(self, harness: &H) {
        let probe = &Probe::new(self, harness).await;
        match self {
            Self::FirstClaim => claims::first_claim(probe).await,
            Self::OneRunner => claims::one_runner(probe).await,
            Self::Replay => outcomes::replay(probe).await,
            Self::Mismatch => records::mismatch(probe).await,
            Self::Release => records::release(probe).await,
            Self::Fences => fences::fences(probe).await,
            Self::Takeover => leases::takeover(probe).await,
            Self::Extend => leases::extend(probe).await,
            Self::OneHeir => claims::one_heir(probe).await,
            Self::Expiry => expiry::expiry(probe).await,
            Self::LostAcknowledgement => claims::lost_acknowledgement(probe).await,
            Self::RepeatedCompletion => outcomes::repeated_completion(probe).await,
            Self::Tombstone => outcomes::tombstone(probe).await,
            Self::Checkpoint => records::checkpoint_kept(probe).await,
            Self::Independence => records::independence(probe).await,
            Self::LateButFirst => leases::late_but_first(probe).await,
            Self::Cancellation => cancellation::cancellation(probe).await,
        }
    }
}

/// Number and text, as a failed check begins.
impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}, {}", self.number(), self.sentence())
    }
}

/// Writes a test for each clause of the store's contract, `clause_01_first_claim` to
/// `clause_17_cancellation`.
///
/// The first argument is an expression that makes the [`Harness`](crate::conformance::Harness).
/// Each test evaluates it, and it may await. Further arguments are passed to `#[tokio::test]`,
/// which the calling crate must have. Without them the tests run on four threads. See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr $(,)?) => {
        $crate::conformance_tests!($harness, flavor = "multi_thread", worker_threads = 4);
    };
    ($harness:expr, $($runtime:tt)+) => {
        $crate::conformance_tests! { @each [$harness] [$($runtime)+]
            clause_01_first_claim FirstClaim
            clause_02_one_runner OneRunner
            clause_03_replay Replay
            clause_04_mismatch Mismatch
            clause_05_release Release
            clause_06_fences Fences
            clause_07_takeover Takeover
            clause_08_extend Extend
            clause_09_one_heir OneHeir
            clause_10_expiry Expiry
            clause_11_lost_acknowledgement LostAcknowledgement
            clause_12_repeated_completion RepeatedCompletion
            clause_13_tombstone Tombstone
            clause_14_checkpoint Checkpoint
            clause_15_independence Independence
            clause_16_late_but_first LateButFirst
            clause_17_cancellation Cancellation
        }
    };
    (@each $harness:tt $runtime:tt $($name:ident $clause:ident)+) => {
        $($crate::conformance_tests! { @one $harness $runtime $name $clause })+
    };
    (@one [$harness:expr] [$($runtime:tt)+] $name:ident $clause:ident) => {
        #[::tokio::test($($runtime)+)]
        async fn $name() {
            $crate::conformance::Clause::$clause.check(&$harness).await;
        }
    };
}
