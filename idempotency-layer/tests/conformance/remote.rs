//! A `MemoryStore` behind a simulated network: verbs take time, and a verb that was sent takes effect even if its caller does
//! not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, Fence, Fenced, MemoryStore, Outcome, Purge, RecordId, Store, StoreError,
};
use tokio::task::yield_now;

#[derive(Clone, Default)]
pub(crate) struct Remote(Arc<(MemoryStore, AtomicU64)>);

impl Remote {
    async fn send<T, F>(&self, verb: impl FnOnce(Arc<(MemoryStore, AtomicU64)>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        yield_now().await;
        let (verb, way) = (verb(self.0.clone()), self.0.1.fetch_add(1, Ordering::Relaxed) % 5);
        let sent = tokio::spawn(async move {
            for _ in 0..way {
                yield_now().await;
            }
            verb.await
        });
        let answer = sent.await.map_err(StoreError::unavailable)?;
        yield_now().await;
        answer
    }
}

impl Store for Remote {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.send(|it| async move { it.0.claim(request).await }).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.send(move |it| async move { it.0.complete(record, fence, outcome).await }).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.send(move |it| async move { it.0.release(record, fence).await }).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.send(move |it| async move { it.0.extend(record, fence, lease).await }).await
    }

    async fn checkpoint(&self, record: RecordId, fence: Fence, to: Checkpoint) -> Result<Fenced, StoreError> {
        self.send(move |it| async move { it.0.checkpoint(record, fence, to).await }).await
    }
}

impl Purge for Remote {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.send(move |it| async move { it.0.purge_expired(limit).await }).await
    }
}
