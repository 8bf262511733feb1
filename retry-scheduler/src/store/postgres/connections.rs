//! The scheduler's own connections.
//!
//! A pool of sqlx asks a connection whether it is alive whenever it is given back, and by default whenever it is given
//! out: two or three round trips for each statement. And its connections are the application's, which may want other
//! settings than a scheduler.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool, query, raw_sql};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::errors::failed;
use super::home::{self, Home};
use crate::error::{SchedulerError, SchedulerErrorKind};

/// How many statements run at once; others wait for one to end.
pub(super) const MOST: usize = 8;

/// How long a verb waits for its turn and for a new connection, and how long for an answer.
pub(super) const REACH: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// Every statement finds its rows through an index, in the order of that index. A plan is made once for a connection, maybe
/// when the tables were new and nearly empty: it must not be one that reads a table from end to end, or sorts it, for as
/// long as the connection lives. Where there is no other way than one of these, it is still gone.
///
/// A row is locked by others as long as their transactions are open: that is waited for, but not for ever.
///
/// The level of isolation is that of the statements, whatever the database, the role or the options of the pool say: at
/// any other one a verb fails where it meets what somebody else has just changed.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; \
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan; SET jit = off; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
     SET lock_timeout = '5s'; SET statement_timeout = '20s'; SET idle_in_transaction_session_timeout = '20s'";

#[derive(Debug)]
pub(super) struct Connections {
    pool: PgPool,
    home: OnceCell<Home>,
    turns: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in use. Unless it is [given back](Self::give_back), it is closed: after an error or in the middle of a
/// statement nobody knows what it would say next. The server then rolls back a transaction that was open on it.
pub(super) struct Connected<'a> {
    pub(super) connection: PgConnection,
    connections: &'a Connections,
    _turn: SemaphorePermit<'a>,
}

impl Connections {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, home: OnceCell::new(), turns: Semaphore::new(MOST), idle: Mutex::default() }
    }

    pub(super) async fn get(&self) -> Result<Connected<'_>, SchedulerError> {
        let connected = async {
            let turn = self.turns.acquire().await.map_err(SchedulerError::unavailable)?;
            let idle = self.idle().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            Ok(Connected { connection, connections: self, _turn: turn })
        };
        tokio::time::timeout(REACH, connected).await.map_err(SchedulerError::unavailable)?
    }

    /// Opens a connection that sees the tables that the connections of the pool see.
    pub(super) async fn connect(&self) -> Result<PgConnection, SchedulerError> {
        let home = self.home().await?;
        open(&self.pool.connect_options(), home).await.map_err(failed)
    }

    /// Returns how the connections of the pool are opened.
    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.pool.connect_options())
    }

    /// Returns where the tables are, as a connection of the pool says.
    pub(super) async fn home(&self) -> Result<&Home, SchedulerError> {
        let ask = async || home::of(&mut *self.pool.acquire().await.map_err(failed)?).await;
        self.home.get_or_try_init(ask).await
    }

    /// The same in the middle of a transaction on this connection of the application's, which waits for no other one: that
    /// may be in the hands of somebody who waits for us.
    pub(super) async fn home_beside(&self, lent: &mut PgConnection) -> Result<&Home, SchedulerError> {
        let ask = async || match self.pool.try_acquire() {
            Some(mut connection) => home::of(&mut connection).await,
            None => home::of(lent).await,
        };
        self.home.get_or_try_init(ask).await
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
            Ok(_) => self.connections.idle().push(self.connection),
            Err(error) if error.kind() == SchedulerErrorKind::Unavailable => self.connections.idle().clear(),
            Err(_) => {}
        }
    }
}

/// An answer that is not waited for for ever: the server may be gone without a word.
pub(super) async fn within<T>(
    answer: impl Future<Output = Result<T, SchedulerError>>,
) -> Result<T, SchedulerError> {
    tokio::time::timeout(ANSWER, answer).await.map_err(SchedulerError::unavailable)?
}

/// Says something without an answer.
pub(super) async fn say(connection: &mut PgConnection, text: &'static str) -> Result<(), SchedulerError> {
    raw_sql(text).execute(connection).await.map_err(failed)?;
    Ok(())
}

async fn open(options: &PgConnectOptions, home: &Home) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    raw_sql(SETTINGS).execute(&mut connection).await?;
    query("SELECT set_config('search_path', $1, false)")
        .bind(&home.search_path)
        .execute(&mut connection)
        .await?;
    Ok(connection)
}
