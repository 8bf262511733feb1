//! The verbs of operators of the simple scheduler, and what the kit's harness does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use async_trait::async_trait;
use retry_scheduler::{
    Activity, Changed, Cycle, CycleAdmin, CycleClass, CycleFilter, CycleKey, CyclePage, EndReason, Ending,
    Event, NamespaceCounts, Refused, Reschedule, RunNow, SchedulerError, State, Unreadable,
};

use super::{Answer, Row, Rows, Wrong};
use crate::faults::Fault;

impl Wrong {
    pub(crate) async fn set_spoilt(&self, key: &CycleKey, spoilt: bool) {
        self.lock().await.rows.entry(key.clone()).and_modify(|row| row.spoilt = spoilt);
    }

    pub(crate) async fn restore(&self, before: &Cycle) {
        self.lock().await.rows.entry(before.key.clone()).and_modify(|row| row.cycle = before.clone());
    }

    pub(crate) fn endings(&self) -> Vec<(CycleKey, EndReason)> {
        self.endings.lock().unwrap().clone()
    }

    fn listed<'a>(&self, rows: &'a Rows, filter: &CycleFilter) -> Vec<&'a Row> {
        let now = self.now();
        let matches = |row: &&Row| {
            let cycle = &row.cycle;
            filter.namespace.as_ref().is_none_or(|name| *name == cycle.key.namespace)
                && (self.is(Fault::TenantIgnored)
                    || filter.tenant.as_ref().is_none_or(|tenant| *tenant == cycle.tenant))
                && is_of(filter.class, cycle, now)
        };
        let mut listed: Vec<_> = rows.rows.values().filter(matches).collect();
        listed.sort_by_key(|row| (row.cycle.key.namespace.clone(), time(&row.cycle), row.id));
        if self.is(Fault::ListedByAge) {
            listed.sort_by_key(|row| row.id);
        }
        listed
    }

    async fn change_many(&self, filter: &CycleFilter, event: Event, limit: usize) -> Answer<Changed> {
        let mut rows = self.lock().await;
        let keys: Vec<_> = self.listed(&rows, filter).iter().map(|row| row.cycle.key.clone()).collect();
        let limit = if self.is(Fault::ManyWithoutLimit) { usize::MAX } else { limit };
        let mut count = 0;
        let mut failed = Vec::new();
        for key in keys.into_iter().take(limit) {
            let Some(row) = rows.rows.get_mut(&self.name(&key)) else { continue };
            if row.spoilt {
                failed.push(spoilt(&key));
            } else {
                count += usize::from(self.apply(row, event.clone()).is_ok());
            }
        }
        let mut changed = Changed::new(count);
        if !self.is(Fault::UnchangedUntold) {
            changed.failed = failed;
        }
        Ok(changed)
    }
}

#[async_trait]
impl CycleAdmin for Wrong {
    async fn list(&self, filter: &CycleFilter, after: Option<&CycleKey>, limit: usize) -> Answer<CyclePage> {
        let rows = self.lock().await;
        let listed = self.listed(&rows, filter);
        let behind = match after {
            None => 0,
            Some(key) => {
                let place = listed.iter().position(|row| row.cycle.key == *key);
                place.ok_or_else(|| SchedulerError::invalid("unknown"))? + 1
            }
        };
        let page = listed.into_iter().skip(behind).take(limit);
        let rows = page.map(|row| {
            let key = row.cycle.key.clone();
            let cycle = if row.spoilt { Err(spoilt(&key)) } else { Ok(row.cycle.clone()) };
            (key, cycle)
        });
        let rows = rows.filter(|(_, row)| row.is_ok() || !self.is(Fault::UnreadableEndsList));
        Ok(CyclePage::new(rows.collect(), limit))
    }

    async fn counts(&self) -> Answer<Vec<NamespaceCounts>> {
        let (rows, now) = (self.lock().await, self.now());
        let mut all: BTreeMap<&str, NamespaceCounts> = BTreeMap::new();
        for name in &rows.paused {
            all.entry(name).or_insert_with(|| NamespaceCounts::new(name)).paused = true;
        }
        for row in rows.rows.values() {
            let name = &row.cycle.key.namespace;
            let counts = all.entry(name).or_insert_with(|| NamespaceCounts::new(name));
            match row.cycle.state {
                State::Ended { ending: Ending::Resolved, .. } => counts.resolved += 1,
                State::Ended { ending: Ending::Exhausted, .. } => counts.exhausted += 1,
                State::Ended { ending: Ending::Cancelled, .. } => counts.cancelled += 1,
                State::Pending(activity) if activity.wake() <= now => {
                    counts.due += 1;
                    let since = now.duration_since(activity.wake()).unwrap();
                    counts.oldest_due = counts.oldest_due.max(Some(since));
                }
                State::Pending(Activity::Leased { .. }) if !self.is(Fault::LeasedCountedAsWaiting) => {
                    counts.leased += 1;
                }
                State::Pending(_) => counts.waiting += 1,
            }
        }
        Ok(all.into_values().collect())
    }

    async fn pause(&self, namespace: &str) -> Answer<bool> {
        Ok(self.lock().await.paused.insert(namespace.to_owned()))
    }

    async fn resume(&self, namespace: &str) -> Answer<bool> {
        Ok(self.lock().await.paused.remove(namespace))
    }

    async fn paused(&self) -> Answer<BTreeSet<String>> {
        Ok(self.lock().await.paused.clone())
    }

    async fn run_now(&self, key: &CycleKey) -> Answer<RunNow> {
        let mut rows = self.lock().await;
        let Some(row) = rows.rows.get_mut(&self.name(key)) else { return Ok(RunNow::Unknown) };
        Ok(match self.apply(row, Event::RunNow) {
            Ok(cycle) => RunNow::Due(cycle),
            Err(Refused::Ended(ending)) => RunNow::Ended(ending),
            Err(_) => RunNow::Leased,
        })
    }

    async fn cancel_many(&self, filter: &CycleFilter, limit: usize) -> Answer<Changed> {
        self.change_many(filter, Event::Cancel, limit).await
    }

    async fn reschedule_many(
        &self,
        filter: &CycleFilter,
        change: Reschedule,
        limit: usize,
    ) -> Answer<Changed> {
        self.change_many(filter, Event::Reschedule(change), limit).await
    }
}

fn spoilt(key: &CycleKey) -> Unreadable {
    Unreadable::new(Some(key.clone()), SchedulerError::invalid("it is spoilt"))
}

fn time(cycle: &Cycle) -> SystemTime {
    match cycle.state {
        State::Pending(activity) => activity.wake(),
        State::Ended { at, .. } => at,
    }
}

fn is_of(class: CycleClass, cycle: &Cycle, now: SystemTime) -> bool {
    match cycle.state {
        State::Ended { ending, .. } => class.ending() == Some(ending),
        State::Pending(activity) => match class {
            CycleClass::Pending => true,
            CycleClass::Due => activity.wake() <= now,
            CycleClass::Waiting => matches!(activity, Activity::Idle { due } if due > now),
            CycleClass::Leased => matches!(activity, Activity::Leased { until } if until > now),
            _ => false,
        },
    }
}
