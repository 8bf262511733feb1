//! How many deliveries are under way, so that receivers who take their time leave room for others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those under way.
#[derive(Debug)]
pub struct InFlight(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<String, usize>,
    all: usize,
    /// How many attempts of any kind are made at a time.
    concurrency: usize,
}

/// The place of one, free again when dropped.
#[derive(Debug)]
pub struct Place<'a> {
    in_flight: &'a InFlight,
    endpoint: String,
}

impl InFlight {
    /// When so many attempts are made at a time, half of them can be deliveries, and a quarter to one endpoint: the rest
    /// stays for retries, whose providers do not wait for anybody's server.
    pub fn new(concurrency: usize) -> Self {
        Self(Mutex::new(Counts { concurrency, ..Counts::default() }))
    }

    /// A place for one to this endpoint, if there is one.
    pub fn enter(&self, endpoint: &str) -> Option<Place<'_>> {
        let mut counts = self.counts();
        let (most, most_of_one) = ((counts.concurrency / 2).max(1), (counts.concurrency / 4).max(1));
        let of_one = counts.of.get(endpoint).copied().unwrap_or_default();
        if counts.all >= most || of_one >= most_of_one {
            return None;
        }
        counts.all += 1;
        counts.of.insert(endpoint.to_owned(), of_one + 1);
        Some(Place { in_flight: self, endpoint: endpoint.to_owned() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counts = self.in_flight.counts();
        counts.all -= 1;
        if let Some(of_one) = counts.of.get_mut(&self.endpoint) {
            *of_one -= 1;
            if *of_one == 0 {
                counts.of.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_endpoint_has_a_quarter_and_all_of_them_half() {
        let in_flight = InFlight::new(16);
        let mut first: Vec<_> = (0..4).map(|_| in_flight.enter("a").unwrap()).collect();
        assert!(in_flight.enter("a").is_none());
        let others: Vec<_> = (0..4).map(|n| in_flight.enter(&format!("b{n}")).unwrap()).collect();
        assert!(in_flight.enter("c").is_none());
        drop(first.pop());
        assert!(in_flight.enter("c").is_some());
        drop((first, others));
        assert_eq!(in_flight.counts().all, 0);
        assert!(in_flight.counts().of.is_empty());
    }

    #[test]
    fn there_is_always_room_for_one() {
        let in_flight = InFlight::new(1);
        let _first = in_flight.enter("a").unwrap();
        assert!(in_flight.enter("b").is_none());
    }
}
