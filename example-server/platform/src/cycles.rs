//! The scheduler of either database, and its operations within a transaction of this program.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use retry_scheduler::{
    Activity, AttemptRecord, Cancelled, Claimed, Cycle, CycleKey, EndedHook, Finished, NewCycle,
    PostgresScheduler, Report, Reschedule, Rescheduled, RetryScheduler, Scheduled, SchedulerError,
    SqliteScheduler, State, TransactionalScheduler,
};
use sqlx::{PgConnection, SqliteConnection};

use crate::clock;
use crate::db::{Connection, Database, Inner};

/// The scheduler of either database, for the transactions of this program.
///
/// Code that ends a cycle in such a transaction also updates the rows that depend on it, with
/// details that the scheduler does not have. So these methods call no hook. All other code ends
/// cycles through [`Cycles::scheduler`].
#[derive(Debug, Clone)]
pub enum Cycles {
    Sqlite(SqliteScheduler),
    Postgres(PostgresScheduler),
}

/// Calls a method of the scheduler in the transaction of a connection.
macro_rules! within {
    ($cycles:expr, $connection:expr, |$scheduler:ident, $inner:ident| $call:expr) => {
        match ($cycles, $connection.inner) {
            (Cycles::Sqlite($scheduler), Inner::Sqlite($inner)) => $call.await,
            (Cycles::Postgres($scheduler), Inner::Postgres($inner)) => $call.await,
            _ => Err(SchedulerError::invalid("a connection of another database")),
        }
    };
}

impl Cycles {
    pub fn of(database: &Database) -> Self {
        match database {
            Database::Sqlite { writer, .. } => Self::Sqlite(SqliteScheduler::new(writer.clone())),
            Database::Postgres { pool, .. } => Self::Postgres(PostgresScheduler::new(pool.clone())),
        }
    }

    /// Returns the scheduler for code that changes cycles outside those transactions, such as the
    /// worker. Every method that ends a cycle calls the hook in its transaction.
    pub fn scheduler(
        &self,
        hook: impl EndedHook<SqliteConnection> + EndedHook<PgConnection>,
    ) -> Arc<dyn RetryScheduler> {
        match self {
            Self::Sqlite(scheduler) => Arc::new(scheduler.clone().on_ended(hook)),
            Self::Postgres(scheduler) => Arc::new(scheduler.clone().on_ended(hook)),
        }
    }

    pub async fn schedule_in(
        &self,
        mut connection: Connection<'_>,
        new: NewCycle,
    ) -> Result<Scheduled, SchedulerError> {
        let scheduled = within!(self, connection.reborrow(), |scheduler, c| scheduler.schedule_in(c, new))?;
        if let Scheduled::New(cycle) = &scheduled {
            wake_if_due(&connection, cycle);
        }
        Ok(scheduled)
    }

    pub async fn reschedule_in(
        &self,
        mut connection: Connection<'_>,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        let changed =
            within!(self, connection.reborrow(), |scheduler, c| scheduler.reschedule_in(c, key, change))?;
        if let Rescheduled::Changed(cycle) | Rescheduled::Reactivated(cycle) = &changed {
            wake_if_due(&connection, cycle);
        }
        Ok(changed)
    }

    pub async fn cancel_in(
        &self,
        connection: Connection<'_>,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        within!(self, connection, |scheduler, c| scheduler.cancel_in(c, key))
    }

    pub async fn finish_in(
        &self,
        connection: Connection<'_>,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError> {
        within!(self, connection, |scheduler, c| scheduler.finish_in(c, claim, report))
    }

    pub async fn get_in(
        &self,
        connection: Connection<'_>,
        key: &CycleKey,
    ) -> Result<Option<Cycle>, SchedulerError> {
        within!(self, connection, |scheduler, c| scheduler.get_in(c, key))
    }

    /// Returns the recorded attempts with numbers above `after`.
    pub async fn attempts_in(
        &self,
        connection: Connection<'_>,
        key: &CycleKey,
        after: u32,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        within!(self, connection, |scheduler, c| scheduler.attempts_in(c, key, after, usize::MAX))
    }
}

/// How soon a cycle must be due to wake the worker. With the default `poll_seconds`, the worker
/// polls this often and finds later cycles by itself.
const SOON: Duration = Duration::from_secs(1);

/// Wakes the worker after the commit if the cycle is due [`SOON`].
fn wake_if_due(connection: &Connection<'_>, cycle: &Cycle) {
    if let State::Pending(Activity::Idle { due }) = cycle.state
        && due <= SystemTime::from(clock::timestamp()) + SOON
    {
        connection.set_due();
    }
}
