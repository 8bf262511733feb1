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
/// If nobody waits, the owner of a claim only looks at an empty map.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: HashMap<RecordId, Queue>,
    /// The number of waiting requests, for all records together.
    count: usize,
}

/// The requests that wait for one record.
#[derive(Debug, Default)]
struct Queue {
    /// How often an owner ended its claim of the record, as far as this process knows.
    ends: watch::Sender<u64>,
    /// Whether one of them polls the store for all.
    is_led: bool,
}

impl Waiters {
    /// Joins the queue for a record. Changes from now on are not missed, so the caller asks the store once
    /// more before it waits. Returns `None` if `max` places are taken.
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

    /// Wakes all requests that wait for a record.
    pub(crate) fn wake(&self, record: RecordId) {
        if let Some(queue) = self.lock().records.get(&record) {
            queue.ends.send_modify(|ends| *ends += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. The last place to be dropped removes the queue.
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    record: RecordId,
    ends: watch::Receiver<u64>,
    /// The number of ends that this request has seen.
    seen: u64,
    /// Whether this request polls the store for all.
    leads: bool,
}

impl Place<'_> {
    /// Waits until the store should be asked again: when the owner ends its claim, after `left`, or after
    /// `poll` if this request polls for the queue.
    pub(crate) async fn next_look(&mut self, poll: Duration, left: Duration) {
        let (look, until) = (after(now(), poll), after(now(), left));
        loop {
            self.lead();
            let until = if self.leads { until.min(look) } else { until };
            // The sender lives as long as this place, so `changed` cannot fail.
            if timeout_at(until, self.ends.changed()).await.is_err() {
                return;
            }
            let ends = *self.ends.borrow_and_update();
            if ends != self.seen {
                self.seen = ends;
                return;
            }
            // Otherwise the request that polled for all has left.
        }
    }

    /// Wakes the other requests in the queue after the poll found that the owner ended its claim.
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
            queue.ends.send_modify(|_| ()); // another request takes over polling
        }
    }
}
