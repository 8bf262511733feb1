//! Reading a record without a claim.

use std::sync::Arc;

use super::{RecordId, Store};
use crate::error::StoreError;

/// A store that can look at a record without claiming it.
pub trait Inspect: Store {
    /// Returns whether a claim of `record` would be answered and not run: the record is complete,
    /// or another request holds its lease. Writes nothing, and does not look at fingerprints.
    ///
    /// The answer may be out of date at once, so a claim must follow before anything is run. A run
    /// whose claim is its transaction is not seen before it commits.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::StoreErrorKind::Unavailable) if the store was not reached.
    fn is_taken(&self, record: RecordId) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

impl<S: Inspect> Inspect for Arc<S> {
    async fn is_taken(&self, record: RecordId) -> Result<bool, StoreError> {
        S::is_taken(self, record).await
    }
}
