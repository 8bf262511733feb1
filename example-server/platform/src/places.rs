//! Places that accounts share, of which no account gets more than its part.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A number of places, and how many of them one owner can have at most.
#[derive(Debug)]
pub struct Places<K: Eq + Hash> {
    most: u64,
    most_of_one: u64,
    taken: Mutex<Taken<K>>,
    freed: Notify,
}

#[derive(Debug)]
struct Taken<K> {
    by: HashMap<K, u64>,
    all: u64,
}

/// What one has taken, free again when this is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    owner: K,
    size: u64,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// `most` places, of which one owner gets `most_of_one`, and at least one.
    pub fn new(most: u64, most_of_one: u64) -> Arc<Self> {
        let taken = Mutex::new(Taken { by: HashMap::new(), all: 0 });
        Arc::new(Self { most: most.max(1), most_of_one: most_of_one.max(1), taken, freed: Notify::new() })
    }

    /// `most` places, of which one owner gets a quarter, and at least one.
    pub fn quartered(most: u64) -> Arc<Self> {
        Self::new(most, most / 4)
    }

    /// Takes one place, if there is one for this owner.
    pub fn enter(self: &Arc<Self>, owner: &K) -> Option<Place<K>> {
        self.enter_with(owner, 1)
    }

    /// Takes `size` places, if there are as many for this owner.
    pub fn enter_with(self: &Arc<Self>, owner: &K, size: u64) -> Option<Place<K>> {
        let mut taken = self.taken();
        let of_one = taken.by.get(owner).copied().unwrap_or_default();
        if taken.all + size > self.most || of_one + size > self.most_of_one {
            return None;
        }
        taken.all += size;
        taken.by.insert(owner.clone(), of_one + size);
        Some(Place { places: Arc::clone(self), owner: owner.clone(), size })
    }

    /// Waits until `size` places are free for this owner, and takes them. It waits forever for more than an owner can have.
    ///
    /// # Cancel safety
    /// Dropped, it takes none.
    pub async fn wait_with(self: &Arc<Self>, owner: &K, size: u64) -> Place<K> {
        loop {
            let mut freed = pin!(self.freed.notified());
            // Before looking, so that none becomes free unnoticed.
            freed.as_mut().enable();
            if let Some(place) = self.enter_with(owner, size) {
                return place;
            }
            freed.await;
        }
    }

    /// Returns how many are taken, by everybody.
    pub fn taken_by_all(&self) -> u64 {
        self.taken().all
    }
}

impl<K: Eq + Hash> Places<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= self.size;
        if let Some(of_one) = taken.by.get_mut(&self.owner) {
            *of_one -= self.size;
            if *of_one == 0 {
                taken.by.remove(&self.owner);
            }
        }
        drop(taken);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_owner_gets_a_quarter_and_all_of_them_what_there_is() {
        let places = Places::quartered(8);
        let mut first: Vec<_> = (0..2).map(|_| places.enter(&"a").unwrap()).collect();
        assert!(places.enter(&"a").is_none());
        let others: Vec<_> = ["b", "b", "c", "c", "d", "d"].map(|owner| places.enter(&owner).unwrap()).into();
        assert!(places.enter(&"e").is_none());
        drop(first.pop());
        assert!(places.enter(&"e").is_some());
        drop((first, others));
        assert_eq!(places.taken_by_all(), 0);
        assert!(places.taken().by.is_empty(), "nobody is remembered who has none");
    }

    #[test]
    fn there_is_always_room_for_one() {
        let places = Places::quartered(1);
        let _first = places.enter(&"a").unwrap();
        assert!(places.enter(&"b").is_none());
    }

    #[test]
    fn large_ones_count_for_what_they_are() {
        let places = Places::quartered(400);
        let _large = places.enter_with(&"a", 99).unwrap();
        assert!(places.enter_with(&"a", 2).is_none());
        assert!(places.enter_with(&"a", 1).is_some());
        assert!(places.enter_with(&"b", 101).is_none(), "more than one owner can have");
    }

    #[tokio::test]
    async fn who_waits_is_told_when_one_of_its_own_is_free() {
        let places = Places::quartered(8);
        let held = places.enter_with(&"a", 2).unwrap();
        let mut waiting = Box::pin(places.wait_with(&"a", 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(places.wait_with(&"b", 1).now_or_never().is_some(), "nobody stands behind it");
        drop(held);
        waiting.await;
    }
}
