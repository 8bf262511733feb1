//! A concurrency limit that owners share, with a lower limit for each owner.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A number of places, and the maximum for one owner.
#[derive(Debug)]
pub struct Places<K: Eq + Hash + Clone> {
    most: u64,
    most_of_one: u64,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K: Eq + Hash + Clone> {
    by: HashMap<K, u64>,
    all: u64,
    /// In order of arrival.
    queue: VecDeque<Waiter<K>>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter<K: Eq + Hash + Clone> {
    ticket: u64,
    owner: K,
    size: u64,
    /// Receives the place itself, so that nobody can take it in between.
    grant: oneshot::Sender<Place<K>>,
}

/// The places that an owner has taken. Frees them when dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    places: Arc<Places<K>>,
    owner: K,
    size: u64,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// Creates `most` places, of which one owner gets at most `most_of_one`. Both are at least one.
    pub fn new(most: u64, most_of_one: u64) -> Arc<Self> {
        let most = most.max(1);
        let state = State { by: HashMap::new(), all: 0, queue: VecDeque::new(), next_ticket: 0 };
        Arc::new(Self { most, most_of_one: most_of_one.clamp(1, most), state: Mutex::new(state) })
    }

    /// Creates `most` places, of which one owner gets at most a quarter, but at least one.
    pub fn quartered(most: u64) -> Arc<Self> {
        Self::new(most, most / 4)
    }

    /// Takes one place, or returns `None` if none is free for this owner.
    pub fn enter(self: &Arc<Self>, owner: &K) -> Option<Place<K>> {
        self.enter_with(owner, 1)
    }

    /// Takes `size` places, or returns `None` if fewer are free for this owner. Ignores the queue.
    pub fn enter_with(self: &Arc<Self>, owner: &K, size: u64) -> Option<Place<K>> {
        self.take(&mut self.state(), owner, size)
    }

    /// Waits until `size` places are free for this owner, and takes them. A larger `size` than the
    /// maximum for one owner counts as that maximum.
    ///
    /// Waiters get places in order of arrival, so that small requests cannot starve a large one. The
    /// exception is a waiter whose owner is at its maximum: other owners can overtake it.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it leaves the queue and takes no places.
    pub async fn wait_with(self: &Arc<Self>, owner: &K, size: u64) -> Place<K> {
        let size = size.min(self.most_of_one);
        // Declared before `_waiting`, so that it is dropped after it, when no sender is left.
        let mut granted;
        let _waiting = {
            let mut state = self.state();
            if !self.stands_behind_others(&state, owner)
                && let Some(place) = self.take(&mut state, owner, size)
            {
                return place;
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            let grant;
            (grant, granted) = oneshot::channel();
            state.queue.push_back(Waiter { ticket, owner: owner.clone(), size, grant });
            Waiting { places: self, ticket }
        };
        match (&mut granted).await {
            Ok(place) => place,
            Err(_) => unreachable!("a waiter leaves the queue with a place, or when this ends"),
        }
    }

    /// Returns the number of places that all owners have taken.
    pub fn taken_by_all(&self) -> u64 {
        self.state().all
    }

    fn take(self: &Arc<Self>, state: &mut State<K>, owner: &K, size: u64) -> Option<Place<K>> {
        if state.all + size > self.most || !self.is_within_part(state, owner, size) {
            return None;
        }
        state.all += size;
        *state.by.entry(owner.clone()).or_default() += size;
        Some(Place { places: Arc::clone(self), owner: owner.clone(), size })
    }

    /// Returns whether this owner can take `size` more places without exceeding its maximum.
    fn is_within_part(&self, state: &State<K>, owner: &K, size: u64) -> bool {
        state.by.get(owner).copied().unwrap_or_default() + size <= self.most_of_one
    }

    /// Returns whether this owner must queue: behind another waiter of its own, or behind a waiter whose owner
    /// is below its maximum.
    fn stands_behind_others(&self, state: &State<K>, owner: &K) -> bool {
        state
            .queue
            .iter()
            .any(|waiter| waiter.owner == *owner || self.is_within_part(state, &waiter.owner, waiter.size))
    }

    /// Gives free places to the waiters that can have them, and wakes only these.
    fn hand_on(self: &Arc<Self>) {
        let mut granted = Vec::new();
        let mut state = self.state();
        let mut full = HashSet::new();
        let mut at = 0;
        while let Some(waiter) = state.queue.get(at) {
            let (owner, size) = (waiter.owner.clone(), waiter.size);
            if full.contains(&owner) || !self.is_within_part(&state, &owner, size) {
                full.insert(owner);
                at += 1;
            } else if let Some(place) = self.take(&mut state, &owner, size) {
                granted.extend(state.queue.remove(at).map(|waiter| (waiter.grant, place)));
            } else {
                // The next free places are for this waiter.
                break;
            }
        }
        drop(state);
        for (grant, place) in granted {
            // If the waiter is gone, dropping the place frees it again.
            let _ = grant.send(place);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.all -= self.size;
        if let Some(of_one) = state.by.get_mut(&self.owner) {
            *of_one -= self.size;
            if *of_one == 0 {
                state.by.remove(&self.owner);
            }
        }
        let is_awaited = !state.queue.is_empty();
        drop(state);
        if is_awaited {
            self.places.hand_on();
        }
    }
}

/// A position in the queue. Leaves the queue when dropped.
struct Waiting<'a, K: Eq + Hash + Clone> {
    places: &'a Arc<Places<K>>,
    ticket: u64,
}

impl<K: Eq + Hash + Clone> Drop for Waiting<'_, K> {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let at = state.queue.iter().position(|waiter| waiter.ticket == self.ticket);
        let left = at.and_then(|at| state.queue.remove(at));
        drop(state);
        if left.is_some() {
            // Waiters behind it may be able to continue.
            self.places.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

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
        assert!(places.state().by.is_empty(), "nobody is remembered who has none");
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
    /// Waits for places in a task of its own. Returns the task and the number of its polls.
    fn wait_in_task(
        places: &Arc<Places<&'static str>>,
        owner: &'static str,
        size: u64,
    ) -> (tokio::task::JoinHandle<Place<&'static str>>, Arc<AtomicUsize>) {
        let (places, woken) = (Arc::clone(places), Arc::new(AtomicUsize::new(0)));
        let polls = Arc::clone(&woken);
        let task = tokio::spawn(async move {
            let mut waiting = pin!(places.wait_with(&owner, size));
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                waiting.as_mut().poll(cx)
            })
            .await
        });
        (task, woken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_free_wakes_the_one_who_gets_it() {
        let places = Places::new(100, 1);
        let held = places.enter(&"a").unwrap();
        let mut waiting = Vec::new();
        for _ in 0..50 {
            waiting.push(wait_in_task(&places, "a", 1));
            tokio::task::yield_now().await;
        }
        drop(held);
        for (number, (task, woken)) in waiting.into_iter().enumerate() {
            // In order, each one when the previous one frees its place.
            drop(timeout(Duration::from_secs(1), task).await.expect("it is woken").unwrap());
            assert_eq!(woken.load(Ordering::Relaxed), 2, "of {number}: at first, and for its place");
        }
        assert!(places.state().queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_request_is_not_passed_by_small_ones_for_ever() {
        let places = Places::new(8, 8);
        let mut small = (0..8).map(|_| places.enter(&"a").unwrap()).collect::<VecDeque<_>>();
        let (large, _) = wait_in_task(&places, "b", 4);
        tokio::task::yield_now().await;
        for freed in 0..8 {
            drop(small.pop_front());
            if freed < 3 {
                // A later waiter queues behind it, also one of another owner.
                assert!(places.wait_with(&"a", 1).now_or_never().is_none(), "{freed}");
            }
            tokio::task::yield_now().await;
        }
        timeout(Duration::from_secs(1), large).await.expect("it is not passed").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_places_of_its_own_holds_up_nobody_else() {
        let places = Places::quartered(8);
        let _held = places.enter_with(&"a", 2).unwrap();
        let (waiting, _) = wait_in_task(&places, "a", 1);
        tokio::task::yield_now().await;
        assert!(places.wait_with(&"b", 2).now_or_never().is_some());
        assert!(places.wait_with(&"a", 1).now_or_never().is_none());
        assert!(!waiting.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_its_place_to_the_next() {
        let places = Places::new(4, 4);
        let held = places.enter_with(&"a", 3).unwrap();
        // The first waits for more places than are free, and the second waits behind it.
        let (first, _) = wait_in_task(&places, "b", 4);
        tokio::task::yield_now().await;
        let (second, _) = wait_in_task(&places, "c", 1);
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        first.abort();
        timeout(Duration::from_secs(1), second).await.expect("it is not forgotten").unwrap();
        drop(held);

        // A waiter that is dropped at the moment when it gets its place.
        let held = places.enter_with(&"a", 4).unwrap();
        let mut gone = Box::pin(places.wait_with(&"b", 4));
        assert!(gone.as_mut().now_or_never().is_none());
        let (next, _) = wait_in_task(&places, "c", 4);
        tokio::task::yield_now().await;
        drop(held);
        drop(gone);
        timeout(Duration::from_secs(1), next).await.expect("it is not lost").unwrap();
        assert_eq!(places.taken_by_all(), 0);
    }

    #[tokio::test]
    async fn more_than_an_owner_can_have_is_all_that_it_can_have() {
        let places = Places::quartered(8);
        let all = places.wait_with(&"a", 100).now_or_never().expect("it does not wait for ever");
        assert!(places.enter(&"a").is_none());
        drop(all);
        assert_eq!(places.taken_by_all(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost_and_none_is_given_twice_however_many_come_and_go() {
        let places = Places::new(6, 3);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..400_u64 {
            let places = Arc::clone(&places);
            tasks.spawn(async move {
                let owner = ["a", "b", "c"][(number % 3) as usize];
                let wait = places.wait_with(&owner, 1 + number % 3);
                // Cancel some of the waits.
                if number % 7 == 0 {
                    let _ = timeout(Duration::from_micros(number), wait).await;
                    return;
                }
                let place = wait.await;
                assert!(places.taken_by_all() <= 6);
                tokio::task::yield_now().await;
                drop(place);
            });
        }
        let all = timeout(Duration::from_secs(30), tasks.join_all()).await;
        assert!(all.is_ok(), "somebody waits for ever");
        assert_eq!(places.taken_by_all(), 0);
        assert!(places.state().queue.is_empty() && places.state().by.is_empty());
    }
}
