//! Waiting for the owner of a claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::RecordId;

/// The requests of this process that wait, by record.
///
/// An owner that nobody waits for pays one look at an empty map; only a waiter makes an entry.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: HashMap<RecordId, watch::Sender<()>>,
    /// How many wait, for all records together.
    count: usize,
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
        let changed = waiting.records.entry(record).or_default().subscribe();
        Some(Place { waiters: self, record, changed })
    }

    /// Wakes everybody who waits for a record.
    pub(crate) fn wake(&self, record: RecordId) {
        if let Some(sender) = self.lock().records.get(&record) {
            sender.send_replace(());
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
    changed: watch::Receiver<()>,
}

impl Place<'_> {
    /// Until the record's owner is done with it.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this place does, so there is no error to see.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        waiting.count -= 1;
        if waiting.records.get(&self.record).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.records.remove(&self.record);
        }
    }
}
