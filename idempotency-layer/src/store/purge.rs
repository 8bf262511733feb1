//! Purging expired records in the background.

use std::fmt;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::Purge;
use crate::clock::now;
use crate::trace;

/// Deletes a store's expired records in the background, until it is dropped.
///
/// It runs once at the start and then at every interval. A run deletes expired records in batches
/// until there are none. After each batch it pauses for as long as the batch took, so that a
/// backlog of millions does not take the database from others. If the store fails, the next run
/// tries again.
///
/// Several processes may purge one database; none waits for another.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use idempotency_layer::{MemoryStore, PurgeTask};
///
/// let store = Arc::new(MemoryStore::default());
/// let purge = PurgeTask::spawn(store.clone(), Duration::from_secs(60), 1000);
/// // … as long as the server runs …
/// drop(purge);
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
#[must_use = "it ends when it is dropped"]
pub struct PurgeTask(AbortHandle);

impl PurgeTask {
    /// Starts purging on the current runtime: every `interval`, with at most `batch` records in one
    /// statement.
    ///
    /// A batch is one transaction, which locks its records until it ends. Use about 1000.
    ///
    /// # Panics
    ///
    /// If it is called outside a tokio runtime.
    pub fn spawn(store: impl Purge, interval: Duration, batch: usize) -> Self {
        let batch = batch.max(1);
        let task = async move {
            loop {
                purge_all(&store, batch).await;
                sleep(interval).await;
            }
        };
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for PurgeTask {
    fn drop(&mut self) {
        // A batch that has begun takes effect completely, or not at all.
        self.0.abort();
    }
}

impl fmt::Debug for PurgeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeTask").finish_non_exhaustive()
    }
}

async fn purge_all(store: &impl Purge, batch: usize) {
    loop {
        let began = now();
        match store.purge_expired(batch).await {
            Ok(dropped) if dropped >= batch => sleep(now().saturating_duration_since(began)).await,
            Ok(_) => return,
            Err(error) => return trace::purge_failed(&error),
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fingerprint::Fingerprint;
    use crate::store::{AnyStore, ClaimRequest, ClaimToken, MemoryStore, RecordId, Store};

    const SECOND: Duration = Duration::from_secs(1);

    async fn with_records(lives: impl IntoIterator<Item = Duration>) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::default());
        for (n, ttl) in (0_u8..).zip(lives) {
            let (record, token) = (RecordId::from_bytes([n; 32]), ClaimToken::new());
            let request = ClaimRequest { record, fingerprint: Fingerprint::NONE, token, lease: ttl, ttl };
            store.claim(request).await.expect("there is room");
        }
        store
    }

    #[tokio::test(start_paused = true)]
    async fn what_expired_goes_at_each_interval_however_many_batches_it_takes() {
        let store = with_records([SECOND; 20].into_iter().chain([SECOND * 25; 9])).await;
        let _purge = PurgeTask::spawn(store.clone(), SECOND * 10, 3);
        for (wait, left) in [(5, 29), (10, 9), (10, 9), (10, 0)] {
            sleep(SECOND * wait).await;
            assert_eq!(store.stats().records, left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_purges_a_store_whose_type_is_hidden() {
        let store = with_records([SECOND; 20]).await;
        let _purge = PurgeTask::spawn(AnyStore::new(store.clone()), SECOND * 10, 3);
        sleep(SECOND * 11).await;
        assert_eq!(store.stats().records, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_it_is_dropped() {
        let store = with_records([SECOND]).await;
        drop(PurgeTask::spawn(store.clone(), SECOND, 3));
        sleep(SECOND * 5).await;
        assert_eq!(store.stats().records, 1);
        assert_eq!(Arc::strong_count(&store), 1);
    }
}
