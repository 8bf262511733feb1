//! The keys that were looked up lately.
//!
//! Two things are remembered of a key, for different times. *That it is valid* is remembered for [`FRESH_FOR`], however
//! often it is used: then its row is read again, and a key that was revoked, or whose row is gone, is refused. *Its user*,
//! with the rate-limit bucket, is remembered for as long as the key is used: a new bucket every few seconds would be no
//! limit.
//!
//! A key that is not found is not remembered at all, so strangers who make up keys fill no memory.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::api_key::ApiKey;
use crate::clock;
use crate::db::accounts::KeyRow;

/// How long a key is taken for valid after its row was read. Every process refuses a revoked key within five seconds;
/// what is left of these is for a slow read.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(2);
/// A bucket fills up within a minute, so the bucket of a key that is idle for this long is a full one.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
const KEYS_AT_MOST: u64 = 100_000;

/// The users of the keys that were looked up lately.
pub(super) struct KeyCache<U> {
    /// Keys whose row was read within [`FRESH_FOR`].
    fresh: Cache<ApiKey, Read<U>>,
    /// Users, with the row each was made of.
    users: Cache<ApiKey, (KeyRow, U)>,
}

/// A user, and when the read of its row began.
#[derive(Clone)]
struct Read<U> {
    user: U,
    began: Instant,
}

/// Why a key has no user. Shared by all who waited for the same read.
#[derive(Debug)]
enum Miss<E> {
    Unknown,
    Failed(Arc<E>),
}

impl<U: Clone + Send + Sync + 'static> KeyCache<U> {
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            fresh: Cache::builder().max_capacity(KEYS_AT_MOST).expire_after(SinceRead(fresh_for)).build(),
            users: Cache::builder().max_capacity(KEYS_AT_MOST).time_to_idle(FORGOTTEN_AFTER).build(),
        }
    }

    /// Returns the user of a key. Where it is time to, `read` reads the key's row; requests that come with one key at the
    /// same time share one read. `user` makes the user of a new key, and of one whose row has changed.
    ///
    /// # Errors
    /// The read failed.
    ///
    /// # Cancel safety
    /// Dropped, the read is handed on to another request that waits for it.
    pub(super) async fn get_or_read<E: Send + Sync + 'static>(
        &self,
        key: &ApiKey,
        read: impl Future<Output = Result<Option<KeyRow>, E>>,
        user: impl FnOnce(&KeyRow) -> U,
    ) -> Result<Option<U>, Arc<E>> {
        let init = async {
            // Before the read: what it finds may have changed by the time it ends.
            let began = clock::now();
            match read.await {
                Ok(Some(row)) => Ok(Read { user: self.user(key, row, user).await, began }),
                Ok(None) => Err(Miss::Unknown),
                Err(error) => Err(Miss::Failed(Arc::new(error))),
            }
        };
        match self.fresh.try_get_with_by_ref(key, init).await {
            Ok(read) => Ok(Some(read.user)),
            Err(miss) => match &*miss {
                Miss::Unknown => {
                    self.users.invalidate(key).await;
                    Ok(None)
                }
                Miss::Failed(error) => Err(Arc::clone(error)),
            },
        }
    }

    /// The user of a row: the one that is known, unless the row has changed since.
    async fn user(&self, key: &ApiKey, row: KeyRow, user: impl FnOnce(&KeyRow) -> U) -> U {
        if let Some((known, user)) = self.users.get(key).await
            && known == row
        {
            return user;
        }
        let user = user(&row);
        self.users.insert(key.clone(), (row, user.clone())).await;
        user
    }
}

impl<U> fmt::Debug for KeyCache<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").finish_non_exhaustive()
    }
}

/// Counts from when the read began, not from when it ended, and is not prolonged by use.
struct SinceRead(Duration);

impl<U> Expiry<ApiKey, Read<U>> for SinceRead {
    fn expire_after_create(&self, _: &ApiKey, read: &Read<U>, created_at: Instant) -> Option<Duration> {
        Some(self.0.saturating_sub(created_at.saturating_duration_since(read.began)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::testing::Acme;
    use crate::vendor::Vendor as _;

    const LONG: Duration = Duration::from_hours(1);

    fn key() -> ApiKey {
        ApiKey::parse(&Acme::KEY_FORMAT, &format!("acme_{}", "1".repeat(64))).unwrap()
    }

    fn row(plan: &str) -> KeyRow {
        KeyRow { account: "acme".into(), plan: plan.into(), permissions: String::new(), created_at: 0 }
    }

    /// Looks a key up whose row is this one. A user is a thing that can be told from any other.
    async fn find(cache: &KeyCache<Arc<()>>, row: Option<KeyRow>) -> Option<Arc<()>> {
        let read = async { Ok::<_, Infallible>(row) };
        cache.get_or_read(&key(), read, |_| Arc::new(())).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_that_is_fresh_is_not_read_again() {
        let cache = KeyCache::new(LONG);
        let first = find(&cache, Some(row("pro"))).await.unwrap();
        assert!(Arc::ptr_eq(&first, &find(&cache, None).await.unwrap()));
    }

    #[tokio::test]
    async fn a_key_that_is_used_all_the_time_is_read_again_all_the_same() {
        let cache = KeyCache::new(Duration::from_millis(200));
        find(&cache, Some(row("pro"))).await.unwrap();
        let began = clock::now();
        while find(&cache, None).await.is_some() {
            assert!(began.elapsed() < Duration::from_secs(5), "its use keeps it");
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_time_counts_from_the_beginning_of_a_read() {
        let cache = KeyCache::new(Duration::from_millis(50));
        let slow = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok::<_, Infallible>(Some(row("pro")))
        };
        cache.get_or_read(&key(), slow, |_| Arc::new(())).await.unwrap().unwrap();
        assert!(find(&cache, None).await.is_none());
    }

    #[tokio::test]
    async fn a_user_and_so_the_bucket_outlives_what_is_fresh() {
        let cache = KeyCache::new(Duration::ZERO);
        let first = find(&cache, Some(row("pro"))).await.unwrap();
        for _ in 0..10 {
            assert!(Arc::ptr_eq(&first, &find(&cache, Some(row("pro"))).await.unwrap()));
        }
        let changed = find(&cache, Some(row("free"))).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &changed), "another plan is another limit");
    }

    #[tokio::test]
    async fn keys_that_are_not_found_are_not_kept() {
        let cache = KeyCache::<Arc<()>>::new(LONG);
        for _ in 0..100 {
            assert!(find(&cache, None).await.is_none());
        }
        cache.fresh.run_pending_tasks().await;
        cache.users.run_pending_tasks().await;
        assert_eq!((cache.fresh.entry_count(), cache.users.entry_count()), (0, 0));
        assert!(find(&cache, Some(row("pro"))).await.is_some(), "one that was made since is found at once");
    }

    #[tokio::test]
    async fn requests_that_come_together_share_one_read() {
        let cache = Arc::new(KeyCache::new(LONG));
        let (reads, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (cache, reads, go) = (Arc::clone(&cache), Arc::clone(&reads), Arc::clone(&go));
            requests.spawn(async move {
                let read = async {
                    reads.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Ok::<_, Infallible>(Some(row("pro")))
                };
                cache.get_or_read(&key(), read, |_| Arc::new(())).await.unwrap().unwrap()
            });
        }
        // The reader is among those that have run up to where they wait, whichever it is.
        tokio::task::yield_now().await;
        go.notify_one();
        let users = requests.join_all().await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(users.iter().all(|user| Arc::ptr_eq(user, &users[0])));
    }

    #[tokio::test]
    async fn a_request_that_goes_away_leaves_the_read_to_another() {
        let cache = Arc::new(KeyCache::new(LONG));
        let never = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                let read = std::future::pending::<Result<Option<KeyRow>, Infallible>>();
                cache.get_or_read(&key(), read, |_| Arc::new(())).await
            })
        };
        tokio::task::yield_now().await;
        let waits = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { find(&cache, Some(row("pro"))).await })
        };
        tokio::task::yield_now().await;
        never.abort();
        assert!(waits.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_read_that_fails_is_told_and_not_remembered() {
        let cache = KeyCache::<Arc<()>>::new(LONG);
        let read = async { Err::<Option<KeyRow>, _>("the database is gone") };
        let error = cache.get_or_read(&key(), read, |_| Arc::new(())).await.unwrap_err();
        assert_eq!(*error, "the database is gone");
        assert!(find(&cache, Some(row("pro"))).await.is_some());
    }
}
