//! A cache of the keys that were looked up recently.
//!
//! The cache has two parts with different lifetimes:
//!
//! - *That a key is valid* is cached for [`FRESH_FOR`], no matter how often the key is used. Then
//!   its row is read again, and a key that was revoked or deleted is refused.
//! - *The user of a key*, with its rate limit bucket, is cached for as long as the key is used. A
//!   new bucket every few seconds would not limit anything.
//!
//! Unknown keys are not cached, so requests with made-up keys use no memory.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::api_key::ApiKey;
use crate::clock;
use crate::db::accounts::KeyRow;

/// How long a key counts as valid after its row was read. Every process refuses a revoked key
/// within five seconds; the remaining three allow for a slow read.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(2);
/// How long the user of an idle key is cached. A bucket refills within a minute, so by then it is
/// full and can be dropped.
const USER_IDLE: Duration = Duration::from_mins(10);
const MAX_KEYS: u64 = 100_000;

/// The users of the keys that were looked up recently.
pub(super) struct KeyCache<U> {
    /// Keys whose row was read within [`FRESH_FOR`].
    fresh: Cache<ApiKey, Read<U>>,
    /// Users, each with the row it was created from.
    users: Cache<ApiKey, (KeyRow, U)>,
}

/// A user, and the time at which the read of its row began.
#[derive(Clone)]
struct Read<U> {
    user: U,
    began: Instant,
}

/// Why a lookup found no user. All callers that waited for the same read share it.
#[derive(Debug)]
enum Miss<E> {
    Unknown,
    Failed(Arc<E>),
}

impl<U: Clone + Send + Sync + 'static> KeyCache<U> {
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            fresh: Cache::builder().max_capacity(MAX_KEYS).expire_after(SinceRead(fresh_for)).build(),
            users: Cache::builder().max_capacity(MAX_KEYS).time_to_idle(USER_IDLE).build(),
        }
    }

    /// Returns the user of a key. If the key is not fresh, reads its row with `read`; concurrent
    /// calls for one key share one read. Calls `user` to create the user of a key that is new or
    /// whose row has changed.
    ///
    /// # Errors
    ///
    /// If the read fails.
    ///
    /// # Cancel safety
    ///
    /// If this call is dropped during its read, another call that waits for the same key reads
    /// instead.
    pub(super) async fn get_or_read<E: Send + Sync + 'static>(
        &self,
        key: &ApiKey,
        read: impl Future<Output = Result<Option<KeyRow>, E>>,
        user: impl FnOnce(&KeyRow) -> U,
    ) -> Result<Option<U>, Arc<E>> {
        let init = async {
            // Before the read, because the row may change while it is read.
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

    /// Returns the cached user of a row, or a new one if the row has changed.
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

/// Expires an entry this long after its read began. Use of the entry does not extend it.
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

    /// Looks up a key with this row. Tests compare users by pointer.
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
    async fn a_key_in_constant_use_is_still_read_again() {
        let cache = KeyCache::new(Duration::from_millis(200));
        find(&cache, Some(row("pro"))).await.unwrap();
        let began = clock::now();
        while find(&cache, None).await.is_some() {
            assert!(began.elapsed() < Duration::from_secs(5), "use must not extend it");
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
    async fn a_user_and_its_bucket_outlive_the_fresh_entry() {
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
        assert!(find(&cache, Some(row("pro"))).await.is_some(), "a key created since is found at once");
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
        // Every request has now run up to its first wait, including the one that reads.
        tokio::task::yield_now().await;
        go.notify_one();
        let users = requests.join_all().await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(users.iter().all(|user| Arc::ptr_eq(user, &users[0])));
    }

    #[tokio::test]
    async fn a_cancelled_request_leaves_the_read_to_another() {
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
    async fn a_failed_read_is_returned_and_not_cached() {
        let cache = KeyCache::<Arc<()>>::new(LONG);
        let read = async { Err::<Option<KeyRow>, _>("the database is gone") };
        let error = cache.get_or_read(&key(), read, |_| Arc::new(())).await.unwrap_err();
        assert_eq!(*error, "the database is gone");
        assert!(find(&cache, Some(row("pro"))).await.is_some());
    }
}
