//! One test for each number of the [scheduler's contract](crate::RetryScheduler#the-contract), for
//! anybody's scheduler.
//!
//! Whoever wrote a scheduler takes this crate with the feature `conformance` as a development
//! dependency, says in a
//! [`Harness`] how the scheduler is opened, and lets [`conformance_tests!`](crate::conformance_tests) write the tests:
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use std::sync::Arc;
//!
//! use retry_scheduler::conformance::{Clause, Harness, clock};
//! use retry_scheduler::{ManualClock, MemoryScheduler};
//!
//! struct Memory(Arc<MemoryScheduler>, ManualClock);
//!
//! impl Memory {
//!     fn new() -> Self {
//!         let clock = clock();
//!         Self(Arc::new(MemoryScheduler::default().with_clock(clock.clone())), clock)
//!     }
//! }
//!
//! impl Harness for Memory {
//!     type Scheduler = Arc<MemoryScheduler>;
//!
//!     async fn scheduler(&self) -> Self::Scheduler {
//!         self.0.clone()
//!     }
//!
//!     fn clock(&self) -> &ManualClock {
//!         &self.1
//!     }
//! }
//!
//! // A test for each clause: `clause_01_begin`, and so on.
//! retry_scheduler::conformance_tests!(Memory::new());
//! retry_scheduler::admin_conformance_tests!(Memory::new());
//!
//! // The same by hand.
//! # #[tokio::main]
//! # async fn main() {
//! for clause in Clause::ALL {
//!     clause.check(&Memory::new()).await;
//! }
//! # }
//! ```
//!
//! A [`TransactionalScheduler`](crate::TransactionalScheduler) has five more, 27 to 31: [`TransactionalHarness`] and
//! [`transactional_conformance_tests!`](crate::transactional_conformance_tests). A [`CycleAdmin`] has another five, 44 to
//! 48: [`admin_conformance_tests!`](crate::admin_conformance_tests).
//!
//! A check panics when the scheduler breaks its clause, or fails with a [`SchedulerError`](crate::SchedulerError) where it
//! should not, and the message names the number, the sentence and what was seen.
//!
//! # What the checks assume
//!
//! - **Cycles**: there are none at first, and none but those of the check. A database is made, or emptied, for each.
//! - **Time** stands still but where a check moves the harness's clock, and only goes forward. A scheduler that asks its
//!   database for the time takes it from that clock instead.
//! - **Handles**: the verbs of a check go round several handles, so that what a handle keeps to itself shows.
//! - **Races** are run [`Harness::rounds`] times, by as many as 16 tasks. On a runtime with one thread they meet only
//!   where the scheduler awaits: one that locks threads out needs a runtime with several.
//!
//! What stays untested: that a scheduler that was given no clock asks its database, that cycles outlive its process, that a
//! verb dropped half way does not take effect much later, and whether claims stay fast.

mod admin;
mod cancellation;
mod claims;
mod crowd;
mod ends;
mod fences;
mod leases;
mod lives;
mod namespaces;
mod plans;
mod probe;
mod races;
mod reports;
mod sentences;
mod starts;
mod texts;
mod transactions;

use std::fmt;
use std::ops::DerefMut;
use std::time::{Duration, SystemTime};

use self::probe::Probe;
use crate::admin::CycleAdmin;
use crate::clock::ManualClock;
use crate::cycle::{Cycle, CycleKey, EndReason};
use crate::scheduler::{RetryScheduler, TransactionalScheduler};

/// How to open a scheduler, and the clock it goes by.
pub trait Harness: Sync {
    /// The scheduler under test.
    type Scheduler: RetryScheduler;

    /// A new handle on the cycles of this harness, as another process would open it.
    fn scheduler(&self) -> impl Future<Output = Self::Scheduler> + Send;

    /// The clock of all its handles: [`clock()`], which the check moves.
    fn clock(&self) -> &ManualClock;

    /// How many times a race is run: 50 by default.
    fn rounds(&self) -> usize {
        50
    }

    /// How many due cycles lie before the one that is wanted, and how many tenants have cycles that are due later: 3000 by
    /// default.
    fn crowd(&self) -> usize {
        3_000
    }

    /// Makes a cycle unreadable, as a newer version of the scheduler may have written it. Returns whether the harness can.
    fn spoil(&self, key: &CycleKey) -> impl Future<Output = bool> + Send {
        let _ = key;
        std::future::ready(false)
    }

    /// Makes a cycle readable again.
    fn mend(&self, key: &CycleKey) -> impl Future<Output = ()> + Send {
        let _ = key;
        std::future::ready(())
    }

    /// Puts an idle cycle back as it was, as a failover to a replica that lagged does. Returns whether the harness can.
    fn restore(&self, before: &Cycle) -> impl Future<Output = bool> + Send {
        let _ = before;
        std::future::ready(false)
    }

    /// Returns the endings that the scheduler has told its hook of, in order, if the harness sets one.
    fn endings(&self) -> Option<Vec<(CycleKey, EndReason)>> {
        None
    }
}

/// A harness of a scheduler with the verbs of operators.
pub trait AdminHarness: Harness<Scheduler: CycleAdmin> {}

impl<H: Harness<Scheduler: CycleAdmin>> AdminHarness for H {}

/// How to begin and end a transaction of the caller's.
pub trait TransactionalHarness: Harness<Scheduler: TransactionalScheduler<Self::Connection>> {
    /// What a transaction is open on.
    type Connection: Send;
    /// A transaction: rolled back when it is dropped.
    type Transaction: DerefMut<Target = Self::Connection> + Send;

    /// Begins a transaction in which is written. It may have to wait for another one.
    fn begin(&self) -> impl Future<Output = Self::Transaction> + Send;

    /// Commits it.
    fn commit(&self, transaction: Self::Transaction) -> impl Future<Output = ()> + Send;

    /// Rolls it back, and waits until that is done.
    fn roll_back(&self, transaction: Self::Transaction) -> impl Future<Output = ()> + Send;
}

/// A clock for a harness: it stands at the first second of 2026, and some milliseconds.
pub fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123))
}

/// A number of the [scheduler's contract](crate::RetryScheduler#the-contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`sentence` says what they are")]
pub enum Clause {
    Begin = 1,
    OneCycle,
    Due,
    Order,
    Share,
    Fairness,
    OneHolder,
    Takeover,
    Extend,
    Fences,
    LateButFirst,
    Success,
    Failure,
    Exhaustion,
    LastStart,
    Attempts,
    ManyReports,
    Defer,
    Cancel,
    FirstCome,
    Reschedule,
    Reactivation,
    NextWake,
    Bounds,
    Independence,
    Cancellation,
    Namespaces = 32,
    Unreadable,
    Nonces,
    OwnDelay,
    Jitter,
    DeferralBound,
    EndReasons,
    Metadata,
    AttemptPages,
    Purge,
    ManyVerbs,
    EndingsTold,
}

/// A number of the [contract of transactions](TransactionalScheduler#the-contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`sentence` says what they are")]
pub enum TransactionClause {
    Commit = 27,
    Rollback,
    NotBefore,
    FirstCommitWins,
    StaleReport,
}

/// A number of the [contract of operators' verbs](CycleAdmin#the-contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`sentence` says what they are")]
pub enum AdminClause {
    Pause = 44,
    List,
    Counts,
    RunNow,
    ChangeMany,
}

impl Clause {
    /// All of them, in order.
    pub const ALL: &'static [Self] = &[
        Self::Begin,
        Self::OneCycle,
        Self::Due,
        Self::Order,
        Self::Share,
        Self::Fairness,
        Self::OneHolder,
        Self::Takeover,
        Self::Extend,
        Self::Fences,
        Self::LateButFirst,
        Self::Success,
        Self::Failure,
        Self::Exhaustion,
        Self::LastStart,
        Self::Attempts,
        Self::ManyReports,
        Self::Defer,
        Self::Cancel,
        Self::FirstCome,
        Self::Reschedule,
        Self::Reactivation,
        Self::NextWake,
        Self::Bounds,
        Self::Independence,
        Self::Cancellation,
        Self::Namespaces,
        Self::Unreadable,
        Self::Nonces,
        Self::OwnDelay,
        Self::Jitter,
        Self::DeferralBound,
        Self::EndReasons,
        Self::Metadata,
        Self::AttemptPages,
        Self::Purge,
        Self::ManyVerbs,
        Self::EndingsTold,
    ];

    /// Its number, from 1.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its text, with its name in front.
    pub fn sentence(self) -> &'static str {
        sentences::of(self.number())
    }

    /// Checks that the scheduler keeps this clause.
    ///
    /// # Panics
    ///
    /// When it does not, and when a verb fails.
    pub async fn check<H: Harness>(self, harness: &H) {
        let probe = &Probe::new(self, harness).await;
        match self {
            Self::Begin => starts::begin(probe).await,
            Self::OneCycle => starts::one_cycle(probe).await,
            Self::Due => claims::due(probe).await,
            Self::Order => claims::order(probe).await,
            Self::Share => crowd::share(probe).await,
            Self::Fairness => crowd::fairness(probe).await,
            Self::OneHolder => races::one_holder(probe).await,
            Self::Takeover => leases::takeover(probe).await,
            Self::Extend => leases::extend(probe).await,
            Self::Fences => fences::fences(probe).await,
            Self::LateButFirst => leases::late_but_first(probe).await,
            Self::Success => reports::success(probe).await,
            Self::Failure => reports::failure(probe).await,
            Self::Exhaustion => reports::exhaustion(probe).await,
            Self::LastStart => ends::last_start(probe).await,
            Self::Attempts => reports::attempts(probe).await,
            Self::ManyReports => reports::many_reports(probe).await,
            Self::Defer => leases::defer(probe).await,
            Self::Cancel => ends::cancel(probe).await,
            Self::FirstCome => races::first_come(probe).await,
            Self::Reschedule => ends::reschedule(probe).await,
            Self::Reactivation => ends::reactivation(probe).await,
            Self::NextWake => claims::next_wake(probe).await,
            Self::Bounds => texts::bounds(probe).await,
            Self::Independence => texts::independence(probe).await,
            Self::Cancellation => cancellation::cancellation(probe).await,
            Self::Namespaces => namespaces::namespaces(probe).await,
            Self::Unreadable => namespaces::unreadable(probe).await,
            Self::Nonces => plans::nonces(probe).await,
            Self::OwnDelay => plans::own_delay(probe).await,
            Self::Jitter => plans::jitter(probe).await,
            Self::DeferralBound => plans::deferral_bound(probe).await,
            Self::EndReasons => lives::end_reasons(probe).await,
            Self::Metadata => lives::metadata(probe).await,
            Self::AttemptPages => lives::attempt_pages(probe).await,
            Self::Purge => lives::purge(probe).await,
            Self::ManyVerbs => lives::many_verbs(probe).await,
            Self::EndingsTold => lives::endings_told(probe).await,
        }
    }
}

impl TransactionClause {
    /// All of them, in order.
    pub const ALL: &'static [Self] =
        &[Self::Commit, Self::Rollback, Self::NotBefore, Self::FirstCommitWins, Self::StaleReport];

    /// Its number, from 27.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its text, with its name in front.
    pub fn sentence(self) -> &'static str {
        sentences::of(self.number())
    }

    /// Checks that the scheduler keeps this clause.
    ///
    /// # Panics
    ///
    /// When it does not, and when a verb fails.
    pub async fn check<H: TransactionalHarness>(self, harness: &H) {
        let probe = &Probe::new(self, harness).await;
        match self {
            Self::Commit => transactions::commit(probe).await,
            Self::Rollback => transactions::rollback(probe).await,
            Self::NotBefore => transactions::not_before(probe).await,
            Self::FirstCommitWins => transactions::first_commit_wins(probe).await,
            Self::StaleReport => transactions::stale_report(probe).await,
        }
    }
}

impl AdminClause {
    /// All of them, in order.
    pub const ALL: &'static [Self] = &[Self::Pause, Self::List, Self::Counts, Self::RunNow, Self::ChangeMany];

    /// Its number, from 44.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its text, with its name in front.
    pub fn sentence(self) -> &'static str {
        sentences::of(self.number())
    }

    /// Checks that the scheduler keeps this clause.
    ///
    /// # Panics
    ///
    /// When it does not, and when a verb fails.
    pub async fn check<H: AdminHarness>(self, harness: &H) {
        let probe = &Probe::new(self, harness).await;
        match self {
            Self::Pause => admin::pause(probe).await,
            Self::List => admin::list(probe).await,
            Self::Counts => admin::counts(probe).await,
            Self::RunNow => admin::run_now(probe).await,
            Self::ChangeMany => admin::change_many(probe).await,
        }
    }
}

/// Number and text, as a failed check begins.
impl fmt::Display for AdminClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}, {}", self.number(), self.sentence())
    }
}

/// Number and text, as a failed check begins.
impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}, {}", self.number(), self.sentence())
    }
}

/// Number and text, as a failed check begins.
impl fmt::Display for TransactionClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}, {}", self.number(), self.sentence())
    }
}

/// Writes a test for each clause of the scheduler's contract, from `clause_01_begin` on.
///
/// The first argument makes the [`Harness`](crate::conformance::Harness), anew in each test; it may await. What follows
/// goes to `#[tokio::test]`, which the calling crate must have; without it the tests run on four threads. See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr $(,)?) => {
        $crate::conformance_tests!($harness, flavor = "multi_thread", worker_threads = 4);
    };
    ($harness:expr, $($runtime:tt)+) => {
        $crate::conformance_tests! { @each [$harness] [$($runtime)+] Clause
            clause_01_begin Begin
            clause_02_one_cycle OneCycle
            clause_03_due Due
            clause_04_order Order
            clause_05_share Share
            clause_06_fairness Fairness
            clause_07_one_holder OneHolder
            clause_08_takeover Takeover
            clause_09_extend Extend
            clause_10_fences Fences
            clause_11_late_but_first LateButFirst
            clause_12_success Success
            clause_13_failure Failure
            clause_14_exhaustion Exhaustion
            clause_15_last_start LastStart
            clause_16_attempts Attempts
            clause_17_many_reports ManyReports
            clause_18_defer Defer
            clause_19_cancel Cancel
            clause_20_first_come FirstCome
            clause_21_reschedule Reschedule
            clause_22_reactivation Reactivation
            clause_23_next_wake NextWake
            clause_24_bounds Bounds
            clause_25_independence Independence
            clause_26_cancellation Cancellation
            clause_32_namespaces Namespaces
            clause_33_unreadable Unreadable
            clause_34_nonces Nonces
            clause_35_own_delay OwnDelay
            clause_36_jitter Jitter
            clause_37_deferral_bound DeferralBound
            clause_38_end_reasons EndReasons
            clause_39_metadata Metadata
            clause_40_attempt_pages AttemptPages
            clause_41_purge Purge
            clause_42_many_verbs ManyVerbs
            clause_43_endings_told EndingsTold
        }
    };
    (@each $harness:tt $runtime:tt $clauses:ident $($name:ident $clause:ident)+) => {
        $($crate::conformance_tests! { @one $harness $runtime $clauses $name $clause })+
    };
    (@one [$harness:expr] [$($runtime:tt)+] $clauses:ident $name:ident $clause:ident) => {
        #[::tokio::test($($runtime)+)]
        async fn $name() {
            $crate::conformance::$clauses::$clause.check(&$harness).await;
        }
    };
}

/// Writes a test for each clause of the contract of transactions, `clause_27_commit` to `clause_31_stale_report`.
///
/// The arguments are those of [`conformance_tests!`](crate::conformance_tests), with a
/// [`TransactionalHarness`](crate::conformance::TransactionalHarness).
#[macro_export]
macro_rules! transactional_conformance_tests {
    ($harness:expr $(,)?) => {
        $crate::transactional_conformance_tests!($harness, flavor = "multi_thread", worker_threads = 4);
    };
    ($harness:expr, $($runtime:tt)+) => {
        $crate::conformance_tests! { @each [$harness] [$($runtime)+] TransactionClause
            clause_27_commit Commit
            clause_28_rollback Rollback
            clause_29_not_before NotBefore
            clause_30_first_commit_wins FirstCommitWins
            clause_31_stale_report StaleReport
        }
    };
}

/// Writes a test for each clause of the contract of operators' verbs, `clause_44_pause` to `clause_48_change_many`.
///
/// The arguments are those of [`conformance_tests!`](crate::conformance_tests), with an
/// [`AdminHarness`](crate::conformance::AdminHarness).
#[macro_export]
macro_rules! admin_conformance_tests {
    ($harness:expr $(,)?) => {
        $crate::admin_conformance_tests!($harness, flavor = "multi_thread", worker_threads = 4);
    };
    ($harness:expr, $($runtime:tt)+) => {
        $crate::conformance_tests! { @each [$harness] [$($runtime)+] AdminClause
            clause_44_pause Pause
            clause_45_list List
            clause_46_counts Counts
            clause_47_run_now RunNow
            clause_48_change_many ChangeMany
        }
    };
}
