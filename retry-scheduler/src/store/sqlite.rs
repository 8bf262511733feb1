//! Cycles in SQLite.

mod admin;
mod changes;
mod claim;
mod rows;
mod sql;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, query};

use self::changes::Changes;
use self::claim::Cursors;
use self::rows::load;
use super::codec;
use super::migrations::migrator;
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::clock::{Clock, SystemClock};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Reschedule};
use crate::ended::EndedHook;
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::millis::whole;
use crate::nonce;
use crate::scheduler::{
    Cancelled, Fenced, Finished, FinishedAndClaimed, Rescheduled, RetryScheduler, Scheduled,
    TransactionalScheduler,
};

/// How long a process waits for another one that is writing.
const BUSY: Duration = Duration::from_secs(5);
/// How often a file that another process makes at the same time is opened, and what passes in
/// between.
const OPEN_TRIES: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_millis(25);
/// Takes the lock at once.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// How long a verb waits for the connection.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Keeps cycles in a SQLite file, for the processes of one machine.
///
/// The pool is the only writer of its process: it has one connection, and everything that writes to
/// the file goes through it, including the application's own writes. So writers of a process queue
/// up. Other processes may have the file open too; a writer waits for them, and fails with
/// [`Conflict`](SchedulerErrorKind::Conflict) after some seconds.
///
/// A transaction of the application has the connection until it ends. Only the verbs of
/// [`TransactionalScheduler`] work inside it. Any other verb waits for its end: in the same task that
/// is for ever, or until the pool gives up.
///
/// Time is the machine's clock, read after the write lock is taken.
///
/// Each verb is one transaction. When its future is dropped, the transaction is rolled back: a claim
/// that nobody received leaves no lease and no lapse, unless it was dropped during the commit itself.
///
/// A clone is the same scheduler.
#[derive(Clone)]
pub struct SqliteScheduler {
    shared: Arc<Shared>,
}

struct Shared {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    hook: Option<Arc<dyn EndedHook<SqliteConnection>>>,
    cursors: Cursors,
}

impl SqliteScheduler {
    /// Creates a scheduler in the file of this pool, which must have one connection.
    /// [`migrate`](Self::migrate) creates its tables.
    ///
    /// Bound the time that the pool waits for its connection and the connection for a lock, and turn
    /// the write-ahead log on, as [`open`](Self::open) does.
    pub fn new(pool: SqlitePool) -> Self {
        Self::build(pool, Arc::new(SystemClock), None)
    }

    fn build(
        pool: SqlitePool,
        clock: Arc<dyn Clock>,
        hook: Option<Arc<dyn EndedHook<SqliteConnection>>>,
    ) -> Self {
        Self { shared: Arc::new(Shared { pool, clock, hook, cursors: Cursors::default() }) }
    }

    /// Opens a file, and creates it and its tables if they do not exist. The file has a write-ahead
    /// log, and what was answered survives a loss of power.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or is not a SQLite file.
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
        // Of several that make a new file a write-ahead one at once, SQLite tells all but one that
        // it is locked, whatever time they would wait.
        let mut tries = 1;
        let pool = loop {
            match pool.clone().connect_with(options.clone()).await {
                Ok(pool) => break pool,
                Err(error) => {
                    let error = failed(error);
                    if error.kind() != SchedulerErrorKind::Conflict || tries >= OPEN_TRIES {
                        return Err(error);
                    }
                    tries += 1;
                }
            }
            tokio::time::sleep(OPEN_PAUSE).await;
        };
        let scheduler = Self::new(pool);
        scheduler.migrate().await?;
        Ok(scheduler)
    }

    /// Sets another clock than the machine's, for tests.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        let Shared { pool, hook, .. } = &*self.shared;
        Self::build(pool.clone(), Arc::new(clock), hook.clone())
    }

    /// Sets a hook that is called in the very transaction that ends a cycle. See [`EndedHook`].
    ///
    /// Each handle that may end cycles needs it: set it where the scheduler is made.
    #[must_use]
    pub fn on_ended(self, hook: impl EndedHook<SqliteConnection>) -> Self {
        let Shared { pool, clock, .. } = &*self.shared;
        Self::build(pool.clone(), Arc::clone(clock), Some(Arc::new(hook)))
    }

    /// Creates the tables, or brings those of an earlier version up to date: `retry_subjects`,
    /// `retry_cycles`, `retry_attempts`, `retry_paused_namespaces`, and `retry_scheduler_migrations`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn migrate(&self) -> Result<(), SchedulerError> {
        let migrator = migrator([
            include_str!("../../migrations/sqlite/1_cycles.sql"),
            include_str!("../../migrations/sqlite/2_namespaces.sql"),
        ]);
        // SQLite has no lock for this: another process may be at it. Then they are there soon.
        let mut tries = 1;
        while let Err(error) = migrator.run(&self.shared.pool).await {
            if tries >= OPEN_TRIES {
                return Err(SchedulerError::unavailable(error));
            }
            tries += 1;
            tokio::time::sleep(OPEN_PAUSE).await;
        }
        Ok(())
    }

    /// Returns the pool, for the application's own writes to the file.
    pub fn pool(&self) -> &SqlitePool {
        &self.shared.pool
    }

    /// This machine's time, as everybody's who has the file open, or that of the clock of a test.
    fn now(&self) -> SystemTime {
        whole(self.shared.clock.now())
    }

    fn changes<'a>(&'a self, connection: &'a mut SqliteConnection) -> Changes<'a> {
        Changes { connection, hook: self.shared.hook.as_deref(), now: self.now() }
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, SchedulerError> {
        self.shared.pool.acquire().await.map_err(failed)
    }
}

/// A verb that writes. It takes the lock before it reads, so that it is not refused later for what
/// another process wrote in between, and the time after, so that times are in the order of changes.
/// Where its future is dropped, sqlx rolls it back.
macro_rules! transaction {
    ($self:ident, |$changes:ident| $verb:expr) => {{
        let mut connection = $self.connection().await?;
        let mut transaction = connection.begin_with(BEGIN).await.map_err(failed)?;
        let mut changes = $self.changes(&mut transaction);
        let $changes = &mut changes;
        let answer: Result<_, SchedulerError> = async { $verb }.await;
        let answer = answer?;
        transaction.commit().await.map_err(failed)?;
        Ok(answer)
    }};
}

#[async_trait]
impl RetryScheduler for SqliteScheduler {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        new.check()?;
        transaction!(self, |changes| changes.schedule(&new).await)
    }

    async fn schedule_many(&self, new: Vec<NewCycle>) -> Result<Vec<Scheduled>, SchedulerError> {
        new.iter().try_for_each(NewCycle::check)?;
        transaction!(self, |changes| {
            let mut answers = Vec::with_capacity(new.len());
            for new in &new {
                answers.push(changes.schedule(new).await?);
            }
            Ok(answers)
        })
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        let nonce = nonce::random()?;
        transaction!(self, |changes| changes.claim_due(request, nonce, &self.shared.cursors).await)
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Extend { fence: claim.fence(), lease };
        transaction!(self, |changes| changes.fenced(claim, event).await)
    }

    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        transaction!(self, |changes| {
            let mut answers = Vec::with_capacity(claims.len());
            for claim in claims {
                let event = Event::Extend { fence: claim.fence(), lease };
                answers.push(changes.fenced(claim, event).await?);
            }
            Ok(answers)
        })
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        report.check()?;
        transaction!(self, |changes| changes.finish(claim, &report).await)
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        transaction!(self, |changes| changes.finish_many(&reports).await)
    }

    async fn finish_and_claim(
        &self,
        reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        let nonce = nonce::random()?;
        transaction!(self, |changes| {
            let finished = changes.finish_many(&reports).await?;
            let claims = changes.claim_due(request, nonce, &self.shared.cursors).await?;
            Ok(FinishedAndClaimed::new(finished, Ok(claims)))
        })
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        let event = Event::Defer { fence: claim.fence(), delay };
        transaction!(self, |changes| changes.fenced(claim, event).await)
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        transaction!(self, |changes| changes.cancel(key).await)
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        transaction!(self, |changes| changes.reschedule(key, &change).await)
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        Ok(load(&mut connection, key).await?.map(|row| row.cycle))
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        rows::attempts(&mut connection, key, after, limit).await
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        let mut connection = self.connection().await?;
        let mut changes = self.changes(&mut connection);
        let mut first: Option<i64> = None;
        for namespace in changes.namespaces(namespaces).await? {
            let wake = query(sql::FIRST_WAKE).bind(namespace).fetch_optional(&mut *changes.connection).await;
            if let Some(row) = wake.map_err(failed)? {
                let wake: i64 = rows::get(&row, 0)?;
                first = Some(first.map_or(wake, |first| first.min(wake)));
            }
        }
        let now = codec::to_ms(changes.now);
        Ok(first.map(|wake| Duration::from_millis(u64::try_from(wake - now).unwrap_or(0))))
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        transaction!(self, |changes| changes.purge_ended(older_than, limit).await)
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
        self.changes(connection).schedule(&new).await
    }

    async fn finish_in(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError> {
        report.check()?;
        self.changes(connection).finish(claim, &report).await
    }

    async fn cancel_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        key.check()?;
        self.changes(connection).cancel(key).await
    }

    async fn reschedule_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        key.check()?;
        self.changes(connection).reschedule(key, &change).await
    }

    async fn get_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
    ) -> Result<Option<Cycle>, SchedulerError> {
        key.check()?;
        Ok(load(connection, key).await?.map(|row| row.cycle))
    }

    async fn attempts_in(
        &self,
        connection: &mut SqliteConnection,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        key.check()?;
        rows::attempts(connection, key, after, limit).await
    }
}

/// An error of the driver. What it says of the database goes into the source, not into the message.
fn failed(error: sqlx::Error) -> SchedulerError {
    // sqlx says the extended code, as a decimal.
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    let missing = |error: &sqlx::Error| {
        let message = error.as_database_error().map_or("", |error| error.message());
        message.starts_with("no such table: retry_") || message.starts_with("no such column: ")
    };
    match (code.map(|code| code & 0xff), &error) {
        (Some(SQLITE_ERROR), _) if missing(&error) => SchedulerError::not_migrated(error),
        (Some(SQLITE_BUSY | SQLITE_LOCKED), _) => SchedulerError::conflict(error),
        (Some(SQLITE_FULL), _) => SchedulerError::full(error),
        (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => SchedulerError::invalid(error),
        _ => SchedulerError::unavailable(error),
    }
}

const SQLITE_ERROR: i32 = 1;
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_FULL: i32 = 13;

impl fmt::Debug for SqliteScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteScheduler").finish_non_exhaustive()
    }
}
