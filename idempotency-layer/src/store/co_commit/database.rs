//! What beginning and ending a transaction takes on one database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Database, Pool};
use tokio::sync::Semaphore;

use crate::store::seen::{Running, Seen};
use crate::store::{ClaimRequest, ClaimToken, Outcome};

/// The databases that co-commit: [`sqlx::Postgres`] and [`sqlx::Sqlite`].
pub trait CoCommitDatabase: Database + private::ClaimStatements {}

impl<DB: Database + private::ClaimStatements> CoCommitDatabase for DB {}

/// What a transaction of ours is known by. The database keeps it until the transaction ends, however it ends.
///
/// Nothing a client library believes about its connection is evidence: the statement that stores the response asks the
/// database whether it runs inside the very transaction that was lent.
#[derive(Debug)]
pub struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        Self::of(ClaimToken::new())
    }

    pub(super) fn of(token: ClaimToken) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(32);
        for byte in token.as_bytes() {
            let _ = write!(hex, "{byte:02x}"); // a String takes everything
        }
        Self(hex)
    }

    /// 32 hexadecimal digits: safe in any SQL.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a transaction in which the response was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The response is written, and is committed with the transaction.
    Held,
    /// The fence is not the record's any more. The transaction is still open.
    Stale,
    /// The statement did not run inside the transaction that was lent: somebody else ended it.
    Elsewhere,
}

/// Why a COMMIT is not known to have taken effect.
#[derive(Debug)]
pub enum CommitError {
    /// The database says that it rolled back.
    RolledBack(sqlx::Error),
    /// It is not known.
    Unknown(sqlx::Error),
}

pub(super) mod private {
    use std::time::Duration;

    use sqlx::Database;
    use sqlx::pool::PoolConnection;
    use tokio::runtime::Handle;

    use super::{Claims, CommitError, CompletedClaim, Mark, Written};
    use crate::error::StoreError;
    use crate::store::seen::Seen;
    use crate::store::{Claim, ClaimRequest, Fence, Outcome, RecordId};

    /// What beginning and ending a transaction takes on one database.
    pub trait Statements: Database {
        /// What a store hands to each of its requests: the pool, and what it knows of its tables.
        type Home: Clone + Send + Sync + 'static;

        /// What goes with the connection while it is lent.
        type Guard: Send + Sync + 'static;

        /// Acquires a connection of the application's pool, for a transaction that will carry the mark.
        fn acquire(
            home: &Self::Home,
            mark: &Mark,
        ) -> impl Future<Output = Result<(PoolConnection<Self>, Self::Guard), sqlx::Error>> + Send;

        /// Begins a transaction that carries the mark.
        fn begin(
            home: &Self::Home,
            connection: &mut Self::Connection,
            guard: &mut Self::Guard,
            mark: &Mark,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Whether the connection is within the transaction of this mark, and that can be committed.
        ///
        /// # Errors
        ///
        /// `RolledBack` where it can only be rolled back.
        fn check(
            connection: &mut Self::Connection,
            mark: &Mark,
        ) -> impl Future<Output = Result<bool, StoreError>> + Send;

        /// Completes a record inside the transaction of this mark.
        ///
        /// # Errors
        ///
        /// `RolledBack` where the transaction can only be rolled back.
        fn complete(
            home: &Self::Home,
            connection: &mut Self::Connection,
            mark: &Mark,
            record: RecordId,
            fence: Fence,
            outcome: &Outcome,
        ) -> impl Future<Output = Result<Written, StoreError>> + Send;

        /// Commits the transaction. After `Ok` the connection is in none, or was taken out and given to somebody else.
        fn commit(
            connection: &mut Option<PoolConnection<Self>>,
            guard: &mut Self::Guard,
        ) -> impl Future<Output = Result<(), CommitError>> + Send;

        /// Rolls the transaction back. `true`: the connection is in none, and can be used again, or was taken out.
        ///
        /// # Errors
        ///
        /// Also when rows that the transaction may have read were never committed.
        fn roll_back(
            connection: &mut Option<PoolConnection<Self>>,
            guard: &mut Self::Guard,
        ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

        /// Returns whether the transaction may have read rows that are not committed yet.
        fn reads_uncommitted(_: &Self::Guard) -> bool {
            false
        }

        /// Ends the connection's transaction whatever state it is in, with the connection if need be.
        fn discard(connection: PoolConnection<Self>, guard: Self::Guard, runtime: &Handle);

        /// What a transaction means that was ended by somebody else: whether everything written in it is rolled back for
        /// certain.
        const ELSEWHERE_IS_ROLLED_BACK: bool;

        /// Whether the record was completed under this fence, after the end of every transaction that is about to do so.
        fn is_completed(
            home: &Self::Home,
            record: RecordId,
            fence: Fence,
        ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    }

    /// What a claim inside the transaction takes, besides.
    pub trait ClaimStatements: Statements {
        /// How many transactions may be claims at a time, and which records run in them.
        fn claims(home: &Self::Home) -> &Claims;

        /// Answers a claim without a transaction, where that waits for nobody. `None`: begin one.
        fn peek(home: &Self::Home, request: &ClaimRequest) -> impl Future<Output = Option<Claim>> + Send;

        /// Begins a transaction that carries the mark and tries the lock of the record, and reads the record after that.
        ///
        /// `true`: the lock is ours until the transaction ends.
        fn begin_claim(
            home: &Self::Home,
            connection: &mut Self::Connection,
            guard: &mut Self::Guard,
            mark: &Mark,
            request: &ClaimRequest,
            transaction_time: Duration,
        ) -> impl Future<Output = Result<(bool, Option<Seen>), sqlx::Error>> + Send;

        /// Undoes what the handler wrote. Mark and lock stay.
        fn roll_back_handler(
            connection: &mut Self::Connection,
            mark: &Mark,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Writes the completed record, if the record is still as it was seen.
        fn complete_claim(
            home: &Self::Home,
            connection: &mut Self::Connection,
            mark: &Mark,
            completed: &CompletedClaim<'_>,
        ) -> impl Future<Output = Result<Written, StoreError>> + Send;

        /// Reads the record after the end of every transaction that claims it.
        fn look_up(
            home: &Self::Home,
            request: &ClaimRequest,
        ) -> impl Future<Output = Result<Option<Seen>, StoreError>> + Send;
    }
}

/// A record that is written complete.
#[derive(Debug)]
pub struct CompletedClaim<'a> {
    pub(in crate::store) request: &'a ClaimRequest,
    /// The record that is overwritten, as it was seen; its fence and its state are compared.
    pub(in crate::store) seen: Option<&'a Seen>,
    pub(in crate::store) attempt: u32,
    pub(in crate::store) orphan: bool,
    pub(in crate::store) outcome: &'a Outcome,
}

/// What claims in the transaction share in a process.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Less than the pool has connections: handlers that ask the pool for one more must not wait for one another.
    pub(super) places: Arc<Semaphore>,
    /// For a place, and for a connection.
    pub(super) patience: Duration,
    pub(super) running: Running,
}

impl Claims {
    pub(in crate::store) fn new<DB: Database>(pool: &Pool<DB>) -> Self {
        let connections = pool.options().get_max_connections();
        let places = connections.saturating_sub((connections / 4).max(1)).max(1);
        Self {
            places: Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS))),
            patience: pool.options().get_acquire_timeout(),
            running: Running::default(),
        }
    }
}
