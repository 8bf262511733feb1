//! Any store behind one type.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;

use super::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, Purge, RecordId, RequestTransaction,
    Store,
};
use crate::error::StoreError;

/// Any store behind one type.
///
/// [`IdempotencyLayer`](crate::IdempotencyLayer) is generic over its store, so that a verb costs no
/// allocation. A program that chooses its store at run time wraps it in an `AnyStore`, which costs
/// one allocation for each verb.
///
/// The wrapped store must implement [`Purge`], so a [`PurgeTask`](super::PurgeTask) for an
/// `AnyStore` always purges. A store that deletes its expired records by itself implements it by
/// returning 0.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// use idempotency_layer::{AnyStore, IdempotencyLayer, MemoryStore, PurgeTask};
///
/// let store = AnyStore::new(MemoryStore::default());
/// let purge = PurgeTask::spawn(store.clone(), Duration::from_mins(1), 1000);
/// let layer = IdempotencyLayer::builder(store).single_tenant().build();
/// # drop((layer, purge));
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct AnyStore(Arc<dyn DynStore>);

impl AnyStore {
    /// Wraps a store.
    pub fn new(store: impl Purge) -> Self {
        Self(Arc::new(store))
    }
}

impl Purge for AnyStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.0.purge_expired(limit).await
    }
}

impl Store for AnyStore {
    fn token(&self) -> ClaimToken {
        self.0.token()
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.0.claim(request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.0.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.0.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.0.extend(record, fence, lease).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        self.0.checkpoint(record, fence, checkpoint).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        self.0.offer_transaction(extensions)
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The object-safe form of [`Purge`]: its futures are boxed.
trait DynStore: Send + Sync {
    fn token(&self) -> ClaimToken;
    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim>;
    fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Answer<'_, Fenced>;
    fn release(&self, record: RecordId, fence: Fence) -> Answer<'_, Fenced>;
    fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Answer<'_, Fenced>;
    fn checkpoint(&self, record: RecordId, fence: Fence, checkpoint: Checkpoint) -> Answer<'_, Fenced>;
    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>>;
    fn purge_expired(&self, limit: usize) -> Answer<'_, usize>;
}

impl<S: Purge> DynStore for S {
    fn token(&self) -> ClaimToken {
        Store::token(self)
    }

    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim> {
        Box::pin(Store::claim(self, request))
    }

    fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Answer<'_, Fenced> {
        Box::pin(Store::complete(self, record, fence, outcome))
    }

    fn release(&self, record: RecordId, fence: Fence) -> Answer<'_, Fenced> {
        Box::pin(Store::release(self, record, fence))
    }

    fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Answer<'_, Fenced> {
        Box::pin(Store::extend(self, record, fence, lease))
    }

    fn checkpoint(&self, record: RecordId, fence: Fence, checkpoint: Checkpoint) -> Answer<'_, Fenced> {
        Box::pin(Store::checkpoint(self, record, fence, checkpoint))
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        Store::offer_transaction(self, extensions)
    }

    fn purge_expired(&self, limit: usize) -> Answer<'_, usize> {
        Box::pin(Purge::purge_expired(self, limit))
    }
}
