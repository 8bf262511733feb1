//! The leases of a worker, renewed together.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::handle::Meter;
use super::{backoff, patience, within};
use crate::claim::Claimed;
use crate::clock;
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::scheduler::{Fenced, RetryScheduler};

/// The leases that a worker holds. [`keep`](Self::keep) renews them, each after a third of it, in
/// one call for all that are due within the next sixth.
pub(super) struct Leases {
    scheduler: Arc<dyn RetryScheduler>,
    meter: Arc<Meter>,
    lease: Duration,
    table: Mutex<Table>,
    /// A lease was added that is due for renewal before the others.
    added: Notify,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    entries: BTreeMap<u64, Entry>,
    /// Until when `keep` sleeps.
    asleep_until: Option<Instant>,
    /// Failed calls in a row.
    failures: u32,
}

struct Entry {
    claimed: Claimed,
    /// When to renew it; `None`: somebody else has the cycle.
    next_beat: Option<Instant>,
    /// Its row was locked by somebody: it is renewed alone, so that the others need not wait for
    /// that.
    alone: bool,
    term: watch::Sender<Term>,
}

/// Leases to renew, by their ids.
type Renewals = Vec<(u64, Claimed)>;

#[derive(Clone, Copy, Debug)]
struct Term {
    /// The end is counted from before the call that got or renewed the lease, so it is never later
    /// than the scheduler's.
    until: Instant,
    taken: bool,
}

/// One lease, which is renewed until this is dropped.
pub(super) struct Lease<'a> {
    leases: &'a Leases,
    id: u64,
    term: watch::Receiver<Term>,
}

/// How a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It could not be renewed in time. The claim holds until somebody else claims the cycle, and
    /// renewals go on.
    Lapsed,
    /// The cycle was claimed, changed or ended by somebody else.
    Taken,
}

impl Leases {
    pub(super) fn new(scheduler: Arc<dyn RetryScheduler>, meter: Arc<Meter>, lease: Duration) -> Self {
        Self { scheduler, meter, lease, table: Mutex::default(), added: Notify::new() }
    }

    /// Holds the lease of a claim that was asked for at `asked`.
    pub(super) fn hold(&self, claimed: &Claimed, asked: Instant) -> Lease<'_> {
        let (sender, term) = watch::channel(Term { until: clock::after(asked, self.lease), taken: false });
        let next_beat = clock::after(asked, self.heartbeat());
        let mut table = self.lock();
        table.last_id += 1;
        let id = table.last_id;
        let entry =
            Entry { claimed: claimed.clone(), next_beat: Some(next_beat), alone: false, term: sender };
        table.entries.insert(id, entry);
        if table.asleep_until.is_none_or(|until| next_beat < until) {
            self.added.notify_one();
        }
        Lease { leases: self, id, term }
    }

    /// Renews leases when they are due, for ever.
    pub(super) async fn keep(&self) -> Infallible {
        loop {
            let next = {
                let mut table = self.lock();
                table.asleep_until = table.entries.values().filter_map(|entry| entry.next_beat).min();
                table.asleep_until
            };
            select! {
                () = self.added.notified() => continue,
                () = sleep_until(next.unwrap_or_else(clock::now)), if next.is_some() => {}
            }
            let _ = self.renew(false).await;
        }
    }

    /// Renews the leases that have run out, before the worker claims again: it must not take over
    /// its own attempts.
    pub(super) async fn recover(&self) -> Result<(), SchedulerError> {
        let now = clock::now();
        if self.lock().entries.values().any(|entry| entry.has_lapsed(now)) {
            self.renew(true).await?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// When the scheduler was not reached.
    async fn renew(&self, lapsed: bool) -> Result<(), SchedulerError> {
        let (together, mut alone) = self.take_due(lapsed);
        if let [only] = &together[..] {
            alone.insert(0, only.clone());
        } else if !together.is_empty() {
            let (ids, claims): (Vec<_>, Vec<_>) = together.iter().cloned().unzip();
            let asked = clock::now();
            match within(patience(self.lease), self.scheduler.extend_many(&claims, self.lease)).await {
                Ok(answers) => {
                    self.meter.answered();
                    for (id, answer) in ids.into_iter().zip(answers) {
                        self.renewed(id, answer, asked);
                    }
                }
                Err(error) => {
                    self.meter.failed("extend_many", &error);
                    if is_outage(&error) {
                        let ids = together.iter().chain(&alone).map(|(id, _)| *id);
                        self.postpone(ids);
                        return Err(error);
                    }
                    // One of them is the reason.
                    alone.splice(0..0, together);
                }
            }
        }
        let mut alone = alone.into_iter();
        while let Some((id, claimed)) = alone.next() {
            let asked = clock::now();
            match within(patience(self.lease), self.scheduler.extend(&claimed, self.lease)).await {
                Ok(answer) => {
                    self.meter.answered();
                    self.renewed(id, answer, asked);
                }
                Err(error) => {
                    self.meter.failed("extend", &error);
                    if is_outage(&error) {
                        self.postpone([id].into_iter().chain(alone.map(|(id, _)| id)));
                        return Err(error);
                    }
                    if let Some(entry) = self.lock().entries.get_mut(&id) {
                        entry.alone = true;
                    }
                    self.postpone([id]);
                }
            }
        }
        Ok(())
    }

    /// The leases to renew now: in one call, and each alone.
    fn take_due(&self, lapsed: bool) -> (Renewals, Renewals) {
        let (now, heartbeat) = (clock::now(), self.heartbeat());
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (id, entry) in &mut self.lock().entries {
            let due = entry.next_beat.is_some_and(|beat| beat <= clock::after(now, heartbeat / 2));
            if due || lapsed && entry.has_lapsed(now) {
                entry.next_beat = Some(clock::after(now, heartbeat));
                let these = if entry.alone { &mut alone } else { &mut together };
                these.push((*id, entry.claimed.clone()));
            }
        }
        (together, alone)
    }

    fn renewed(&self, id: u64, answer: Fenced, asked: Instant) {
        let mut table = self.lock();
        table.failures = 0;
        let Some(entry) = table.entries.get_mut(&id) else { return };
        match answer {
            Fenced::Held => {
                entry.alone = false;
                entry.next_beat = Some(clock::after(asked, self.heartbeat()));
                let until = clock::after(asked, self.lease);
                entry.term.send_modify(|term| term.until = term.until.max(until));
            }
            Fenced::Stale => {
                entry.next_beat = None;
                entry.term.send_modify(|term| term.taken = true);
            }
        }
    }

    /// Has another try after a pause.
    fn postpone(&self, ids: impl IntoIterator<Item = u64>) {
        let mut table = self.lock();
        let pause = backoff(table.failures).min(self.heartbeat());
        table.failures = table.failures.saturating_add(1);
        let next_beat = clock::after(clock::now(), pause);
        for id in ids {
            if let Some(entry) = table.entries.get_mut(&id).filter(|entry| entry.next_beat.is_some()) {
                entry.next_beat = Some(next_beat);
            }
        }
    }

    fn heartbeat(&self) -> Duration {
        self.lease / 3
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn has_lapsed(&self, now: Instant) -> bool {
        let Term { until, taken } = *self.term.borrow();
        !taken && until <= now
    }
}

impl Lease<'_> {
    /// Waits until the lease is lost. Can be dropped and called again.
    pub(super) async fn lost(&mut self) -> Loss {
        loop {
            let Term { until, taken } = *self.term.borrow_and_update();
            if taken {
                return Loss::Taken;
            }
            select! {
                biased;
                _ = self.term.changed() => {}
                () = sleep_until(until) => return Loss::Lapsed,
            }
        }
    }

    /// Waits until somebody else has the cycle.
    pub(super) async fn taken(&mut self) {
        // The sender lives as long as this does.
        let _ = self.term.wait_for(|term| term.taken).await;
    }

    pub(super) fn is_taken(&self) -> bool {
        self.term.borrow().taken
    }

    /// How long the lease holds unless it is renewed.
    pub(super) fn remaining(&self) -> Duration {
        self.term.borrow().until.saturating_duration_since(clock::now())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.leases.lock().entries.remove(&self.id);
    }
}

/// Whether other calls would fail too.
fn is_outage(error: &SchedulerError) -> bool {
    matches!(error.kind(), SchedulerErrorKind::Unavailable | SchedulerErrorKind::NotMigrated)
}
