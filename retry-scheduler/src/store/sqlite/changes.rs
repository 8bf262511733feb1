//! What verbs do to cycles: load, ask the state machine, write. Whoever calls has a transaction
//! open that writes, so nothing changes in between.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use serde_json::json;
use sqlx::{SqliteConnection, query};

use super::failed;
use super::rows::{self, Row, Writes, columns, get, load};
use super::sql;
use crate::claim::{Claimed, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Refused, Reschedule, Transition};
use crate::ended::EndedHook;
use crate::error::SchedulerError;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, Scheduled};
use crate::store::codec;

/// A connection in a transaction, the time, and who is told of endings.
pub(super) struct Changes<'a> {
    pub(super) connection: &'a mut SqliteConnection,
    pub(super) hook: Option<&'a dyn EndedHook<SqliteConnection>>,
    pub(super) now: SystemTime,
}

impl Changes<'_> {
    pub(super) async fn schedule(&mut self, new: &NewCycle) -> Result<Scheduled, SchedulerError> {
        let cycle = Cycle::new(new, self.now);
        if cycle.ending().is_none() || self.hook.is_none() {
            return self.insert(new, cycle).await;
        }
        self.open().await?;
        let answer = match self.insert(new, cycle).await {
            Ok(Scheduled::New(cycle)) => self.tell(&cycle).await.map(|()| Scheduled::New(cycle)),
            answer => answer,
        };
        self.close(answer).await
    }

    async fn insert(&mut self, new: &NewCycle, cycle: Cycle) -> Result<Scheduled, SchedulerError> {
        let NewCycle { key, tenant, plan, payload, metadata, .. } = new;
        let subject = query(sql::SCHEDULE_SUBJECT)
            .bind(&key.namespace)
            .bind(&key.subject)
            .bind(&payload[..])
            .bind(codec::metadata_text(metadata));
        let Some(subject) = subject.fetch_optional(&mut *self.connection).await.map_err(failed)? else {
            let row = load(self.connection, key).await?;
            let lost = || SchedulerError::invalid("a subject without a cycle");
            return row.map(|row| Scheduled::Exists(row.cycle)).ok_or_else(lost);
        };
        let (state, reason, wake_at, ended_at) = columns(cycle.state);
        let insert = query(sql::SCHEDULE)
            .bind(get::<i64>(&subject, 0)?)
            .bind(&key.namespace)
            .bind(tenant)
            .bind(i64::from(plan.max_attempts()))
            .bind(codec::delays_text(plan))
            .bind(codec::last_start_ms(plan))
            .bind(i16::from(plan.jitter_percent()))
            .bind(i64::from(plan.deferral_limit()))
            .bind(state)
            .bind(reason)
            .bind(wake_at)
            .bind(ended_at);
        insert.execute(&mut *self.connection).await.map_err(failed)?;
        Ok(Scheduled::New(cycle))
    }

    /// Applies an event to a cycle. `None`: there is no such cycle.
    pub(super) async fn apply(
        &mut self,
        key: &CycleKey,
        event: Event,
    ) -> Result<Option<Result<Cycle, Refused>>, SchedulerError> {
        let Some(row) = load(self.connection, key).await? else { return Ok(None) };
        let transition = match row.cycle.apply(event.clone(), self.now) {
            Ok(transition) => transition,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        self.write(row, transition, &event, None).await.map(|cycle| Some(Ok(cycle)))
    }

    /// Writes what an event made of a cycle, and tells of its end.
    pub(super) async fn write(
        &mut self,
        row: Row,
        transition: Transition,
        event: &Event,
        attempt: Option<AttemptRecord>,
    ) -> Result<Cycle, SchedulerError> {
        let cycle = transition.cycle;
        let claimed_at = if let Event::Claim { .. } = event { Some(self.now) } else { row.claimed_at };
        let row = Row { id: row.id, cycle: cycle.clone(), claimed_at };
        let mut writes = Writes::default();
        writes.row(&row);
        if let Some(attempt) = attempt {
            writes.attempt(row.id, &attempt);
        }
        let plan = matches!(event, Event::Reschedule(_)).then_some(&row);
        if cycle.ending().is_none() || self.hook.is_none() {
            self.write_all(writes, plan).await?;
            return Ok(cycle);
        }
        self.open().await?;
        let written = match self.write_all(writes, plan).await {
            Ok(()) => self.tell(&cycle).await,
            error => error,
        };
        self.close(written.map(|()| cycle)).await
    }

    async fn write_all(&mut self, writes: Writes, plan: Option<&Row>) -> Result<(), SchedulerError> {
        writes.write(self.connection).await?;
        let Some(Row { id, cycle: Cycle { plan, .. }, .. }) = plan else { return Ok(()) };
        let write = query(sql::WRITE_PLAN)
            .bind(id)
            .bind(i64::from(plan.max_attempts()))
            .bind(codec::delays_text(plan))
            .bind(codec::last_start_ms(plan))
            .bind(i16::from(plan.jitter_percent()))
            .bind(i64::from(plan.deferral_limit()));
        write.execute(&mut *self.connection).await.map_err(failed).map(drop)
    }

    pub(super) async fn fenced(&mut self, claim: &Claimed, event: Event) -> Result<Fenced, SchedulerError> {
        let applied = self.apply(&claim.cycle.key, event).await?;
        Ok(if let Some(Ok(_)) = applied { Fenced::Held } else { Fenced::Stale })
    }

    pub(super) async fn finish(
        &mut self,
        claim: &Claimed,
        report: &Report,
    ) -> Result<Finished, SchedulerError> {
        let Some(row) = load(self.connection, &claim.cycle.key).await? else { return Ok(Finished::Stale) };
        let event = finish_event(claim, report);
        let Ok(transition) = row.cycle.apply(event.clone(), self.now) else { return Ok(Finished::Stale) };
        let attempt = self.attempt(&row, &transition, report);
        self.write(row, transition, &event, attempt).await.map(Finished::Recorded)
    }

    fn attempt(&self, row: &Row, transition: &Transition, report: &Report) -> Option<AttemptRecord> {
        let started_at = row.claimed_at.unwrap_or(self.now);
        let detail = report.detail.clone();
        transition
            .attempt
            .map(|number| AttemptRecord::new(number, started_at, self.now, report.verdict, detail))
    }

    /// Writes at once what tells nobody; what does, one by one, so that a hook that fails is its
    /// own report's matter. Reports about one cycle are taken in their order.
    pub(super) async fn finish_many(
        &mut self,
        reports: &[(Claimed, Report)],
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        let keys: Vec<_> =
            reports.iter().map(|(claim, _)| [&claim.cycle.key.namespace, &claim.cycle.key.subject]).collect();
        let found = query(sql::GET_MANY).bind(json!(keys).to_string()).fetch_all(&mut *self.connection).await;
        let mut known = HashMap::new();
        let mut broken = HashMap::new();
        for row in &found.map_err(failed)? {
            match rows::read(row) {
                Ok(row) => drop(known.insert(row.cycle.key.clone(), row)),
                Err(unreadable) => drop(unreadable.key.map(|key| broken.insert(key, unreadable.error))),
            }
        }
        let mut answers: Vec<_> = reports.iter().map(|_| Ok(Finished::Stale)).collect();
        let (mut changed, mut attempts, mut one_by_one) = (HashSet::new(), Writes::default(), HashSet::new());
        for (place, (claim, report)) in reports.iter().enumerate() {
            let key = &claim.cycle.key;
            if let Err(error) = report.check() {
                answers[place] = Err(error);
                continue;
            }
            if let Some(error) = broken.remove(key) {
                answers[place] = Err(error);
                continue;
            }
            let Some(row) = known.get_mut(key) else { continue };
            if one_by_one.contains(key) {
                continue;
            }
            let Ok(transition) = row.cycle.apply(finish_event(claim, report), self.now) else { continue };
            if self.hook.is_some() && transition.cycle.ending().is_some() {
                one_by_one.insert(key.clone());
                continue;
            }
            if let Some(attempt) = self.attempt(row, &transition, report) {
                attempts.attempt(row.id, &attempt);
            }
            row.cycle = transition.cycle;
            changed.insert(key.clone());
            answers[place] = Ok(Finished::Recorded(row.cycle.clone()));
        }
        let mut writes = attempts;
        for key in &changed {
            if let Some(row) = known.get(key) {
                writes.row(row);
            }
        }
        writes.write(self.connection).await?;
        for (place, (claim, report)) in reports.iter().enumerate() {
            if one_by_one.contains(&claim.cycle.key) && matches!(answers[place], Ok(Finished::Stale)) {
                answers[place] = self.finish(claim, report).await;
            }
        }
        Ok(answers)
    }

    pub(super) async fn cancel(&mut self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        Ok(match self.apply(key, Event::Cancel).await? {
            Some(Ok(cycle)) => Cancelled::Cancelled(cycle),
            Some(Err(Refused::Ended(ending))) => Cancelled::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Leased | Refused::Stale)) | None => Cancelled::Unknown,
        })
    }

    pub(super) async fn reschedule(
        &mut self,
        key: &CycleKey,
        change: &Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        let Some(row) = load(self.connection, key).await? else { return Ok(Rescheduled::Unknown) };
        let (had_ended, event) = (row.cycle.ending().is_some(), Event::Reschedule(change.clone()));
        let transition = match row.cycle.apply(event.clone(), self.now) {
            Ok(transition) => transition,
            Err(Refused::Ended(ending)) => return Ok(Rescheduled::Ended(ending)),
            Err(refused) => return Err(SchedulerError::invalid(format!("{refused:?}"))),
        };
        let cycle = self.write(row, transition, &event, None).await?;
        Ok(if had_ended { Rescheduled::Reactivated(cycle) } else { Rescheduled::Changed(cycle) })
    }

    /// Calls the hook.
    async fn tell(&mut self, cycle: &Cycle) -> Result<(), SchedulerError> {
        let (Some(hook), Some(reason)) = (self.hook, cycle.end_reason()) else { return Ok(()) };
        hook.on_ended(self.connection, cycle, reason).await.map_err(SchedulerError::hook_failed)
    }

    /// Begins a part of the transaction that can be undone alone.
    async fn open(&mut self) -> Result<(), SchedulerError> {
        query("SAVEPOINT retry_ending").execute(&mut *self.connection).await.map_err(failed).map(drop)
    }

    /// Keeps that part, or undoes it where it failed.
    async fn close<T>(&mut self, answer: Result<T, SchedulerError>) -> Result<T, SchedulerError> {
        if answer.is_err() {
            query("ROLLBACK TO retry_ending").execute(&mut *self.connection).await.map_err(failed)?;
        }
        query("RELEASE retry_ending").execute(&mut *self.connection).await.map_err(failed)?;
        answer
    }
}

fn finish_event(claim: &Claimed, report: &Report) -> Event {
    Event::Finish { fence: claim.fence(), verdict: report.verdict, retry_in: report.retry_in }
}
