//! The transaction of one request, as the layer sees it.

use std::pin::Pin;

use super::{Fence, Fenced, Outcome, RecordId};
use crate::error::StoreError;

/// The layer's end of the transaction that a store offers to the handler of one request.
///
/// A store whose database also holds the handler's rows makes one for each request
/// ([`Store::offer_transaction`](super::Store::offer_transaction)) and puts the handler's end into
/// the extensions of the request. The handler begins the transaction. The layer ends it: it calls
/// exactly one of [`complete`](Self::complete), [`commit`](Self::commit) and
/// [`roll_back`](Self::roll_back), or drops this value.
///
/// The handler's end is over when the transaction ends, even if clones of it are left.
///
/// # Errors
///
/// [`Unavailable`](crate::StoreErrorKind::Unavailable) if it is unknown whether the commit took
/// effect. Every other error means that everything was rolled back.
///
/// # Cancel safety
///
/// If it is dropped before it was ended, it is rolled back. If it is dropped while it ends, it is
/// committed completely or not at all.
pub trait RequestTransaction: Send + 'static {
    /// Returns whether the handler began the transaction. If not, the layer stores the outcome
    /// without it.
    fn is_begun(&self) -> bool;

    /// Returns whether the handler asked to commit its rows with any response that is stored.
    fn keeps_on_error(&self) -> bool {
        false
    }

    /// Writes the outcome under its fence and commits it together with what the handler wrote. A
    /// stale fence rolls back.
    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced>;

    /// Commits what the handler wrote for a request that has no record.
    fn commit(self: Box<Self>) -> Ending<()>;

    /// Undoes what the handler wrote. If that fails, the connection is closed, which undoes it too.
    ///
    /// # Errors
    ///
    /// [`RolledBack`](crate::StoreErrorKind::RolledBack) if the handler may have read rows of
    /// others that were never committed. Its response must not be given, and a retry may run.
    fn roll_back(self: Box<Self>) -> Ending<()>;
}

/// The future that ends a [`RequestTransaction`].
pub type Ending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;
