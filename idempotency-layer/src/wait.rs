//! Waiting for the owner of a claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::clock::{after, now};
use crate::store::RecordId;

/// The requests of this process that wait, by record.
///
/// An owner that nobody waits for pays one look at an empty map; only a waiter makes an entry.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: HashMap<RecordId, Queue>,
    /// How many wait, for all records together.
    count: usize,
}

/// Those who wait for one record.
#[derive(Debug, Default)]
struct Queue {
    /// How often an owner was done with the record, as far as this process knows.
    ends: watch::Sender<u64>,
    /// Whether one of them asks the store now and then, for all.
    is_led: bool,
}

impl Waiters {
    /// Takes a place in the queue for a record. What happens to the record from now on is not missed, so the caller looks
    /// at the store once more before it waits. `None`: `max` places are taken.
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

    /// Wakes everybody who waits for a record.
    pub(crate) fn wake(&self, record: RecordId) {
        if let Some(queue) = self.lock().records.get(&record) {
            queue.ends.send_modify(|ends| *ends += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. The last one to leave takes the entry away.
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    record: RecordId,
    ends: watch::Receiver<u64>,
    /// As many ends were looked at.
    seen: u64,
    /// Whether this one asks the store for all.
    leads: bool,
}

impl Place<'_> {
    /// Waits until the store is to be asked again: when the record's owner is done with it, after `left`, and every `poll` if
    /// nobody else in the queue asks so often.
    pub(crate) async fn next_look(&mut self, poll: Duration, left: Duration) {
        let (look, until) = (after(now(), poll), after(now(), left));
        loop {
            self.lead();
            let until = if self.leads { until.min(look) } else { until };
            // The sender lives as long as this place does, so there is no error to see.
            if timeout_at(until, self.ends.changed()).await.is_err() {
                return;
            }
            let ends = *self.ends.borrow_and_update();
            if ends != self.seen {
                self.seen = ends;
                return;
            }
            // Otherwise, whoever asked for all has left.
        }
    }

    /// Tells the others in the queue what this one was told: the owner, perhaps in another process, is done.
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
            queue.ends.send_modify(|_| ()); // one of the others leads from now on
        }
    }
}
