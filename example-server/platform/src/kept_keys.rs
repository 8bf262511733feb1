//! A limit of the stored idempotency keys of each account.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// Counts and limits the stored keys of each account, by the time at which they were created.
///
/// Each process has its own counts, which begin at zero after a restart. Counting the rows instead would
/// cost a query per request, and the rows do not contain their account. The counts of an account take a few
/// hundred bytes and stay in memory until the process ends.
#[derive(Debug)]
pub struct KeptKeys {
    most: u64,
    /// The length of a part of the lifetime of a key. Keys expire by parts.
    part: Duration,
    began: Instant,
    accounts: Mutex<HashMap<String, Counts>>,
}

/// The number of parts that the lifetime of a key is divided into.
const PARTS: u32 = 24;
/// One slot for each part, and one for the current part.
const SLOTS: u64 = 25;

/// The number of keys by the part of time in which they were created.
#[derive(Debug, Default)]
struct Counts {
    /// The current part at the last update.
    at: u64,
    /// The count of part `n` is at `n % SLOTS`.
    made: [u64; 25],
}

impl KeptKeys {
    /// Creates a limit of `most` keys for each account, which are stored for `ttl`.
    pub fn new(most: NonZeroU64, ttl: Duration) -> Self {
        let part = (ttl / PARTS).max(Duration::from_millis(1));
        Self { most: most.get(), part, began: clock::timers(), accounts: Mutex::default() }
    }

    /// Returns the time until a key of this account expires if the account is at its limit, and `None`
    /// otherwise.
    pub fn is_full_for(&self, account: &str) -> Option<Duration> {
        let (now, into_part) = self.now();
        let mut accounts = self.accounts();
        let counts = accounts.get_mut(account)?;
        counts.forget(now);
        if counts.made.iter().sum::<u64>() < self.most {
            return None;
        }
        // From the oldest part to the current one, whose keys expire last.
        let parts = (0..=PARTS).find(|parts| counts.made[slot(now + 1 + u64::from(*parts))] > 0);
        Some(self.part.saturating_sub(into_part) + self.part * parts.unwrap_or(PARTS))
    }

    /// Counts a key that is stored now.
    pub fn count(&self, account: &str) {
        let (now, _) = self.now();
        let mut accounts = self.accounts();
        let counts = match accounts.get_mut(account) {
            Some(counts) => counts,
            None => accounts.entry(account.to_owned()).or_default(),
        };
        counts.forget(now);
        counts.made[slot(now)] += 1;
    }

    /// Returns the current part, and the time since its beginning.
    fn now(&self) -> (u64, Duration) {
        let (since, part) = (self.began.elapsed().as_nanos(), self.part.as_nanos());
        let into = u64::try_from(since % part).map_or(Duration::ZERO, Duration::from_nanos);
        (u64::try_from(since / part).unwrap_or(u64::MAX), into)
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Counts>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Removes the counts of expired keys.
    fn forget(&mut self, now: u64) {
        for part in (self.at + 1..=now).rev().take(self.made.len()) {
            self.made[slot(part)] = 0;
        }
        self.at = now;
    }
}

fn slot(part: u64) -> usize {
    usize::try_from(part % SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn kept_keys(most: u64) -> KeptKeys {
        KeptKeys::new(NonZeroU64::new(most).unwrap(), 24 * HOUR)
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_has_so_many_keys_and_others_have_theirs() {
        let kept = kept_keys(3);
        for _ in 0..3 {
            assert_eq!(kept.is_full_for("one"), None);
            kept.count("one");
        }
        assert!(kept.is_full_for("one").is_some());
        assert_eq!(kept.is_full_for("other"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_counted_for_as_long_as_it_is_kept_and_the_wait_is_until_then() {
        for minutes in [0, 1, 59, 60, 600, 3000] {
            let kept = kept_keys(2);
            advance(Duration::from_mins(minutes)).await;
            kept.count("one");
            advance(90 * Duration::from_mins(1)).await;
            kept.count("one");
            // Never less than the lifetime of a key, and at most one part more.
            let wait = kept.is_full_for("one").unwrap();
            let kept_for = wait + Duration::from_mins(90);
            assert!(kept_for >= 24 * HOUR && kept_for <= 25 * HOUR, "{minutes}: {kept_for:?}");
            advance(wait.checked_sub(Duration::from_secs(1)).unwrap()).await;
            assert!(kept.is_full_for("one").is_some(), "{minutes}");
            advance(Duration::from_secs(1)).await;
            assert_eq!(kept.is_full_for("one"), None, "{minutes}");
            kept.count("one");
            assert!(kept.is_full_for("one").is_some(), "the second one is still there");
            advance(30 * HOUR).await;
            assert_eq!(kept.is_full_for("one"), None);
            kept.count("one");
            assert_eq!(kept.is_full_for("one"), None, "all are dropped after a while");
        }
    }
}
