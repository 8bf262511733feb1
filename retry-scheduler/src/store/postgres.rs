//! Cycles in PostgreSQL.

mod connections;
mod floor;
mod sql;
#[cfg(test)]
mod tests;
mod verbs;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use self::connections::{Connections, within};
use self::floor::Floor;
use super::codec;
use super::migrations::migrator;
use super::shares::Shares;
use super::verbs::Now;
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::clock::{self, Clock};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, NewCycle, Reschedule};
use crate::error::SchedulerError;
use crate::nonce;
use crate::scheduler::{
    Cancelled, Fenced, Finished, Rescheduled, RetryScheduler, Scheduled, TransactionalScheduler,
};

/// Cycles in PostgreSQL, shared by any number of processes; version 13 or newer.
///
/// Time is the server's. Each verb is one statement and one round trip; `reschedule` is two, as is what finds nothing to
/// change and has to say why.
///
/// It has up to [`PostgresScheduler::CONNECTIONS`] connections of its own, opened when they are first needed with the
/// options of the pool it was made with, and leaves the connections of the pool to the application. What the pool does
/// `after_connect` is not done on them. A pooler between them and the server has to pool sessions, not transactions.
///
/// A clone is the same scheduler. Each handle made with [`new`](Self::new) may take some seconds to find a cycle that a
/// transaction wrote long before it committed.
///
/// # Transactions
///
/// The verbs of [`TransactionalScheduler`] run on the caller's connection, with whatever isolation its transaction has.
/// Under `REPEATABLE READ` and `SERIALIZABLE` a verb fails where it meets what somebody else changed since the
/// transaction began; the transaction is then rolled back and tried again, as always there.
#[derive(Clone)]
pub struct PostgresScheduler {
    shared: Arc<Shared>,
}

struct Shared {
    pool: PgPool,
    connections: Connections,
    clock: Option<Arc<dyn Clock>>,
    /// What the floor counts time from.
    start: Instant,
    floor: Mutex<Floor>,
    /// The tenant that the next claim by tenants begins with.
    next_tenant: Mutex<String>,
}

impl PostgresScheduler {
    /// The most connections of its own.
    pub const CONNECTIONS: usize = connections::MOST;

    /// A scheduler in the database that this pool connects to. [`migrate`](Self::migrate) makes its tables.
    pub fn new(pool: PgPool) -> Self {
        Self::build(pool, None)
    }

    /// The same with another clock than the server's, for tests.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self::build(self.shared.pool.clone(), Some(Arc::new(clock)))
    }

    fn build(pool: PgPool, clock: Option<Arc<dyn Clock>>) -> Self {
        let connections = Connections::new(pool.clone());
        let (floor, next_tenant) = (Mutex::default(), Mutex::default());
        Self {
            shared: Arc::new(Shared { pool, connections, clock, start: clock::now(), floor, next_tenant }),
        }
    }

    /// Makes the tables, or does nothing where they are made: `retry_subjects`, `retry_cycles`, `retry_attempts`, and
    /// `retry_scheduler_migrations`, which says so. Processes may do it at once.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or does not let this user make tables.
    pub async fn migrate(&self) -> Result<(), SchedulerError> {
        let migrator = migrator([
            include_str!("../../migrations/postgres/1_cycles.sql"),
            include_str!("../../migrations/postgres/2_namespaces.sql"),
        ]);
        migrator.run(&self.shared.pool).await.map_err(SchedulerError::unavailable)
    }

    /// The pool it was made with.
    pub fn pool(&self) -> &PgPool {
        &self.shared.pool
    }

    fn now(&self) -> Now {
        self.shared.clock.as_ref().map(|clock| codec::to_ms(clock.now()))
    }

    /// The time that the floor is asked with.
    fn elapsed(&self) -> Duration {
        match self.now() {
            Some(ms) => Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
            None => clock::now() - self.shared.start,
        }
    }

    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.shared.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a claim begins that asks for all namespaces. What others pass over lies below it.
    fn floor_for(&self, namespaces: &Namespaces) -> Option<i64> {
        (*namespaces == Namespaces::All).then(|| self.floor().look(self.elapsed()))
    }

    async fn claim(
        &self,
        connection: &mut PgConnection,
        mut shares: Shares,
    ) -> Result<Claims, SchedulerError> {
        let began = clock::now();
        let floor = self.floor_for(shares.namespaces());
        let (mut claimed, up_to) =
            verbs::claim_front(connection, self.now(), &shares, floor.unwrap_or(0)).await?;
        if let Some(floor) = floor {
            self.floor().found(floor, up_to, clock::now() - began);
        }
        shares.take(&claimed);
        if shares.passed_over() {
            let next = &self.shared.next_tenant;
            let mut from = next.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (more, met_all) =
                verbs::claim_by_tenants(connection, self.now(), &mut shares, &mut from).await?;
            *next.lock().unwrap_or_else(PoisonError::into_inner) = from;
            claimed.add(more);
            if met_all && shares.limit > 0 {
                shares.lift();
                claimed.add(verbs::claim_front(connection, self.now(), &shares, 0).await?.0);
            }
        }
        Ok(claimed)
    }

    /// All that can be recorded at once in one statement; what is left, one by one.
    async fn finish_all(
        &self,
        connection: &mut PgConnection,
        reports: &[(Claimed, Report)],
    ) -> Result<Vec<Finished>, SchedulerError> {
        let mut recorded = match reports {
            [_, _, ..] => verbs::finish_batch(connection, self.now(), reports).await?,
            _ => std::collections::HashMap::default(),
        };
        let mut all = Vec::with_capacity(reports.len());
        for (place, (claim, report)) in reports.iter().enumerate() {
            all.push(match recorded.remove(&place) {
                Some(cycle) => Finished::Recorded(cycle),
                None => verbs::finish(connection, self.now(), claim, report).await?,
            });
        }
        Ok(all)
    }
}

/// A verb on a connection of the scheduler's own.
macro_rules! alone {
    ($self:ident, |$connection:ident| $verb:expr) => {{
        let mut connected = $self.shared.connections.get().await?;
        let $connection = &mut connected.connection;
        let answer = within($verb).await;
        connected.give_back(&answer);
        answer
    }};
}

#[async_trait]
impl RetryScheduler for PostgresScheduler {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        alone!(self, |connection| verbs::schedule(connection, self.now(), &new))
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        let Some(shares) = Shares::new(request, nonce::random()?) else { return Ok(Claims::default()) };
        alone!(self, |connection| self.claim(connection, shares))
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        alone!(self, |connection| verbs::extend(connection, self.now(), claim, lease))
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        alone!(self, |connection| verbs::finish(connection, self.now(), claim, &report))
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        for (_, report) in &reports {
            report.check()?;
        }
        let answers = alone!(self, |connection| self.finish_all(connection, &reports))?;
        Ok(answers.into_iter().map(Ok).collect())
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        alone!(self, |connection| verbs::defer(connection, self.now(), claim, delay))
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        alone!(self, |connection| verbs::cancel(connection, self.now(), key))
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        alone!(self, |connection| verbs::reschedule(connection, self.now(), key, &change))
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        alone!(self, |connection| verbs::get(connection, key))
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        alone!(self, |connection| verbs::attempts(connection, key, after, limit))
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        let floor = self.floor_for(namespaces).unwrap_or(0);
        alone!(self, |connection| verbs::next_wake(connection, self.now(), floor, namespaces))
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        alone!(self, |connection| verbs::purge_ended(connection, self.now(), older_than, limit))
    }
}

#[async_trait]
impl TransactionalScheduler<PgConnection> for PostgresScheduler {
    async fn schedule_in(
        &self,
        connection: &mut PgConnection,
        new: NewCycle,
    ) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        verbs::schedule(connection, self.now(), &new).await
    }

    async fn finish_in(
        &self,
        connection: &mut PgConnection,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError> {
        report.check()?;
        verbs::finish(connection, self.now(), claim, &report).await
    }

    async fn cancel_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        verbs::cancel(connection, self.now(), key).await
    }

    async fn reschedule_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        verbs::reschedule(connection, self.now(), key, &change).await
    }

    async fn get_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        verbs::get(connection, key).await
    }
}

impl fmt::Debug for PostgresScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresScheduler").finish_non_exhaustive()
    }
}
