//! The verbs of operators.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::MemoryScheduler;
use super::cycles::Cycles;
use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, CyclePage, NamespaceCounts, RunNow};
use crate::bounds::check_text;
use crate::cycle::{Activity, Cycle, CycleKey, Event, Refused, Reschedule, State};
use crate::error::SchedulerError;
use crate::millis::{to_ms, whole};

#[async_trait]
impl CycleAdmin for MemoryScheduler {
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<CyclePage, SchedulerError> {
        after.map_or(Ok(()), CycleKey::check)?;
        let cycles = self.lock();
        let now = whole(self.clock.now());
        let after = match after {
            Some(key) => Some(place_of(&cycles, key)?),
            None => None,
        };
        let mut listed = matching(&cycles, filter, now);
        listed.retain(|(place, _)| after.as_ref().is_none_or(|after| place > after));
        let rows = listed.into_iter().take(limit).map(|(_, cycle)| (cycle.key.clone(), Ok(cycle.clone())));
        Ok(CyclePage::new(rows.collect(), limit))
    }

    async fn counts(&self) -> Result<Vec<NamespaceCounts>, SchedulerError> {
        let cycles = self.lock();
        let now = whole(self.clock.now());
        let mut all = BTreeMap::new();
        for name in cycles.paused() {
            let paused = NamespaceCounts { paused: true, ..NamespaceCounts::new(name) };
            all.insert(name.clone(), paused);
        }
        for (_, cycle) in cycles.all() {
            let name = &cycle.key.namespace;
            let counts = all.entry(name.clone()).or_insert_with(|| NamespaceCounts::new(name));
            count(counts, cycle, now);
        }
        Ok(all.into_values().collect())
    }

    async fn pause(&self, namespace: &str) -> Result<bool, SchedulerError> {
        check_text("namespace", namespace)?;
        Ok(self.lock().paused_mut().insert(namespace.to_owned()))
    }

    async fn resume(&self, namespace: &str) -> Result<bool, SchedulerError> {
        check_text("namespace", namespace)?;
        Ok(self.lock().paused_mut().remove(namespace))
    }

    async fn paused(&self) -> Result<BTreeSet<String>, SchedulerError> {
        Ok(self.lock().paused().clone())
    }

    async fn run_now(&self, key: &CycleKey) -> Result<RunNow, SchedulerError> {
        key.check()?;
        Ok(match self.change(|cycles, now| cycles.apply(key, Event::RunNow, now)) {
            Some(Ok(cycle)) => RunNow::Due(cycle),
            Some(Err(Refused::Ended(ending))) => RunNow::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Leased | Refused::Stale)) => RunNow::Leased,
            None => RunNow::Unknown,
        })
    }

    async fn cancel_many(&self, filter: &CycleFilter, limit: usize) -> Result<Changed, SchedulerError> {
        Ok(self.change_many(filter, &Event::Cancel, limit))
    }

    async fn reschedule_many(
        &self,
        filter: &CycleFilter,
        change: Reschedule,
        limit: usize,
    ) -> Result<Changed, SchedulerError> {
        Ok(self.change_many(filter, &Event::Reschedule(change), limit))
    }
}

impl MemoryScheduler {
    fn change_many(&self, filter: &CycleFilter, event: &Event, limit: usize) -> Changed {
        self.change(|cycles, now| {
            let matching = matching(cycles, filter, now);
            let keys: Vec<_> = matching.into_iter().take(limit).map(|(_, cycle)| cycle.key.clone()).collect();
            let applied = keys.iter().filter_map(|key| cycles.apply(key, event.clone(), now)?.ok());
            Changed::new(applied.count())
        })
    }
}

/// Where a cycle stands in a list: by namespace, then by time, then by age.
type ListPlace = (String, i64, u64);

fn place(id: u64, cycle: &Cycle) -> ListPlace {
    let time = match cycle.state {
        State::Pending(activity) => activity.wake(),
        State::Ended { at, .. } => at,
    };
    (cycle.key.namespace.clone(), to_ms(time), id)
}

fn place_of(cycles: &Cycles, key: &CycleKey) -> Result<ListPlace, SchedulerError> {
    let place = cycles.id(key).and_then(|id| Some(place(id, cycles.get(key)?)));
    place.ok_or_else(|| SchedulerError::invalid("the cycle to list behind is unknown"))
}

fn matching<'a>(cycles: &'a Cycles, filter: &CycleFilter, now: SystemTime) -> Vec<(ListPlace, &'a Cycle)> {
    let matches = |cycle: &Cycle| {
        filter.namespace.as_ref().is_none_or(|namespace| *namespace == cycle.key.namespace)
            && filter.tenant.as_ref().is_none_or(|tenant| *tenant == cycle.tenant)
            && is_of(filter.class, cycle, now)
    };
    let all = cycles.all().filter(|(_, cycle)| matches(cycle));
    let mut all: Vec<_> = all.map(|(id, cycle)| (place(id, cycle), cycle)).collect();
    all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    all
}

fn is_of(class: CycleClass, cycle: &Cycle, now: SystemTime) -> bool {
    match cycle.state {
        State::Ended { ending, .. } => class.ending() == Some(ending),
        State::Pending(activity) => match class {
            CycleClass::Pending => true,
            CycleClass::Due => activity.wake() <= now,
            CycleClass::Waiting => matches!(activity, Activity::Idle { due } if due > now),
            CycleClass::Leased => matches!(activity, Activity::Leased { until } if until > now),
            CycleClass::Resolved | CycleClass::Exhausted | CycleClass::Cancelled => false,
        },
    }
}

fn count(counts: &mut NamespaceCounts, cycle: &Cycle, now: SystemTime) {
    let classes = [
        (CycleClass::Due, &mut counts.due),
        (CycleClass::Waiting, &mut counts.waiting),
        (CycleClass::Leased, &mut counts.leased),
        (CycleClass::Resolved, &mut counts.resolved),
        (CycleClass::Exhausted, &mut counts.exhausted),
        (CycleClass::Cancelled, &mut counts.cancelled),
    ];
    for (class, count) in classes {
        if is_of(class, cycle, now) {
            *count = NamespaceCounts::MAX.min(*count + 1);
        }
    }
    if let State::Pending(activity) = cycle.state
        && let Ok(since) = now.duration_since(activity.wake())
    {
        let longest = counts.oldest_due.unwrap_or(Duration::ZERO);
        counts.oldest_due = Some(longest.max(since));
    }
}
