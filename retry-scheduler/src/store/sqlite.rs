//! Cycles in SQLite.

mod sql;
#[cfg(test)]
mod tests;
mod verbs;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool};

use super::codec;
use super::shares::Shares;
use super::sql::{failed, migrator};
use super::verbs::Now;
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::clock::Clock;
use crate::cycle::{AttemptRecord, Cycle, CycleKey, NewCycle, Reschedule};
use crate::error::SchedulerError;
use crate::nonce;
use crate::scheduler::{
    Cancelled, Fenced, Finished, Rescheduled, RetryScheduler, Scheduled, TransactionalScheduler,
};

/// How long a process waits for another one that is writing.
const BUSY: Duration = Duration::from_secs(5);
/// How often a file that another process makes at the same time is opened, and what passes in between.
const OPEN_TRIES: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_millis(25);
/// How long a verb waits for the connection.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Cycles in a SQLite file, for one machine.
///
/// The pool it is given is the one writer of its process: it has one connection, and all that writes to the file goes
/// through it, the application's own writes too. So writers of a process queue up, first come first served. Other processes
/// may have the file open as well; they are waited for.
///
/// A transaction of the application has the connection until it ends. Inside it only the verbs of
/// [`TransactionalScheduler`] can go on; any other waits for its end, and in the same task for ever, or until the pool
/// gives up.
///
/// A clone is the same scheduler.
#[derive(Clone)]
pub struct SqliteScheduler {
    shared: Arc<Shared>,
}

struct Shared {
    pool: SqlitePool,
    clock: Option<Arc<dyn Clock>>,
    /// The tenant that the next claim by tenants begins with.
    next_tenant: Mutex<String>,
}

impl SqliteScheduler {
    /// A scheduler in the file of this pool, which has one connection. [`migrate`](Self::migrate) makes its tables.
    ///
    /// The pool should give up waiting for the connection in a bounded time, and the connection for a lock, and writes
    /// ahead should be on: [`open`](Self::open) shows how.
    pub fn new(pool: SqlitePool) -> Self {
        Self { shared: Arc::new(Shared { pool, clock: None, next_tenant: Mutex::default() }) }
    }

    /// Opens a file, which is made if it is not there, and makes the tables: with a write-ahead log, and so that what was
    /// answered outlives a loss of power.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or is no SQLite file.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, SchedulerError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None);
        // Of several that make a new file a write-ahead one at once, SQLite tells all but one that it is locked, whatever
        // time they would wait.
        let mut tries = 1;
        let pool = loop {
            match pool.clone().connect_with(options.clone()).await {
                Err(error) if is_busy(&error) && tries < OPEN_TRIES => tries += 1,
                opened => break opened.map_err(failed)?,
            }
            tokio::time::sleep(OPEN_PAUSE).await;
        };
        let scheduler = Self::new(pool);
        scheduler.migrate().await?;
        Ok(scheduler)
    }

    /// The same with another clock than SQLite's, for tests.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        let pool = self.shared.pool.clone();
        let clock: Option<Arc<dyn Clock>> = Some(Arc::new(clock));
        Self { shared: Arc::new(Shared { pool, clock, next_tenant: Mutex::default() }) }
    }

    /// Makes the tables, or does nothing where they are made: `retry_subjects`, `retry_cycles`, `retry_attempts`, and
    /// `retry_scheduler_migrations`, which says so.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn migrate(&self) -> Result<(), SchedulerError> {
        let migrator = migrator([
            include_str!("../../migrations/sqlite/1_cycles.sql"),
            include_str!("../../migrations/sqlite/2_namespaces.sql"),
        ]);
        if migrator.run(&self.shared.pool).await.is_ok() {
            return Ok(());
        }
        // SQLite has no lock for this: another process may have been at it. Then they are there now.
        migrator.run(&self.shared.pool).await.map_err(SchedulerError::unavailable)
    }

    /// The pool, for what else the application writes to the file.
    pub fn pool(&self) -> &SqlitePool {
        &self.shared.pool
    }

    fn now(&self) -> Now {
        self.shared.clock.as_ref().map(|clock| codec::to_ms(clock.now()))
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, SchedulerError> {
        self.shared.pool.acquire().await.map_err(failed)
    }

    async fn claim(
        &self,
        connection: &mut SqliteConnection,
        mut shares: Shares,
    ) -> Result<Claims, SchedulerError> {
        let mut claimed = verbs::claim_front(connection, self.now(), &shares).await?;
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
                claimed.add(verbs::claim_front(connection, self.now(), &shares).await?);
            }
        }
        Ok(claimed)
    }
}

/// A verb of more than one statement that writes. It takes the lock before it reads, so that it is not refused later
/// for what another process wrote in between. Where its future is dropped, sqlx rolls it back.
macro_rules! transaction {
    ($self:ident, |$connection:ident| $verb:expr) => {{
        let mut connection = $self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let $connection = &mut *transaction;
        let answer = $verb.await?;
        transaction.commit().await.map_err(failed)?;
        Ok(answer)
    }};
}

#[async_trait]
impl RetryScheduler for SqliteScheduler {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        transaction!(self, |connection| verbs::schedule(connection, self.now(), &new))
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        let Some(shares) = Shares::new(request, nonce::random()?) else { return Ok(Claims::default()) };
        let mut connection = self.connection().await?;
        self.claim(&mut connection, shares).await
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let mut connection = self.connection().await?;
        verbs::extend(&mut connection, self.now(), claim, lease).await
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        transaction!(self, |connection| verbs::finish(connection, self.now(), claim, &report))
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        for (_, report) in &reports {
            report.check()?;
        }
        let answers: Result<_, SchedulerError> =
            transaction!(self, |connection| verbs::finish_many(connection, self.now(), &reports));
        Ok(answers?.into_iter().map(Ok).collect())
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        let mut connection = self.connection().await?;
        verbs::defer(&mut connection, self.now(), claim, delay).await
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        verbs::cancel(&mut connection, self.now(), key).await
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        transaction!(self, |connection| verbs::reschedule(connection, self.now(), key, &change))
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        verbs::get(&mut connection, key).await
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        verbs::attempts(&mut connection, key, after, limit).await
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        let mut connection = self.connection().await?;
        verbs::next_wake(&mut connection, self.now(), namespaces).await
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        transaction!(self, |connection| verbs::purge_ended(connection, self.now(), older_than, limit))
    }
}

#[async_trait]
impl TransactionalScheduler<SqliteConnection> for SqliteScheduler {
    async fn schedule_in(
        &self,
        connection: &mut SqliteConnection,
        new: NewCycle,
    ) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        verbs::schedule(connection, self.now(), &new).await
    }

    async fn finish_in(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError> {
        report.check()?;
        verbs::finish(connection, self.now(), claim, &report).await
    }

    async fn cancel_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        verbs::cancel(connection, self.now(), key).await
    }

    async fn reschedule_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        verbs::reschedule(connection, self.now(), key, &change).await
    }

    async fn get_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
    ) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        verbs::get(connection, key).await
    }
}

/// `SQLITE_BUSY`, whichever of its kinds: sqlx says the extended code, as a decimal.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

impl fmt::Debug for SqliteScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteScheduler").finish_non_exhaustive()
    }
}
