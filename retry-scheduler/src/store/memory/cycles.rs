//! What lies under the lock: the cycles, and the orders they stand in.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::ops::Bound::{self, Excluded, Unbounded};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{MemoryScheduler, MemoryStats};
use crate::claim::{ClaimDue, Claimed, Namespaces, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Refused, State};
use crate::error::SchedulerError;
use crate::metadata::Metadata;
use crate::millis::{duration_ms, to_ms};
use crate::scheduler::{Finished, Scheduled};

/// Where a cycle stands in an order: by time, then by age.
pub(super) type Place = (i64, u64);

/// Cycles by their keys, and by their places. What [`put`](Self::put) and [`take`](Self::take) keep
/// true: a pending cycle is in the queues of its namespace, an ended one in `ended`; no namespace
/// is empty.
pub(super) struct Cycles {
    max: usize,
    forgotten: u64,
    /// Grows with each cycle that is scheduled.
    last_id: u64,
    ids: HashMap<CycleKey, u64>,
    entries: HashMap<u64, Entry>,
    /// The pending cycles.
    pending: BTreeMap<String, Queues>,
    /// The ended ones, by when they ended.
    ended: BTreeSet<Place>,
    paused: BTreeSet<String>,
    /// What ended under this lock, where somebody is to be told.
    just_ended: Option<Vec<Cycle>>,
}

struct Entry {
    cycle: Cycle,
    payload: Bytes,
    metadata: Metadata,
    attempts: VecDeque<AttemptRecord>,
}

/// The pending cycles of a namespace. `fronts` has the first of each queue; no queue is empty.
#[derive(Default)]
struct Queues {
    /// Of each tenant, by when they can be claimed.
    by_tenant: HashMap<String, BTreeSet<Place>>,
    fronts: BTreeSet<Place>,
}

impl Cycles {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            forgotten: 0,
            last_id: 0,
            ids: HashMap::new(),
            entries: HashMap::new(),
            pending: BTreeMap::new(),
            ended: BTreeSet::new(),
            paused: BTreeSet::new(),
            just_ended: None,
        }
    }

    pub(super) fn stats(&self) -> MemoryStats {
        let ended = self.ended.len();
        MemoryStats { pending: self.entries.len() - ended, ended, forgotten: self.forgotten }
    }

    pub(super) fn keep_just_ended(&mut self) {
        self.just_ended = Some(Vec::new());
    }

    pub(super) fn take_just_ended(&mut self) -> Vec<Cycle> {
        self.just_ended.as_mut().map(mem::take).unwrap_or_default()
    }

    pub(super) fn paused(&self) -> &BTreeSet<String> {
        &self.paused
    }

    pub(super) fn paused_mut(&mut self) -> &mut BTreeSet<String> {
        &mut self.paused
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Cycle)> {
        self.entries.iter().map(|(id, entry)| (*id, &entry.cycle))
    }

    pub(super) fn id(&self, key: &CycleKey) -> Option<u64> {
        self.ids.get(key).copied()
    }

    pub(super) fn get(&self, key: &CycleKey) -> Option<&Cycle> {
        Some(&self.entries.get(self.ids.get(key)?)?.cycle)
    }

    pub(super) fn attempts(&self, key: &CycleKey, after: u32, limit: usize) -> Vec<AttemptRecord> {
        let Some(entry) = self.ids.get(key).and_then(|id| self.entries.get(id)) else { return Vec::new() };
        entry.attempts.iter().filter(|attempt| attempt.number > after).take(limit).cloned().collect()
    }

    /// When the first cycle of these can be claimed, in milliseconds.
    pub(super) fn first_wake(&self, namespaces: &Namespaces) -> Option<i64> {
        let selected = self.pending.iter().filter(|(name, _)| self.is_open(namespaces, name));
        selected.filter_map(|(_, queues)| Some(queues.fronts.first()?.0)).min()
    }

    pub(super) fn schedule(&mut self, new: &NewCycle, now: SystemTime) -> Result<Scheduled, SchedulerError> {
        if let Some(cycle) = self.get(&new.key) {
            return Ok(Scheduled::Exists(cycle.clone()));
        }
        if self.entries.len() >= self.max && !self.forget_first_ended() {
            return Err(SchedulerError::full(format!("{} cycles are pending", self.max)));
        }
        self.last_id += 1;
        let cycle = Cycle::new(new, now);
        self.ids.insert(new.key.clone(), self.last_id);
        // Copied: the caller's bytes may be cut from a larger buffer, which they would keep alive.
        let payload = Bytes::copy_from_slice(&new.payload);
        let (metadata, attempts) = (new.metadata.clone(), VecDeque::new());
        self.put(self.last_id, Entry { cycle: cycle.clone(), payload, metadata, attempts });
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
        let Report { verdict, retry_in, .. } = *report;
        let event = Event::Finish { fence: claim.fence(), verdict, retry_in };
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
                let detail = Bytes::copy_from_slice(&report.detail);
                entry.attempts.push_back(AttemptRecord::new(number, claim.claimed_at, now, verdict, detail));
            }
            self.put(id, Entry { cycle: cycle.clone(), ..entry });
        }
        Finished::Recorded(cycle)
    }

    /// Takes the longest due out of the order, one after the other: first of all tenants with room,
    /// then, while there is room in the answer, of any. In the end puts them back as they became.
    /// So none is met twice, whatever its lease.
    pub(super) fn claim_due(&mut self, request: &ClaimDue, nonce: u64, now: SystemTime) -> Vec<Claimed> {
        let mut met = Vec::new();
        let mut shares = request.running.clone();
        self.take_due(request, now, &mut met, |tenant| {
            let share = shares.entry(tenant.to_owned()).or_default();
            let has_room = *share < request.per_tenant;
            *share += usize::from(has_room);
            has_room
        });
        self.take_due(request, now, &mut met, |_| true);

        let mut claimed = Vec::with_capacity(met.len());
        for (id, mut entry) in met {
            let claim = Event::Claim { lease: request.lease, nonce };
            if let Ok(transition) = entry.cycle.apply(claim, now) {
                entry.cycle = transition.cycle;
            }
            if let State::Pending(_) = entry.cycle.state {
                let claim = Claimed::new(entry.cycle.clone(), entry.payload.clone(), now);
                claimed.push(claim.metadata(entry.metadata.clone()));
            }
            self.put(id, entry);
        }
        claimed
    }

    /// Goes through the first due of each tenant, namespace beside namespace, and takes those that
    /// `may` be taken.
    fn take_due(
        &mut self,
        request: &ClaimDue,
        now: SystemTime,
        met: &mut Vec<(u64, Entry)>,
        mut may: impl FnMut(&str) -> bool,
    ) {
        let open = |(name, _): &(&String, _)| self.is_open(&request.namespaces, name);
        let names: Vec<String> = self.pending.iter().filter(open).map(|(name, _)| name.clone()).collect();
        let front = |cycles: &Self, name: usize, passed: Bound<Place>| {
            let fronts = &cycles.pending.get(&names[name])?.fronts;
            Some((*fronts.range((passed, Unbounded)).next()?, name))
        };
        let mut heads: BTreeSet<(Place, usize)> =
            (0..names.len()).filter_map(|name| front(self, name, Unbounded)).collect();
        while met.len() < request.limit {
            let Some((place, name)) = heads.pop_first() else { break };
            let (wake, id) = place;
            if wake > to_ms(now) {
                break;
            }
            let Some(entry) = self.entries.get(&id) else { break };
            if may(&entry.cycle.tenant)
                && let Some(entry) = self.take(id)
            {
                met.push((id, entry));
            }
            // All this tenant has lies behind its front, and what the others have next lies behind
            // theirs.
            heads.extend(front(self, name, Excluded(place)));
        }
    }

    pub(super) fn purge_ended(&mut self, older_than: Duration, limit: usize, now: SystemTime) -> usize {
        let before = to_ms(now).saturating_sub(duration_ms(older_than));
        let due = self.ended.iter().take_while(|(at, _)| *at <= before).take(limit).count();
        (0..due).filter(|_| self.drop_first_ended()).count()
    }

    fn is_open(&self, namespaces: &Namespaces, name: &str) -> bool {
        namespaces.contains(name) && !self.paused.contains(name)
    }

    fn forget_first_ended(&mut self) -> bool {
        let dropped = self.drop_first_ended();
        self.forgotten += u64::from(dropped);
        dropped
    }

    fn drop_first_ended(&mut self) -> bool {
        let first = self.ended.first().map(|(_, id)| *id);
        let Some(entry) = first.and_then(|id| self.take(id)) else { return false };
        self.ids.remove(&entry.cycle.key);
        true
    }

    /// Puts a cycle that changed where its state belongs.
    fn put(&mut self, id: u64, entry: Entry) {
        match entry.cycle.state {
            State::Ended { at, .. } => {
                self.ended.insert((to_ms(at), id));
                if let Some(just_ended) = &mut self.just_ended {
                    just_ended.push(entry.cycle.clone());
                }
            }
            State::Pending(activity) => {
                let place = (to_ms(activity.wake()), id);
                let queues = self.pending.entry(entry.cycle.key.namespace.clone()).or_default();
                queues.insert(&entry.cycle.tenant, place);
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
                let namespace = &entry.cycle.key.namespace;
                if let Some(queues) = self.pending.get_mut(namespace) {
                    queues.remove(&entry.cycle.tenant, (to_ms(activity.wake()), id));
                    if queues.fronts.is_empty() {
                        self.pending.remove(namespace);
                    }
                }
            }
        }
        Some(entry)
    }
}

impl Queues {
    fn insert(&mut self, tenant: &str, place: Place) {
        if let Some(queue) = self.by_tenant.get_mut(tenant) {
            let front = queue.first().copied();
            queue.insert(place);
            if let Some(front) = front.filter(|front| place < *front) {
                self.fronts.remove(&front);
                self.fronts.insert(place);
            }
        } else {
            self.by_tenant.insert(tenant.to_owned(), BTreeSet::from([place]));
            self.fronts.insert(place);
        }
    }

    fn remove(&mut self, tenant: &str, place: Place) {
        let Some(queue) = self.by_tenant.get_mut(tenant) else { return };
        queue.remove(&place);
        let next = queue.first().copied();
        if next.is_none() {
            self.by_tenant.remove(tenant);
        }
        if self.fronts.remove(&place) {
            self.fronts.extend(next);
        }
    }
}
