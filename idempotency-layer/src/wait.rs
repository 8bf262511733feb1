//! Requests that wait for the owner of a claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::clock::{after, now};
use crate::store::RecordId;

/// The waiting requests of this process, by record.
///
/// Only a waiter makes an entry. An owner without waiters looks into the map once.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: HashMap<RecordId, Queue>,
    /// The number of waiters, for all records together.
    count: usize,
}

/// The waiters for one record.
#[derive(Debug, Default)]
struct Queue {
    /// How often an owner ended, as far as this process knows.
    ends: watch::Sender<u64>,
    /// Whether one of them, the leader, polls the store for all.
    is_led: bool,
}

impl Waiters {
    /// Takes a place in the queue of a record. Returns `None` if there are `max` waiters.
    ///
    /// From now on the place notices every end of an owner. So the caller asks the store once more
    /// before it waits.
    pub(crate) fn join(&self, record: RecordId, max: usize) -> Option<Place<'_>> {
        let mut waiting = self.lock();
        if waiting.count >= max {
            return None;
        }
        waiting.count += 1;
        let ends = waiting.records.entry(record).or_default().ends.subscribe();
        let seen = *ends.borrow();
        Some(Place { waiters: self, record, ends, seen, leads: false })
    }

    /// Wakes all waiters for a record.
    pub(crate) fn wake(&self, record: RecordId) {
        if let Some(queue) = self.lock().records.get(&record) {
            queue.ends.send_modify(|ends| *ends += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. The last waiter removes the entry.
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    record: RecordId,
    ends: watch::Receiver<u64>,
    /// The value of `ends` that this waiter has seen.
    seen: u64,
    /// Whether this waiter is the leader.
    leads: bool,
}

impl Place<'_> {
    /// Waits until the caller should ask the store again: when the owner ends, after `left`, and,
    /// for the leader, after `poll`.
    pub(crate) async fn next_look(&mut self, poll: Duration, left: Duration) {
        let (look, until) = (after(now(), poll), after(now(), left));
        loop {
            self.lead();
            let until = if self.leads { until.min(look) } else { until };
            // The sender lives as long as this place, so `changed` returns no error.
            if timeout_at(until, self.ends.changed()).await.is_err() {
                return;
            }
            let ends = *self.ends.borrow_and_update();
            if ends != self.seen {
                self.seen = ends;
                return;
            }
            // Otherwise the leader has left, and another waiter takes its place.
        }
    }

    /// Wakes the other waiters after the leader has found that the owner ended, perhaps in another
    /// process.
    pub(crate) fn tell_others(&self) {
        if self.leads {
            self.waiters.wake(self.record);
        }
    }

    fn lead(&mut self) {
        if let Some(queue) = self.waiters.lock().records.get_mut(&self.record)
            && !queue.is_led
        {
            (queue.is_led, self.leads) = (true, true);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        waiting.count -= 1;
        let Some(queue) = waiting.records.get_mut(&self.record) else { return };
        if queue.ends.receiver_count() <= 1 {
            waiting.records.remove(&self.record);
        } else if self.leads {
            queue.is_led = false;
            queue.ends.send_modify(|_| ()); // wakes the others, one of which becomes the leader
        }
    }
}
