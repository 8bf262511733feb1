//! Claims that are a transaction: the store begins the handler's transaction, and that transaction
//! holds the claim.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;

use super::{Claim, ClaimRequest, Ending, Outcome, Run, Store};
use crate::error::StoreError;

/// A store whose transaction can be the claim; see
/// [`Builder::claim_in_transaction`](crate::Builder::claim_in_transaction).
///
/// The claim has no lease. It holds while the transaction is open and ends with it. Nothing is
/// written before the completion, so a run that dies leaves nothing.
///
/// `PostgresStore` and `SqliteStore` implement it, and [`Arc`] and `Layered` do around one of them.
/// A program that chooses its store when it starts builds its layers in a generic function, once
/// for each store.
///
/// # The contract
///
/// In addition to the contract of [`Store`]. `conformance::check_transactions` checks each number.
///
/// 1. *First claim.* The claim of a record unknown to the store is `Run`, attempt 1, no orphan, no
///    checkpoint.
/// 2. *One runner.* While the transaction is open, no other claim of its record runs, leased or in
///    a transaction. It is `InFlight`, fails as `Unavailable`, or waits for the end.
/// 3. *Replay.* After `complete`, a claim of either kind is `Claim::Replay` with the same response,
///    byte for byte, or `Claim::Tombstone` with the same reason.
/// 4. *Rollback.* When `roll_back` returns, the next claim of either kind runs at once: attempt 1,
///    any fingerprint.
/// 5. *Drop.* A transaction that is dropped ends soon after, and leaves what a rollback leaves.
/// 6. *Mismatch.* A claim whose fingerprint does not match the record's is `Claim::Mismatch`,
///    whether the record is leased, an orphan, or complete. It changes nothing.
/// 7. *Lease.* While a leased claim holds, a claim in the transaction is `InFlight` with the rest
///    of the lease.
/// 8. *Takeover.* After a lease has ended, a claim in the transaction is `Run` with the next
///    attempt and the latest checkpoint, marked as an orphan. After a release with a checkpoint it
///    is the same, and no orphan.
/// 9. *First to commit.* If a leased owner is late and its heir runs in the transaction, the first
///    to complete wins. The owner's completion is then `Stale`, or the heir's is `Overtaken` with
///    the owner's response.
/// 10. *Expiry.* A record is forgotten `ttl` after its first claim. The next claim is a first
///     claim.
///
/// # Errors and cancel safety
///
/// The same as those of [`Store`]. A call that is dropped holds no claim and leaves no transaction.
pub trait ClaimsInTransaction: Store {
    /// The default of [`Builder::transaction_time`](crate::Builder::transaction_time).
    const TRANSACTION_TIME: Duration;

    /// Begins a transaction and asks for the right to run in it.
    ///
    /// If the database supports it, it ends a transaction whose client is silent for longer than
    /// `transaction_time`. `request.lease` is not used.
    fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        transaction_time: Duration,
    ) -> impl Future<Output = Result<TransactionClaim, StoreError>> + Send;
}

impl<S: ClaimsInTransaction> ClaimsInTransaction for Arc<S> {
    const TRANSACTION_TIME: Duration = S::TRANSACTION_TIME;

    async fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        transaction_time: Duration,
    ) -> Result<TransactionClaim, StoreError> {
        S::claim_in_transaction(self, request, transaction_time).await
    }
}

/// The answer to [`ClaimsInTransaction::claim_in_transaction`].
#[non_exhaustive]
pub enum TransactionClaim {
    /// The caller runs in this transaction. The fence of the run is not used.
    Run(Run, Box<dyn ClaimTransaction>),
    /// The caller does not run. Never [`Claim::Run`].
    Answered(Claim),
}

impl fmt::Debug for TransactionClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run, _) => f.debug_tuple("Run").field(run).finish_non_exhaustive(),
            Self::Answered(claim) => f.debug_tuple("Answered").field(claim).finish(),
        }
    }
}

/// The layer's end of a transaction that is a claim.
///
/// The layer calls exactly one of [`complete`](Self::complete) and [`roll_back`](Self::roll_back),
/// or drops this value, which rolls back and gives up the claim. The handler's end is over when the
/// transaction ends.
///
/// # Errors
///
/// [`Unavailable`](crate::StoreErrorKind::Unavailable) if it is unknown whether the commit took
/// effect. Every other error means that everything was rolled back.
pub trait ClaimTransaction: Send + 'static {
    /// Puts the handler's end into the extensions of the request.
    fn offer(&self, extensions: &mut Extensions);

    /// Returns whether the handler asked to commit its rows with any response that is stored.
    fn keeps_on_error(&self) -> bool;

    /// Writes the outcome and commits. If `with_rows` is `false`, the handler's rows are rolled
    /// back first.
    fn complete(self: Box<Self>, outcome: Outcome, with_rows: bool) -> Ending<Completion>;

    /// Undoes everything and gives up the claim. When it returns, a retry can run.
    ///
    /// # Errors
    ///
    /// [`RolledBack`](crate::StoreErrorKind::RolledBack) if the handler may have read rows of
    /// others that were never committed. Its response must not be given.
    fn roll_back(self: Box<Self>) -> Ending<()>;
}

/// The result of [`ClaimTransaction::complete`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Completion {
    /// The outcome is stored, and the rows are committed.
    Committed,
    /// Another run completed the record first. Everything was rolled back, and this is the answer
    /// of the record. Never [`Claim::Run`].
    Overtaken(Claim),
}
