//! The transaction of one request, as the layer sees it.

use std::pin::Pin;

use super::{Fence, Fenced, Outcome, RecordId};
use crate::error::StoreError;

/// The layer's end of the transaction that a store offers to the handler of one request.
///
/// A store whose database also holds the handler's rows makes one for each request
/// ([`Store::offer_transaction`](super::Store::offer_transaction)) and puts the handler's end into the extensions of the
/// request. The handler begins the transaction. The layer ends it: it calls exactly one of
/// [`complete`](Self::complete), [`commit`](Self::commit) and [`roll_back`](Self::roll_back), or drops this value.
///
/// However it ends, the handler's end is over with it, whatever clones of it or tasks that use it are left.
///
/// # Errors
///
/// [`Unavailable`](crate::StoreErrorKind::Unavailable) if it is unknown whether the commit took effect. Every other
/// error means that everything was rolled back.
///
/// # Cancel safety
///
/// Dropped before it was ended, it is rolled back. Dropped while it is being ended, it has committed whole or not at all.
pub trait RequestTransaction: Send + 'static {
    /// Whether the handler began it. If not, the outcome goes into the store without it.
    fn is_begun(&self) -> bool;

    /// Whether the handler asked to commit its rows with whatever response is stored, instead of with a success only.
    fn keeps_on_error(&self) -> bool {
        false
    }

    /// Writes the outcome under its fence and commits it together with what the handler wrote. A stale fence rolls back.
    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced>;

    /// Commits what the handler wrote for a request that has no record.
    fn commit(self: Box<Self>) -> Ending<()>;

    /// Undoes what the handler wrote. Where that fails, the end of the connection does it.
    fn roll_back(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The end of a [`RequestTransaction`].
pub type Ending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;
