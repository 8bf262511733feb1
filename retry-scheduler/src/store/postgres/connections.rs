//! The scheduler's own connections.
//!
//! A pool of sqlx asks a connection whether it is alive whenever it is given back, and by default whenever it is given
//! out: two or three round trips for each statement. And its connections are the application's, which may want other
//! settings than a scheduler.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool, raw_sql};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::SchedulerError;
use crate::store::sql::failed;

/// How many statements run at once; others wait for one to end.
pub(super) const MOST: usize = 8;

/// How long a verb waits for its turn and for a new connection, and how long for an answer.
const REACH: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// Every statement finds its rows through an index, in the order of that index. A plan is made once for a connection, maybe
/// when the tables were new and nearly empty: it must not be one that reads a table from end to end, or sorts it, for as
/// long as the connection lives. Where there is no other way than one of these, it is still gone.
///
/// A row is locked by others as long as their transactions are open: that is waited for, but not for ever.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; \
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan; SET jit = off; \
     SET lock_timeout = '5s'; SET statement_timeout = '20s'; SET idle_in_transaction_session_timeout = '20s'";

#[derive(Debug)]
pub(super) struct Connections {
    pool: PgPool,
    turns: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in use. Unless it is [given back](Self::give_back), it is closed: after an error or in the middle of a
/// statement nobody knows what it would say next.
pub(super) struct Connected<'a> {
    pub(super) connection: PgConnection,
    home: &'a Connections,
    _turn: SemaphorePermit<'a>,
}

impl Connections {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, turns: Semaphore::new(MOST), idle: Mutex::default() }
    }

    pub(super) async fn get(&self) -> Result<Connected<'_>, SchedulerError> {
        let connected = async {
            let turn = self.turns.acquire().await.map_err(SchedulerError::unavailable)?;
            let idle = self.idle().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect(&self.pool.connect_options()).await.map_err(failed)?,
            };
            Ok(Connected { connection, home: self, _turn: turn })
        };
        tokio::time::timeout(REACH, connected).await.map_err(SchedulerError::unavailable)?
    }

    /// Closes those that lie idle, and waits for that.
    #[cfg(test)]
    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            connection.close().await.unwrap();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<'_> {
    /// Keeps the connection for the next verb, if this one was answered. Where the server was lost, the others that lie
    /// idle are lost too.
    pub(super) fn give_back<T>(self, answer: &Result<T, SchedulerError>) {
        match answer {
            Ok(_) => self.home.idle().push(self.connection),
            Err(_) => self.home.idle().clear(),
        }
    }
}

/// An answer that is not waited for for ever: the server may be gone without a word.
pub(super) async fn within<T>(
    answer: impl Future<Output = Result<T, SchedulerError>>,
) -> Result<T, SchedulerError> {
    tokio::time::timeout(ANSWER, answer).await.map_err(SchedulerError::unavailable)?
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    raw_sql(SETTINGS).execute(&mut connection).await?;
    Ok(connection)
}
