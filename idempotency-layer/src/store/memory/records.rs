//! The records of one shard, by name and in the order in which they expire.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use tokio::time::Instant;

use crate::fingerprint::Fingerprint;
use crate::store::{Checkpoint, ClaimToken, Fence, Outcome, RecordId};

/// Records in one table, each in one of two queues: running, in the order of their first claim, and
/// finished, in the order of their completion.
///
/// A record keeps its place in memory and in the table for its whole life. Only its queue changes,
/// so completing a record hashes nothing, moves nothing and allocates nothing.
pub(super) struct Records {
    /// The place of each record in `chunks`.
    table: HashTable<usize>,
    /// Secret, so that clients cannot choose keys whose hashes collide.
    seed: u64,
    /// A chunk never moves, so growth copies no record.
    chunks: Vec<Vec<Record>>,
    /// The number of places, including vacant ones.
    places: usize,
    /// The first vacant place. Each vacant place links to the next one.
    vacant: usize,
    running: Queue,
    finished: Queue,
}

pub(super) struct Record {
    pub(super) id: RecordId,
    pub(super) fingerprint: Fingerprint,
    pub(super) fence: Fence,
    pub(super) expires_at: Instant,
    pub(super) state: State,
    before: usize,
    after: usize,
}

pub(super) enum State {
    Running(Running),
    Finished(Outcome),
    /// The place is free.
    Vacant,
}

pub(super) struct Running {
    pub(super) token: ClaimToken,
    pub(super) attempt: u32,
    pub(super) orphan: bool,
    pub(super) lease: Lease,
    pub(super) checkpoint: Option<Box<Checkpoint>>,
}

#[derive(Clone, Copy)]
pub(super) enum Lease {
    Until(Instant),
    /// Released with a checkpoint. The next claim succeeds at once and is no orphan.
    Released,
}

struct Queue {
    first: usize,
    last: usize,
}

/// No place.
const NONE: usize = usize::MAX;
/// Many enough that chunks are allocated rarely, few enough that a small store is small.
const CHUNK: usize = 4;

impl Default for Records {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            seed: RandomState::new().hash_one(0_u8),
            chunks: Vec::new(),
            places: 0,
            vacant: NONE,
            running: Queue { first: NONE, last: NONE },
            finished: Queue { first: NONE, last: NONE },
        }
    }
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the place of a record.
    pub(super) fn find(&self, id: RecordId) -> Option<usize> {
        self.table.find(hash(self.seed, id), |at| self.at(*at).id == id).copied()
    }

    pub(super) fn at(&self, at: usize) -> &Record {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    pub(super) fn at_mut(&mut self, at: usize) -> &mut Record {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    /// The running record that was claimed first.
    pub(super) fn first_running(&self) -> Option<usize> {
        Some(self.running.first).filter(|at| *at != NONE)
    }

    /// The finished record that was completed first.
    pub(super) fn first_finished(&self) -> Option<usize> {
        Some(self.finished.first).filter(|at| *at != NONE)
    }

    /// Adds a record that is not here yet, as the last one that runs.
    pub(super) fn insert(
        &mut self,
        id: RecordId,
        fingerprint: Fingerprint,
        fence: Fence,
        expires_at: Instant,
        running: Running,
    ) -> &Record {
        let state = State::Running(running);
        let record = Record { id, fingerprint, fence, expires_at, state, before: NONE, after: NONE };
        let at = self.place(record);
        self.append(at);
        let (chunks, seed) = (&self.chunks, self.seed);
        self.table.insert_unique(hash(seed, id), at, |at| hash(seed, chunks[at / CHUNK][at % CHUNK].id));
        self.at(at)
    }

    /// Turns a running record into a finished one.
    pub(super) fn finish(&mut self, at: usize, outcome: Outcome) {
        self.unlink(at);
        self.at_mut(at).state = State::Finished(outcome);
        self.append(at);
    }

    /// Takes a record out, and returns what it was.
    pub(super) fn remove(&mut self, at: usize) -> State {
        self.unlink(at);
        if let Ok(entry) = self.table.find_entry(hash(self.seed, self.at(at).id), |other| *other == at) {
            entry.remove();
        }
        let vacant = std::mem::replace(&mut self.vacant, at);
        let record = self.at_mut(at);
        record.after = vacant;
        std::mem::replace(&mut record.state, State::Vacant)
    }

    fn place(&mut self, record: Record) -> usize {
        if self.vacant != NONE {
            let at = self.vacant;
            let place = self.at_mut(at);
            let next = place.after;
            *place = record;
            self.vacant = next;
            return at;
        }
        let at = self.places;
        if at / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[at / CHUNK].push(record);
        self.places += 1;
        at
    }

    fn queue(&mut self, at: usize) -> &mut Queue {
        match self.at(at).state {
            State::Finished(_) => &mut self.finished,
            State::Running(_) | State::Vacant => &mut self.running,
        }
    }

    /// Makes a record the last one in the queue of its state.
    fn append(&mut self, at: usize) {
        let queue = self.queue(at);
        let last = std::mem::replace(&mut queue.last, at);
        if last == NONE {
            queue.first = at;
        } else {
            self.at_mut(last).after = at;
        }
        let record = self.at_mut(at);
        (record.before, record.after) = (last, NONE);
    }

    /// Takes a record out of the queue of its state.
    fn unlink(&mut self, at: usize) {
        let Record { before, after, .. } = *self.at(at);
        match before {
            NONE => self.queue(at).first = after,
            before => self.at_mut(before).after = after,
        }
        match after {
            NONE => self.queue(at).last = before,
            after => self.at_mut(after).before = before,
        }
    }
}

/// Eight bytes of a record's name, which is a digest, mixed with the seed.
fn hash(seed: u64, id: RecordId) -> u64 {
    let mixed = (id.prefix() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::now;
    use crate::store::Tombstone;

    fn id(number: u8) -> RecordId {
        RecordId::from_bytes([number; 32])
    }

    fn insert(records: &mut Records, number: u8) {
        let (token, lease) = (ClaimToken::from_bytes([0; 16]), Lease::Until(now()));
        let running = Running { token, attempt: 1, orphan: false, lease, checkpoint: None };
        records.insert(id(number), Fingerprint::NONE, Fence(1), now(), running);
    }

    /// The queue from its first record to its last, and back.
    fn queue(records: &Records, queue: &Queue) -> Vec<u8> {
        let mut numbers = Vec::new();
        let (mut at, mut before) = (queue.first, NONE);
        while at != NONE {
            let record = records.at(at);
            assert_eq!(record.before, before);
            numbers.push(record.id.as_bytes()[0]);
            (before, at) = (at, record.after);
        }
        assert_eq!(queue.last, before);
        numbers
    }

    proptest! {
        #[test]
        fn records_are_found_and_queued_whatever_was_done_before(steps: Vec<(u8, bool)>) {
            let mut records = Records::default();
            let (mut running, mut finished) = (Vec::new(), Vec::new());
            for (number, ends) in steps.into_iter().map(|(number, ends)| (number % 16, ends)) {
                match records.find(id(number)) {
                    None => {
                        prop_assert!(!running.contains(&number) && !finished.contains(&number));
                        insert(&mut records, number);
                        running.push(number);
                    }
                    Some(at) if ends || finished.contains(&number) => {
                        records.remove(at);
                        running.retain(|other| *other != number);
                        finished.retain(|other| *other != number);
                    }
                    Some(at) => {
                        records.finish(at, Outcome::Tombstone(Tombstone::Unknown));
                        running.retain(|other| *other != number);
                        finished.push(number);
                    }
                }
                prop_assert_eq!(queue(&records, &records.running), running.clone());
                prop_assert_eq!(queue(&records, &records.finished), finished.clone());
                prop_assert_eq!(records.len(), running.len() + finished.len());
            }
            prop_assert!(records.places <= 16, "vacant places are used again");
        }
    }
}
