//! The statements that begin and end a transaction on one database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Database, Pool};
use tokio::sync::Semaphore;

use crate::store::seen::{Running, Seen};
use crate::store::{ClaimRequest, ClaimToken, Outcome};

/// The databases that co-commit: [`sqlx::Postgres`] and [`sqlx::Sqlite`].
pub trait CoCommitDatabase: Database + private::ClaimStatements {}

impl<DB: Database + private::ClaimStatements> CoCommitDatabase for DB {}

/// Identifies a transaction of ours. The database keeps the mark until the transaction ends,
/// however it ends.
///
/// Nothing a client library believes about its connection is evidence: the statement that stores
/// the response asks the database whether it runs inside the very transaction that was lent.
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

/// The result of writing the response in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The response is written, and is committed with the transaction.
    Held,
    /// The record has another fence by now. The transaction is still open.
    Stale,
    /// The statement did not run inside the transaction that was lent: somebody else ended it.
    Elsewhere,
}

/// Why a COMMIT did not succeed.
#[derive(Debug)]
pub enum CommitError {
    /// The database says that it rolled back.
    RolledBack(sqlx::Error),
    /// It is unknown whether it took effect.
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

    /// Begins and ends transactions on one database.
    pub trait Statements: Database {
        /// What a store gives to each request: the pool, and the names of its tables.
        type Home: Clone + Send + Sync + 'static;

        /// Goes with the connection while it is lent. Keeps others from ending the transaction, on
        /// a database that can.
        type Guard: Send + Sync + 'static;

        /// Acquires a connection of the application's pool, for a transaction that will carry the
        /// mark.
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

        /// Returns whether the connection is in the transaction of this mark, and can commit it.
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

        /// Commits the transaction. After `Ok` the connection is in none, or was taken out and
        /// given to somebody else.
        fn commit(
            connection: &mut Option<PoolConnection<Self>>,
            guard: &mut Self::Guard,
        ) -> impl Future<Output = Result<(), CommitError>> + Send;

        /// Rolls the transaction back. Returns `true` if the connection is in no transaction and
        /// can be used again, or was taken out.
        ///
        /// # Errors
        ///
        /// Also if rows that the transaction may have read were never committed.
        fn roll_back(
            connection: &mut Option<PoolConnection<Self>>,
            guard: &mut Self::Guard,
        ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

        /// Returns whether the transaction may have read rows that are not committed yet.
        fn reads_uncommitted(_: &Self::Guard) -> bool {
            false
        }

        /// Ends the transaction in whatever state it is, by closing the connection if necessary.
        fn discard(connection: PoolConnection<Self>, guard: Self::Guard, runtime: &Handle);

        /// Whether a transaction that somebody else ended is certainly rolled back.
        const ELSEWHERE_IS_ROLLED_BACK: bool;

        /// Returns whether the record was completed under this fence. Waits for every transaction
        /// that is about to do so.
        fn is_completed(
            home: &Self::Home,
            record: RecordId,
            fence: Fence,
        ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    }

    /// Claims records in a transaction.
    pub trait ClaimStatements: Statements {
        /// Returns what bounds the number of claims, and which records are running.
        fn claims(home: &Self::Home) -> &Claims;

        /// Answers a claim without a transaction, if that waits for nobody. `None`: begin one.
        fn peek(home: &Self::Home, request: &ClaimRequest) -> impl Future<Output = Option<Claim>> + Send;

        /// Begins a transaction that carries the mark, tries the record's lock, and then reads the
        /// record.
        ///
        /// Returns `true` if the lock is ours until the transaction ends.
        fn begin_claim(
            home: &Self::Home,
            connection: &mut Self::Connection,
            guard: &mut Self::Guard,
            mark: &Mark,
            request: &ClaimRequest,
            transaction_time: Duration,
        ) -> impl Future<Output = Result<(bool, Option<Seen>), sqlx::Error>> + Send;

        /// Queues a rollback that the pool sends before it lends the connection again.
        ///
        /// Returns whether it did. A database whose other writers wait for this transaction does
        /// not.
        fn queue_roll_back(_: &mut Self::Connection) -> bool {
            false
        }

        /// Undoes what the handler wrote. Keeps the mark and the lock.
        fn roll_back_handler(
            connection: &mut Self::Connection,
            mark: &Mark,
        ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

        /// Writes the completed record if it is still as it was seen.
        fn complete_claim(
            home: &Self::Home,
            connection: &mut Self::Connection,
            mark: &Mark,
            completed: &CompletedClaim<'_>,
        ) -> impl Future<Output = Result<Written, StoreError>> + Send;

        /// Reads the record. Waits for every transaction that claims it.
        fn look_up(
            home: &Self::Home,
            request: &ClaimRequest,
        ) -> impl Future<Output = Result<Option<Seen>, StoreError>> + Send;
    }
}

/// A record that is inserted complete.
#[derive(Debug)]
pub struct CompletedClaim<'a> {
    pub(in crate::store) request: &'a ClaimRequest,
    /// The record to overwrite, as it was seen. Its fence and its state are compared.
    pub(in crate::store) seen: Option<&'a Seen>,
    pub(in crate::store) attempt: u32,
    pub(in crate::store) orphan: bool,
    pub(in crate::store) outcome: &'a Outcome,
}

/// What the claims in the transaction of one process share.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Fewer than the pool's connections, so that handlers that ask the pool for one more do not
    /// wait for one another.
    pub(super) places: Arc<Semaphore>,
    /// How long to wait for a place, and for a connection.
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
