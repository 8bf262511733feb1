//! A simple scheduler, right but for one fault.

mod admin;
mod bend;
mod transaction;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use retry_scheduler::{
    AttemptRecord, Cancelled, ClaimDue, Claimed, Claims, Clock, Cycle, CycleKey, EndReason, Event, Fenced,
    Finished, MAX_BYTES, ManualClock, Metadata, Namespaces, NewCycle, Refused, Report, Reschedule,
    Rescheduled, RetryScheduler, Scheduled, SchedulerError, State, Unreadable,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::yield_now;

pub(crate) use self::transaction::{Connection, Transaction};
use crate::faults::Fault;

/// One handle.
#[derive(Clone)]
pub(crate) struct Wrong {
    fault: Fault,
    clock: ManualClock,
    rows: Arc<Mutex<Rows>>,
    /// What was there before the open transaction, for those who do not wait.
    before: Arc<Mutex<Option<Rows>>>,
    nonces: Arc<AtomicU64>,
    endings: Arc<std::sync::Mutex<Vec<(CycleKey, EndReason)>>>,
}

#[derive(Clone, Default)]
#[expect(clippy::struct_field_names, reason = "the rows are the main thing")]
struct Rows {
    last_id: u64,
    rows: HashMap<CycleKey, Row>,
    paused: BTreeSet<String>,
}

#[derive(Clone)]
struct Row {
    id: u64,
    cycle: Cycle,
    payload: Bytes,
    metadata: Metadata,
    attempts: Vec<AttemptRecord>,
    /// It cannot be read.
    spoilt: bool,
    /// Until then nobody meets it.
    aside: Option<SystemTime>,
    /// Leased to a caller who never heard of it.
    lost: bool,
    /// When an attempt that is asked to stop was cancelled.
    cancel_asked: bool,
}

type Answer<T> = Result<T, SchedulerError>;

impl Wrong {
    pub(crate) fn new(fault: Fault, clock: &ManualClock) -> Self {
        Self {
            fault,
            clock: clock.clone(),
            rows: Arc::default(),
            before: Arc::default(),
            nonces: Arc::new(AtomicU64::new(1)),
            endings: Arc::default(),
        }
    }

    fn nonce(&self) -> u64 {
        if self.is(Fault::OneNonce) { 1 } else { self.nonces.fetch_add(1, Ordering::Relaxed) }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    async fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().await
    }

    fn schedule_on(&self, rows: &mut Rows, mut new: NewCycle) -> Answer<Scheduled> {
        self.check_key(&new.key)?;
        if !self.is(Fault::NulTaken) && !self.is(Fault::TextCut) {
            new.check()?;
        }
        let name = self.name(&new.key);
        self.bend_new(&mut new);
        if let Some(row) = rows.rows.get_mut(&name) {
            if self.is(Fault::PayloadReplaced) {
                row.payload = new.payload.clone();
            }
            if !self.is(Fault::ScheduleRevives) || row.cycle.ending().is_none() {
                return Ok(Scheduled::Exists(row.cycle.clone()));
            }
        }
        let mut cycle = Cycle::new(&new, self.now());
        cycle.used = u32::from(self.is(Fault::UsedFromOne));
        rows.last_id += 1;
        let row = Row {
            id: rows.last_id,
            cycle: cycle.clone(),
            payload: new.payload,
            metadata: if self.is(Fault::MetadataLost) { Metadata::new() } else { new.metadata },
            attempts: Vec::new(),
            spoilt: false,
            aside: None,
            lost: false,
            cancel_asked: false,
        };
        self.tell(&cycle);
        rows.rows.insert(name, row);
        Ok(Scheduled::New(cycle))
    }

    /// The names of what is to be given, the longest due first.
    fn find_due(&self, rows: &Rows, request: &ClaimDue) -> Vec<CycleKey> {
        let now = self.now();
        let mut due: Vec<_> = rows
            .rows
            .iter()
            .filter(|(_, row)| self.is_open(rows, row, &request.namespaces))
            .filter(|(_, row)| row.aside.is_none_or(|until| until <= now))
            .filter_map(|(name, row)| {
                let wake = self.wake(row).filter(|wake| *wake <= now)?;
                Some((self.rank(row, wake), name.clone()))
            })
            .collect();
        due.sort_unstable();
        if self.is(Fault::WindowOnly) {
            due.truncate(100);
        }
        let mut shares =
            if self.is(Fault::RunningIgnored) { HashMap::new() } else { request.running.clone() };
        let limit = request.limit + usize::from(self.is(Fault::OneMore) && request.limit > 0);
        let (mut names, mut passed_over) = (Vec::new(), Vec::new());
        for (_, name) in due {
            let tenant = rows.rows[&name].cycle.tenant.clone();
            let tenant = if self.is(Fault::ShareOfAll) { String::new() } else { tenant };
            let share = shares.entry(tenant).or_default();
            *share += 1;
            if *share <= request.per_tenant { names.push(name) } else { passed_over.push(name) }
        }
        names.extend(passed_over);
        names.truncate(limit);
        names
    }

    fn is_open(&self, rows: &Rows, row: &Row, namespaces: &Namespaces) -> bool {
        let name = &row.cycle.key.namespace;
        (self.is(Fault::NamespacesIgnored) || namespaces.contains(name))
            && (self.is(Fault::PauseForgotten) || !rows.paused.contains(name))
    }

    fn tell(&self, cycle: &Cycle) {
        if let Some(reason) = cycle.end_reason()
            && !(self.is(Fault::CancelUntold) && reason == EndReason::Cancelled)
        {
            self.endings.lock().unwrap().push((cycle.key.clone(), reason));
        }
    }

    fn lease_on(
        &self,
        rows: &mut Rows,
        name: &CycleKey,
        (lease, nonce): (Duration, u64),
        unreadable: &mut Vec<Unreadable>,
    ) -> Option<Claimed> {
        let row = rows.rows.get_mut(name)?;
        if row.spoilt {
            if self.is(Fault::UnreadableLeased) {
                let _ = self.apply(row, Event::Claim { lease, nonce });
            }
            if !self.is(Fault::UnreadableMetAgain) {
                row.aside = Some(self.now() + Duration::from_secs(10));
            }
            let error = SchedulerError::invalid("it is spoilt");
            unreadable.push(Unreadable::new(Some(row.cycle.key.clone()), error));
            return None;
        }
        if self.is(Fault::UnreadableStops) && !unreadable.is_empty() {
            return None;
        }
        let cycle = self.apply(row, Event::Claim { lease, nonce }).ok()?;
        let State::Pending(_) = cycle.state else { return None };
        let claimed = Claimed::new(cycle, row.payload.clone(), self.now());
        let mut claimed = claimed.metadata(row.metadata.clone());
        self.bend_claimed(&mut claimed);
        Some(claimed)
    }

    fn finish_on(&self, rows: &mut Rows, claim: &Claimed, report: &Report) -> Answer<Finished> {
        self.check_report(report)?;
        let now = self.now();
        let Some(row) = rows.rows.get_mut(&self.name(&claim.cycle.key)) else { return Ok(Finished::Stale) };
        let event = Event::Finish {
            fence: claim.fence(),
            verdict: report.verdict,
            retry_in: report.retry_in.filter(|_| !self.is(Fault::OwnDelayIgnored)),
        };
        let Ok(cycle) = self.apply(row, event) else { return Ok(Finished::Stale) };
        row.attempts.push(AttemptRecord::new(
            if self.is(Fault::NumbersRestart) { cycle.used } else { cycle.attempts },
            if self.is(Fault::StartedAtEnd) { now } else { claim.claimed_at },
            now,
            report.verdict,
            self.kept_detail(&report.detail),
        ));
        if row.cancel_asked && cycle.ending().is_none() {
            row.cycle.state = State::ended(EndReason::Cancelled, now);
        }
        Ok(Finished::Recorded(row.cycle.clone()))
    }

    fn cancel_on(&self, rows: &mut Rows, key: &CycleKey) -> Answer<Cancelled> {
        self.check_key(key)?;
        let Some(row) = rows.rows.get_mut(&self.name(key)) else { return Ok(Cancelled::Unknown) };
        if self.is(Fault::CancelWaits) && is_leased(&row.cycle) {
            row.cancel_asked = true;
            return Ok(Cancelled::Cancelled(row.cycle.clone()));
        }
        Ok(match self.apply(row, Event::Cancel) {
            Ok(cycle) => {
                if self.is(Fault::CancelDropsAttempts) {
                    row.attempts.clear();
                }
                Cancelled::Cancelled(cycle)
            }
            Err(Refused::Ended(_)) if self.is(Fault::CancelEndsAgain) => {
                row.cycle.state = State::ended(EndReason::Cancelled, self.now());
                Cancelled::Cancelled(row.cycle.clone())
            }
            Err(Refused::Ended(ending)) => Cancelled::Ended(ending),
            Err(_) => Cancelled::Unknown,
        })
    }

    fn reschedule_on(&self, rows: &mut Rows, key: &CycleKey, change: Reschedule) -> Answer<Rescheduled> {
        self.check_key(key)?;
        let Some(row) = rows.rows.get_mut(&self.name(key)) else { return Ok(Rescheduled::Unknown) };
        let ended = row.cycle.ending().is_some();
        Ok(match self.apply(row, Event::Reschedule(change)) {
            Ok(cycle) if ended => Rescheduled::Reactivated(cycle),
            Ok(cycle) => Rescheduled::Changed(cycle),
            Err(Refused::Ended(ending)) => Rescheduled::Ended(ending),
            Err(_) => Rescheduled::Unknown,
        })
    }

    fn check_key(&self, key: &CycleKey) -> Answer<()> {
        let taken = self.is(Fault::NulTaken) && key.namespace.len() < 200 && key.subject.len() < 200;
        if taken || self.is(Fault::TextCut) { Ok(()) } else { key.check() }
    }

    fn check_report(&self, report: &Report) -> Answer<()> {
        if self.is(Fault::DetailUnbounded) && report.detail.len() > MAX_BYTES {
            Ok(())
        } else {
            report.check()
        }
    }
}

#[async_trait]
impl RetryScheduler for Wrong {
    async fn schedule(&self, new: NewCycle) -> Answer<Scheduled> {
        if self.is(Fault::TwoStepsToSchedule) {
            let known = self.lock().await.rows.contains_key(&new.key);
            yield_now().await;
            if !known {
                self.lock().await.rows.remove(&new.key);
            }
        }
        self.schedule_on(&mut *self.lock().await, new)
    }

    async fn schedule_many(&self, new: Vec<NewCycle>) -> Answer<Vec<Scheduled>> {
        let mut rows = self.lock().await;
        let answers = new.into_iter().map(|new| self.schedule_on(&mut rows, new));
        let mut answers = answers.collect::<Answer<Vec<_>>>()?;
        if self.is(Fault::ManyReversed) {
            answers.reverse();
        }
        Ok(answers)
    }

    async fn claim_due(&self, request: ClaimDue) -> Answer<Claims> {
        let due = self.find_due(&*self.lock().await, &request);
        match self.fault {
            Fault::TwoStepsToClaim => yield_now().await,
            Fault::LeasedForEver => {
                for name in &due {
                    self.lock().await.rows.entry(name.clone()).and_modify(|row| row.lost = true);
                    yield_now().await;
                }
                for name in &due {
                    self.lock().await.rows.entry(name.clone()).and_modify(|row| row.lost = false);
                }
            }
            _ => {}
        }
        let mut rows = self.lock().await;
        let terms = (request.lease, self.nonce());
        let mut unreadable = Vec::new();
        let claims = due.iter().filter_map(|name| self.lease_on(&mut rows, name, terms, &mut unreadable));
        let mut claims = Claims::from(claims.collect::<Vec<_>>());
        claims.unreadable = unreadable;
        if self.is(Fault::UnreadableFails)
            && let Some(one) = claims.unreadable.pop()
        {
            return Err(one.error);
        }
        Ok(claims)
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Answer<Fenced> {
        let mut rows = self.lock().await;
        let Some(row) = rows.rows.get_mut(&self.name(&claim.cycle.key)) else { return Ok(Fenced::Stale) };
        let event = Event::Extend { fence: claim.fence(), lease };
        Ok(if self.apply(row, event).is_ok() { Fenced::Held } else { Fenced::Stale })
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Answer<Finished> {
        match self.fault {
            Fault::TwoStepsToFinish => {
                let held = self.finish_on(&mut self.lock().await.clone(), claim, &report)?;
                if held == Finished::Stale {
                    return Ok(Finished::Stale);
                }
                yield_now().await;
                let mut rows = self.lock().await;
                let Some(row) = rows.rows.get_mut(&claim.cycle.key) else { return Ok(Finished::Stale) };
                row.cycle = claim.cycle.clone();
                self.finish_on(&mut rows, claim, &report)
            }
            Fault::TwoWritesToFinish => {
                let mut after = self.lock().await.clone();
                let answer = self.finish_on(&mut after, claim, &report)?;
                if answer == Finished::Stale {
                    return Ok(answer);
                }
                let attempts = after.rows[&claim.cycle.key].attempts.clone();
                self.lock()
                    .await
                    .rows
                    .entry(claim.cycle.key.clone())
                    .and_modify(|row| row.attempts = attempts);
                yield_now().await;
                *self.lock().await = after;
                Ok(answer)
            }
            Fault::ReportsPass => {
                if let Some(before) = &*self.before.lock().await {
                    let mut rows = before.clone();
                    return self.finish_on(&mut rows, claim, &report);
                }
                self.finish_on(&mut *self.lock().await, claim, &report)
            }
            _ => self.finish_on(&mut *self.lock().await, claim, &report),
        }
    }

    async fn finish_many(&self, mut reports: Vec<(Claimed, Report)>) -> Answer<Vec<Answer<Finished>>> {
        let mut rows = self.lock().await;
        if self.is(Fault::AnswersSorted) {
            reports.sort_by_key(|(claim, _)| claim.cycle.key.clone());
        }
        let before = rows.clone();
        let mut answers = Vec::new();
        for (claim, report) in &reports {
            let mut claim = claim.clone();
            if self.is(Fault::FinishManyUnfenced)
                && let Some(row) = rows.rows.get(&claim.cycle.key)
            {
                (claim.cycle.epoch, claim.cycle.nonce) = (row.cycle.epoch, row.cycle.nonce);
            }
            if self.is(Fault::ChecksThenWrites)
                && let (Some(row), Some(then)) =
                    (rows.rows.get_mut(&claim.cycle.key), before.rows.get(&claim.cycle.key))
            {
                row.cycle = then.cycle.clone();
            }
            let answer = self.finish_on(&mut rows, &claim, report);
            if self.is(Fault::BatchFails) && answer.is_err() {
                return answer.map(|_| Vec::new());
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Answer<Fenced> {
        let mut rows = self.lock().await;
        let Some(row) = rows.rows.get_mut(&self.name(&claim.cycle.key)) else { return Ok(Fenced::Stale) };
        let event = Event::Defer { fence: claim.fence(), delay };
        let Ok(cycle) = self.apply(row, event) else { return Ok(Fenced::Stale) };
        if self.is(Fault::DeferredKept) {
            row.attempts.push(AttemptRecord::new(
                cycle.attempts + 1,
                claim.claimed_at,
                self.now(),
                retry_scheduler::Verdict::Failure,
                Bytes::new(),
            ));
        }
        Ok(Fenced::Held)
    }

    async fn cancel(&self, key: &CycleKey) -> Answer<Cancelled> {
        self.cancel_on(&mut *self.lock().await, key)
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Answer<Rescheduled> {
        self.reschedule_on(&mut *self.lock().await, key, change)
    }

    async fn get(&self, key: &CycleKey) -> Answer<Option<Cycle>> {
        self.check_key(key)?;
        Ok(self.lock().await.rows.get(&self.name(key)).map(|row| row.cycle.clone()))
    }

    async fn attempts(&self, key: &CycleKey, after: u32, limit: usize) -> Answer<Vec<AttemptRecord>> {
        self.check_key(key)?;
        let rows = self.lock().await;
        let attempts = rows.rows.get(&self.name(key)).into_iter().flat_map(|row| &row.attempts);
        let after = if self.is(Fault::PagesOverlap) { after.saturating_sub(1) } else { after };
        Ok(attempts.filter(|attempt| attempt.number > after).take(limit).cloned().collect())
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Answer<usize> {
        let (mut rows, now) = (self.lock().await, self.now());
        let older_than = if self.is(Fault::PurgeTooEarly) { Duration::ZERO } else { older_than };
        let old = |row: &Row| matches!(row.cycle.state, State::Ended { at, .. } if at + older_than <= now);
        let names = rows.rows.iter().filter(|(_, row)| old(row)).map(|(name, _)| name.clone());
        let names: Vec<_> = names.take(limit).collect();
        for name in &names {
            if self.is(Fault::PurgeKeepsKeys) {
                rows.rows.entry(name.clone()).and_modify(|row| row.attempts.clear());
            } else {
                rows.rows.remove(name);
            }
        }
        Ok(names.len())
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Answer<Option<Duration>> {
        let (rows, now) = (self.lock().await, self.now());
        let all = Namespaces::All;
        let namespaces = if self.is(Fault::WakeOfAll) { &all } else { namespaces };
        let selected = rows.rows.values().filter(|row| self.is_open(&rows, row, namespaces));
        let wakes = selected.filter_map(|row| match row.cycle.state {
            State::Ended { at, .. } => self.is(Fault::WakeOfEnded).then_some(at),
            State::Pending(_) if self.is(Fault::WakeIgnoresLeases) && is_leased(&row.cycle) => None,
            State::Pending(_) => self.wake(row),
        });
        Ok(wakes.min().map(|wake| wake.duration_since(now).unwrap_or_default()))
    }
}

fn is_leased(cycle: &Cycle) -> bool {
    matches!(cycle.state, State::Pending(retry_scheduler::Activity::Leased { .. }))
}
