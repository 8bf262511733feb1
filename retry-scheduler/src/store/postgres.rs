//! Cycles in PostgreSQL.

mod admin;
mod claims;
mod connections;
mod errors;
mod floor;
mod groups;
mod home;
mod namespaces;
mod notices;
mod rows;
mod shares;
mod sql;
#[cfg(test)]
mod tests;
mod turns;
mod verbs;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use self::claims::Walk;
use self::connections::{Connections, say, within};
use self::floor::Floor;
use self::groups::Groups;
use self::namespaces::Known;
use self::notices::{Notices, SOON};
use self::turns::Turn;
use super::codec;
use super::migrations::migrator;
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::clock::{self, Clock};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, NewCycle, Reschedule};
use crate::ended::EndedHook;
use crate::error::SchedulerError;
use crate::scheduler::{
    Cancelled, Fenced, Finished, FinishedAndClaimed, Rescheduled, RetryScheduler, Scheduled,
    TransactionalScheduler,
};

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

/// The same in a transaction: where it fails, even if only because what it changed cannot be read, it has changed nothing.
macro_rules! whole {
    ($self:ident, |$connection:ident| $verb:expr) => {
        alone!($self, |$connection| async {
            say($connection, "BEGIN").await?;
            let answer = $verb.await?;
            say($connection, "COMMIT").await?;
            Ok(answer)
        })
    };
}

use {alone, whole};

/// Cycles in PostgreSQL, shared by any number of processes; version 13 or newer.
///
/// Time is the server's. Most verbs are one statement and one round trip. A claim is a transaction that commits only after
/// its rows were received and decoded; `finish_and_claim` records reports in the same transaction.
///
/// Small claims of one handle that come at the same time share a transaction, with the reports that come with them: those
/// of at most 16 cycles and 16 reports with the same namespaces and lease, unless a hook is set or a tenant could reach
/// its share. Where anything gets in the way of such a transaction, it is rolled back and each call is carried out alone.
///
/// It has up to [`PostgresScheduler::CONNECTIONS`] connections of its own, opened when they are first needed with the
/// options of the pool it was made with, and leaves the connections of the pool to the application. It sets their level of
/// isolation to READ COMMITTED and their search path to that of the pool's connections; what else the pool does
/// `after_connect` is not done on them. A pooler between them and the server has to pool sessions, not transactions.
///
/// Behind tenants at their share, a call walks through 2,048 spans of 65 seconds in which a tenant has something due. So a
/// tenant with a longer backlog, more than a day and a half, delays the cycles of others by one call for each further 2,048.
///
/// One call looks at 32 namespaces. Where more have something due, these are the ones with the cycles that are due the
/// longest.
///
/// A clone is the same scheduler. Each handle made with [`new`](Self::new) looks every three seconds for cycles that
/// were due before the latest ones it met. Until then it can overlook a cycle whose lease has run out, one whose transaction
/// took long to commit, and one whose claim a failover lost.
///
/// # Notices
///
/// When a handle schedules, reschedules, resumes or runs now what is due within an hour, it tells the other handles by
/// `NOTIFY`, and the [workers](crate::Worker) on them start the attempt when it is due, normally within 50 ms. The verbs
/// inside a transaction tell it after the commit; for a transaction that is open for longer than half a second, that takes
/// up to a sixteenth of its time, and one that is open for longer than a minute is not told. A notice is sent in a
/// transaction of its own, so no verb and no commit waits for it.
///
/// A notice is a hint, and a worker still has to poll: a process may die between its commit and its notice, and a
/// connection may be lost. Each notice costs each worker that is at rest one claim. A pooler of transactions delivers no
/// notices; workers behind one only poll.
///
/// Notices have a connection of their own, opened with the first one or with the first call of
/// [`changed`](RetryScheduler::changed), and opened again when it is lost. Tables in another schema have other notices.
///
/// # Transactions
///
/// The verbs of [`TransactionalScheduler`] run on the caller's connection, with whatever isolation its transaction has.
/// Under `REPEATABLE READ` and `SERIALIZABLE` a verb fails with a
/// [`Conflict`](crate::SchedulerErrorKind::Conflict) where it meets what somebody else changed since the transaction
/// began; the transaction is then rolled back and tried again, as always there. A connection that has no transaction open,
/// or that finds other tables than the scheduler, is refused as [`Invalid`](crate::SchedulerErrorKind::Invalid).
#[derive(Clone)]
pub struct PostgresScheduler {
    shared: Arc<Shared>,
}

struct Shared {
    pool: PgPool,
    connections: Arc<Connections>,
    notices: Notices,
    clock: Option<Arc<dyn Clock>>,
    hook: Option<Arc<dyn EndedHook<PgConnection>>>,
    /// What the floor counts time from.
    start: Instant,
    floor: Mutex<Floor>,
    namespaces: Known,
    walk: Mutex<Walk>,
    groups: Groups,
}

impl PostgresScheduler {
    /// The most connections of its own: eight for verbs, and one for [notices](Self#notices).
    pub const CONNECTIONS: usize = connections::MOST + 1;

    /// A scheduler in the database that this pool connects to. [`migrate`](Self::migrate) makes its tables.
    pub fn new(pool: PgPool) -> Self {
        Self::build(pool, None, None)
    }

    /// The same with another clock than the server's, for tests.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self::build(self.shared.pool.clone(), Some(Arc::new(clock)), self.shared.hook.clone())
    }

    /// Sets what is called in the transaction that ends a cycle, whoever ends it.
    #[must_use]
    pub fn on_ended(self, hook: impl EndedHook<PgConnection>) -> Self {
        Self::build(self.shared.pool.clone(), self.shared.clock.clone(), Some(Arc::new(hook)))
    }

    fn build(
        pool: PgPool,
        clock: Option<Arc<dyn Clock>>,
        hook: Option<Arc<dyn EndedHook<PgConnection>>>,
    ) -> Self {
        let connections = Arc::new(Connections::new(pool.clone()));
        let shared = Shared {
            notices: Notices::new(Arc::clone(&connections)),
            connections,
            pool,
            clock,
            hook,
            start: clock::now(),
            floor: Mutex::default(),
            namespaces: Known::default(),
            walk: Mutex::default(),
            groups: Groups::default(),
        };
        Self { shared: Arc::new(shared) }
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

    fn now(&self) -> Option<i64> {
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

    /// A lease that is over before the next sweep would find that late.
    fn short_lease(&self, lease: Duration) {
        if lease < floor::SWEEP {
            self.floor().sweep_soon();
        }
    }

    fn walk(&self) -> MutexGuard<'_, Walk> {
        self.shared.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a connection that is lent, and that the namespaces are known to all who claim. Returns the number of the
    /// transaction, if `numbered`.
    async fn borrow(
        &self,
        connection: &mut PgConnection,
        namespace: Option<&str>,
        numbered: bool,
    ) -> Result<Option<u64>, SchedulerError> {
        let home = self.shared.connections.home_beside(connection).await?;
        let transaction = home::check(connection, home, numbered).await?;
        let new = self.shared.namespaces.unregistered(namespace);
        if !new.is_empty() {
            // Not in the caller's transaction: others would wait for its end.
            alone!(self, |connection| self.shared.namespaces.register(connection, new))?;
        }
        Ok(transaction)
    }
}

/// The same for a verb that may end cycles: with a hook, in a transaction with what that writes.
macro_rules! ending {
    ($self:ident, |$connection:ident| $verb:expr) => {
        if $self.shared.hook.is_some() {
            whole!($self, |$connection| $verb)
        } else {
            alone!($self, |$connection| $verb)
        }
    };
}

#[async_trait]
impl RetryScheduler for PostgresScheduler {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        let unregistered = self.shared.namespaces.unregistered([new.key.namespace.as_str()]);
        let scheduled = ending!(self, |connection| async {
            if !unregistered.is_empty() {
                self.shared.namespaces.register(connection, unregistered).await?;
            }
            self.schedule_on(connection, &new).await
        })?;
        if is_new(&scheduled) {
            self.shared.notices.due_in(new.first_in);
        }
        Ok(scheduled)
    }

    async fn schedule_many(&self, new: Vec<NewCycle>) -> Result<Vec<Scheduled>, SchedulerError> {
        for new in &new {
            new.check()?;
        }
        let unregistered =
            self.shared.namespaces.unregistered(new.iter().map(|new| new.key.namespace.as_str()));
        let answers = alone!(self, |connection| async {
            if !unregistered.is_empty() {
                self.shared.namespaces.register(connection, unregistered).await?;
            }
            say(connection, "BEGIN").await?;
            let answers = self.schedule_many_on(connection, &new).await?;
            say(connection, "COMMIT").await?;
            Ok(answers)
        })?;
        let begun = answers.iter().zip(&new).filter(|(answer, _)| is_new(answer));
        if let Some(first_in) = begun.map(|(_, new)| new.first_in).min() {
            self.shared.notices.due_in(first_in);
        }
        Ok(answers)
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        self.turn_in_group(Vec::new(), request).await?.claims
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let answer = alone!(self, |connection| self.extend_on(connection, claim, lease));
        self.short_lease(lease);
        answer
    }

    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        let answer = alone!(self, |connection| self.extend_many_on(connection, claims, lease));
        self.short_lease(lease);
        answer
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        ending!(self, |connection| self.finish_on(connection, claim, &report))
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        Ok(self.turn(Turn { reports: &reports, request: None }).await?.finished)
    }

    async fn finish_and_claim(
        &self,
        reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        self.turn_in_group(reports, request).await
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        ending!(self, |connection| self.defer_on(connection, claim, delay))
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        whole!(self, |connection| self.cancel_on(connection, key))
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        let rescheduled = ending!(self, |connection| self.reschedule_on(connection, key, &change))?;
        if is_due_again(&rescheduled) {
            self.shared.notices.due_in(change.next_in);
        }
        Ok(rescheduled)
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
        alone!(self, |connection| self.next_wake_on(connection, namespaces))
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        alone!(self, |connection| self.purge_ended_on(connection, older_than, limit))
    }

    async fn changed(&self) {
        if self.shared.notices.heard().await {
            self.floor().sweep_early();
        }
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
        let told = new.first_in <= SOON;
        let transaction = self.borrow(connection, Some(&new.key.namespace), told).await?;
        let scheduled = self.schedule_on(connection, &new).await?;
        if let Some(transaction) = transaction
            && is_new(&scheduled)
        {
            self.shared.notices.due_after(transaction, new.first_in);
        }
        Ok(scheduled)
    }

    async fn finish_in(
        &self,
        connection: &mut PgConnection,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError> {
        report.check()?;
        self.borrow(connection, None, false).await?;
        self.finish_on(connection, claim, &report).await
    }

    async fn cancel_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        self.borrow(connection, None, false).await?;
        self.cancel_on(connection, key).await
    }

    async fn reschedule_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        let transaction = self.borrow(connection, None, change.next_in <= SOON).await?;
        let rescheduled = self.reschedule_on(connection, key, &change).await?;
        if let Some(transaction) = transaction
            && is_due_again(&rescheduled)
        {
            self.shared.notices.due_after(transaction, change.next_in);
        }
        Ok(rescheduled)
    }

    async fn get_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        self.borrow(connection, None, false).await?;
        verbs::get(connection, key).await
    }

    async fn attempts_in(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        self.borrow(connection, None, false).await?;
        verbs::attempts(connection, key, after, limit).await
    }
}

/// Whether a cycle begins, and has not ended already.
fn is_new(scheduled: &Scheduled) -> bool {
    matches!(scheduled, Scheduled::New(cycle) if cycle.ending().is_none())
}

/// Whether a cycle goes on.
fn is_due_again(rescheduled: &Rescheduled) -> bool {
    match rescheduled {
        Rescheduled::Changed(cycle) | Rescheduled::Reactivated(cycle) => cycle.ending().is_none(),
        Rescheduled::Ended(_) | Rescheduled::Unknown => false,
    }
}

impl fmt::Debug for PostgresScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresScheduler").finish_non_exhaustive()
    }
}
