//! Transactions of the simple scheduler: one at a time, with all of it locked.

use std::mem::take;
use std::ops::{Deref, DerefMut};

use async_trait::async_trait;
use retry_scheduler::{
    Cancelled, Claimed, Cycle, CycleKey, Finished, NewCycle, Report, Reschedule, Rescheduled, Scheduled,
    SchedulerError, TransactionalScheduler,
};
use tokio::sync::OwnedMutexGuard;

use super::{Answer, Rows, Wrong};
use crate::faults::Fault;

/// What a transaction works on; what was before comes back when it is dropped.
pub(crate) struct Connection {
    wrong: Wrong,
    rows: Option<OwnedMutexGuard<Rows>>,
    /// What was there before; `None`: committed.
    before: Option<Rows>,
}

pub(crate) struct Transaction(Connection);

impl Transaction {
    pub(crate) async fn begin(wrong: &Wrong) -> Self {
        let rows = wrong.rows.clone().lock_owned().await;
        let before = Some(rows.clone());
        *wrong.before.lock().await = before.clone();
        let rows = (!wrong.is(Fault::SeenBefore)).then_some(rows);
        Self(Connection { wrong: wrong.clone(), rows, before })
    }

    pub(crate) fn commit(mut self) {
        let before = self.0.before.take();
        if self.0.wrong.is(Fault::CommitLosesAttempt)
            && let (Some(rows), Some(before)) = (&mut self.0.rows, before)
        {
            for (name, row) in &mut rows.rows {
                row.attempts = before.rows.get(name).map_or_else(Vec::new, |row| row.attempts.clone());
            }
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.wrong.before.try_lock().expect("the tests run on one thread") = None;
        let Some(mut before) = self.before.take() else { return };
        let mut free;
        let rows: &mut Rows = if let Some(rows) = &mut self.rows {
            rows
        } else {
            free = self.wrong.rows.try_lock().expect("the tests run on one thread");
            &mut free
        };
        match self.wrong.fault {
            Fault::RollbackKeeps => {}
            Fault::RollbackKeepsCycles => {
                for (name, row) in &mut rows.rows {
                    row.attempts =
                        before.rows.get_mut(name).map_or_else(Vec::new, |row| take(&mut row.attempts));
                }
            }
            _ => *rows = before,
        }
    }
}

impl Connection {
    async fn on<T>(&mut self, verb: impl FnOnce(&Wrong, &mut Rows) -> T) -> T {
        match &mut self.rows {
            Some(rows) => verb(&self.wrong, rows),
            None => verb(&self.wrong, &mut *self.wrong.rows.lock().await),
        }
    }
}

#[async_trait]
impl TransactionalScheduler<Connection> for Wrong {
    async fn schedule_in(&self, connection: &mut Connection, new: NewCycle) -> Answer<Scheduled> {
        connection.on(|wrong, rows| wrong.schedule_on(rows, new)).await
    }

    async fn finish_in(
        &self,
        connection: &mut Connection,
        claim: &Claimed,
        report: Report,
    ) -> Answer<Finished> {
        connection
            .on(|wrong, rows| {
                let answer = wrong.finish_on(rows, claim, &report)?;
                match (wrong.fault, &answer) {
                    (Fault::StaleIsError, Finished::Stale) => return Err(SchedulerError::invalid("stale")),
                    (Fault::StaleLeavesAttempt, Finished::Stale) => {
                        let row = rows.rows.get_mut(&claim.cycle.key).unwrap();
                        row.attempts.push(retry_scheduler::AttemptRecord::new(
                            claim.attempt(),
                            claim.claimed_at,
                            wrong.now(),
                            report.verdict,
                            report.detail,
                        ));
                    }
                    _ => {}
                }
                Ok(answer)
            })
            .await
    }

    async fn cancel_in(&self, connection: &mut Connection, key: &CycleKey) -> Answer<Cancelled> {
        connection.on(|wrong, rows| wrong.cancel_on(rows, key)).await
    }

    async fn reschedule_in(
        &self,
        connection: &mut Connection,
        key: &CycleKey,
        change: Reschedule,
    ) -> Answer<Rescheduled> {
        connection.on(|wrong, rows| wrong.reschedule_on(rows, key, change)).await
    }

    async fn get_in(&self, connection: &mut Connection, key: &CycleKey) -> Answer<Option<Cycle>> {
        if self.is(Fault::TransactionBlind)
            && let Some(before) = &connection.before
        {
            return Ok(before.rows.get(key).map(|row| row.cycle.clone()));
        }
        connection.on(|wrong, rows| Ok(rows.rows.get(&wrong.name(key)).map(|row| row.cycle.clone()))).await
    }

    async fn attempts_in(
        &self,
        connection: &mut Connection,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Answer<Vec<retry_scheduler::AttemptRecord>> {
        let committed = self.is(Fault::AttemptsBlind);
        let list = |attempts: &[retry_scheduler::AttemptRecord]| {
            attempts.iter().filter(|attempt| attempt.number > after).take(limit).cloned().collect()
        };
        if committed && let Some(before) = &connection.before {
            return Ok(before.rows.get(key).map_or_else(Vec::new, |row| list(&row.attempts)));
        }
        let read = |wrong: &Wrong, rows: &mut Rows| {
            rows.rows.get(&wrong.name(key)).map_or_else(Vec::new, |row| list(&row.attempts))
        };
        Ok(connection.on(read).await)
    }
}
