//! What lies under the lock: the cycles, and the orders they stand in.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::SystemTime;

use bytes::Bytes;

use super::{MemoryScheduler, MemoryStats};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, Refused, State};
use crate::error::SchedulerError;
use crate::millis::to_ms;
use crate::scheduler::{ClaimDue, Claimed, Finished, NewCycle, Report, Scheduled};

/// Where a cycle stands in an order: by time, then by age.
type Place = (i64, u64);

/// Cycles by their keys, and by their places. What [`put`](Self::put) and [`take`](Self::take) keep true: a pending cycle is
/// in the queue of its tenant, an ended one in `ended`; `fronts` has the first of each queue; no queue is empty.
pub(super) struct Cycles {
    max: usize,
    forgotten: u64,
    /// Grows with each cycle that is scheduled.
    last_id: u64,
    ids: HashMap<CycleKey, u64>,
    entries: HashMap<u64, Entry>,
    /// The pending cycles of each tenant, by when they can be claimed.
    queues: HashMap<String, BTreeSet<Place>>,
    fronts: BTreeSet<Place>,
    /// The ended ones, by when they ended.
    ended: BTreeSet<Place>,
}

struct Entry {
    cycle: Cycle,
    payload: Bytes,
    attempts: VecDeque<AttemptRecord>,
}

impl Cycles {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            forgotten: 0,
            last_id: 0,
            ids: HashMap::new(),
            entries: HashMap::new(),
            queues: HashMap::new(),
            fronts: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    pub(super) fn stats(&self) -> MemoryStats {
        let ended = self.ended.len();
        MemoryStats { pending: self.entries.len() - ended, ended, forgotten: self.forgotten }
    }

    pub(super) fn get(&self, key: &CycleKey) -> Option<&Cycle> {
        Some(&self.entries.get(self.ids.get(key)?)?.cycle)
    }

    pub(super) fn attempts(&self, key: &CycleKey) -> Vec<AttemptRecord> {
        let entry = self.ids.get(key).and_then(|id| self.entries.get(id));
        entry.map_or_else(Vec::new, |entry| entry.attempts.iter().cloned().collect())
    }

    /// When the first pending cycle can be claimed, in milliseconds.
    pub(super) fn first_wake(&self) -> Option<i64> {
        self.fronts.first().map(|(wake, _)| *wake)
    }

    pub(super) fn schedule(&mut self, new: &NewCycle, now: SystemTime) -> Result<Scheduled, SchedulerError> {
        if let Some(cycle) = self.get(&new.key) {
            return Ok(Scheduled::Exists(cycle.clone()));
        }
        if self.entries.len() >= self.max {
            self.forget_first_ended()?;
        }
        self.last_id += 1;
        let cycle = Cycle::new(new, now);
        self.ids.insert(new.key.clone(), self.last_id);
        // Copied: the caller's bytes may be cut from a larger buffer, which they would keep alive.
        let payload = Bytes::copy_from_slice(&new.payload);
        self.put(self.last_id, Entry { cycle: cycle.clone(), payload, attempts: VecDeque::new() });
        Ok(Scheduled::New(cycle))
    }

    pub(super) fn apply(
        &mut self,
        key: &CycleKey,
        event: Event,
        now: SystemTime,
    ) -> Option<Result<Cycle, Refused>> {
        let id = *self.ids.get(key)?;
        let next = self.entries.get(&id)?.cycle.apply(event, now).map(|transition| transition.cycle);
        if let Ok(cycle) = &next
            && let Some(entry) = self.take(id)
        {
            self.put(id, Entry { cycle: cycle.clone(), ..entry });
        }
        Some(next)
    }

    pub(super) fn finish(&mut self, claim: &Claimed, report: &Report, now: SystemTime) -> Finished {
        let event = Event::Finish { epoch: claim.cycle.epoch, verdict: report.verdict };
        let Some(&id) = self.ids.get(&claim.cycle.key) else { return Finished::Stale };
        let Some(transition) = self.entries.get(&id).and_then(|entry| entry.cycle.apply(event, now).ok())
        else {
            return Finished::Stale;
        };
        let cycle = transition.cycle;
        if let Some(mut entry) = self.take(id) {
            if let Some(number) = transition.attempt {
                while entry.attempts.len() >= MemoryScheduler::ATTEMPTS_KEPT {
                    entry.attempts.pop_front();
                }
                entry.attempts.push_back(AttemptRecord {
                    number,
                    started_at: claim.claimed_at,
                    finished_at: now,
                    verdict: report.verdict,
                    detail: Bytes::copy_from_slice(&report.detail),
                });
            }
            self.put(id, Entry { cycle: cycle.clone(), ..entry });
        }
        Finished::Recorded(cycle)
    }

    /// Takes the longest due of all tenants with room, one after the other, out of the order; then puts them back as they
    /// became. So none is met twice, whatever its lease.
    pub(super) fn claim_due(&mut self, request: &ClaimDue, now: SystemTime) -> Vec<Claimed> {
        let mut shares = request.running.clone();
        let mut met = Vec::new();
        let mut passed = Unbounded;
        while met.len() < request.limit {
            let Some(&front) = self.fronts.range((passed, Unbounded)).next() else { break };
            if front.0 > to_ms(now) {
                break;
            }
            let (_, id) = front;
            let Some(tenant) = self.entries.get(&id).map(|entry| &entry.cycle.tenant) else { break };
            let share = shares.entry(tenant.clone()).or_default();
            if *share >= request.per_tenant {
                // All this tenant has lies behind its front, and what the others have next lies behind theirs.
                passed = Excluded(front);
                continue;
            }
            *share += 1;
            let Some(entry) = self.take(id) else { break };
            met.push((id, entry));
        }
        let mut claimed = Vec::with_capacity(met.len());
        for (id, mut entry) in met {
            if let Ok(transition) = entry.cycle.apply(Event::Claim { lease: request.lease }, now) {
                entry.cycle = transition.cycle;
            }
            if let State::Pending(_) = entry.cycle.state {
                let (cycle, payload) = (entry.cycle.clone(), entry.payload.clone());
                claimed.push(Claimed { cycle, payload, claimed_at: now });
            }
            self.put(id, entry);
        }
        claimed
    }

    fn forget_first_ended(&mut self) -> Result<(), SchedulerError> {
        let first = self.ended.first().map(|(_, id)| *id);
        let Some(entry) = first.and_then(|id| self.take(id)) else {
            return Err(SchedulerError::full(format!("{} cycles are pending", self.max)));
        };
        self.ids.remove(&entry.cycle.key);
        self.forgotten += 1;
        Ok(())
    }

    /// Puts a cycle where its state belongs.
    fn put(&mut self, id: u64, entry: Entry) {
        match entry.cycle.state {
            State::Ended { at, .. } => {
                self.ended.insert((to_ms(at), id));
            }
            State::Pending(activity) => {
                let place = (to_ms(activity.wake()), id);
                if let Some(queue) = self.queues.get_mut(&entry.cycle.tenant) {
                    let front = queue.first().copied();
                    queue.insert(place);
                    if let Some(front) = front.filter(|front| place < *front) {
                        self.fronts.remove(&front);
                        self.fronts.insert(place);
                    }
                } else {
                    self.queues.insert(entry.cycle.tenant.clone(), BTreeSet::from([place]));
                    self.fronts.insert(place);
                }
            }
        }
        self.entries.insert(id, entry);
    }

    /// Takes a cycle out of all orders; its key stays.
    fn take(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        match entry.cycle.state {
            State::Ended { at, .. } => {
                self.ended.remove(&(to_ms(at), id));
            }
            State::Pending(activity) => {
                let place = (to_ms(activity.wake()), id);
                let queue = self.queues.get_mut(&entry.cycle.tenant)?;
                queue.remove(&place);
                let next = queue.first().copied();
                if next.is_none() {
                    self.queues.remove(&entry.cycle.tenant);
                }
                if self.fronts.remove(&place) {
                    self.fronts.extend(next);
                }
            }
        }
        Some(entry)
    }
}
