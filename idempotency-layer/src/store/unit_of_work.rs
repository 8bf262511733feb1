//! What a handler writes into the store's own database, committed with the outcome of its request.

use std::pin::Pin;

use super::{Fence, Fenced, Outcome, RecordId};
use crate::error::StoreError;

/// The writes of one request, as the layer sees them: all of them and the outcome of the request, or nothing.
///
/// A store whose database also holds the handler's rows makes one for each request
/// ([`Store::unit_of_work`](super::Store::unit_of_work)) and leaves the handler its own end of it in the request's
/// extensions. Beginning it is up to the handler; ending it is up to the layer, which calls exactly one of
/// [`complete`](Self::complete), [`commit`](Self::commit) and [`roll_back`](Self::roll_back), or drops it.
///
/// # Errors
///
/// [`Unavailable`](crate::StoreErrorKind::Unavailable) where it is not known whether the commit took effect; every other
/// error says that everything was rolled back.
///
/// # Cancel safety
///
/// Dropped before it was ended, or while it is being ended, it has committed whole or not at all; before the commit was
/// sent it is rolled back.
pub trait UnitOfWork: Send + 'static {
    /// Whether the handler began it. Where it did not, the outcome goes into the store without it.
    fn is_begun(&self) -> bool;

    /// Writes the outcome under its fence and commits it together with what the handler wrote. A stale fence rolls back.
    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced>;

    /// Commits what the handler wrote for a request that has no record.
    fn commit(self: Box<Self>) -> Ending<()>;

    /// Undoes what the handler wrote. Where that fails, the end of the connection does it.
    fn roll_back(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The end of a [`UnitOfWork`].
pub type Ending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;
