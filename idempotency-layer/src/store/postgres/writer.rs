//! The connection that carries out the verbs.

use std::mem::replace;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::time::{Instant, timeout};

use super::answers;
use super::calls::{call, together};
use super::error::{is_collision, is_locked, is_out_of_locks, store_error};
use super::statements::SESSION;
use crate::clock::now;
use crate::error::StoreError;
use crate::store::batch::{Op, Reply, Writer};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take. Longer than the session's `statement_timeout`, which ends a
/// statement and not the connection.
const ANSWER: Duration = Duration::from_secs(6);
/// A connection that was idle for longer is pinged first. A proxy or a restart may have ended it,
/// and the verb sent through it would be lost.
const RESTED: Duration = Duration::from_secs(1);
/// How long the ping may take.
const PING: Duration = Duration::from_secs(1);
/// How often a batch is tried that collides with another transaction.
const TRIES: usize = 3;
/// The connection's `application_name`, unless the pool's options set one.
const NAME: &str = "idempotency-layer";

/// Keeps one connection beside the pool. A pool pings a connection before and after each use, which
/// makes three round trips out of one.
pub(super) struct PostgresWriter {
    /// Provides the connect options, which may change over time.
    pool: PgPool,
    /// With the time of its last use.
    connection: Option<(PgConnection, Instant)>,
    /// Set after a wait for a locked row timed out. Until no row is locked any more, no statement
    /// waits for one.
    wary: bool,
}

impl PostgresWriter {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, connection: None, wary: false }
    }

    async fn connection(&mut self) -> Result<PgConnection, StoreError> {
        if let Some((mut connection, used)) = self.connection.take() {
            let rested = now().saturating_duration_since(used) > RESTED;
            if !rested || matches!(timeout(PING, connection.ping()).await, Ok(Ok(()))) {
                return Ok(connection);
            }
        }
        let connected = timeout(CONNECT, self.connect()).await.map_err(StoreError::unavailable)?;
        connected.map_err(StoreError::unavailable)
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut options = PgConnectOptions::clone(&self.pool.connect_options());
        if options.get_application_name().is_none() {
            options = options.application_name(NAME);
        }
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute(SESSION).await?;
        Ok(connection)
    }
}

impl Writer for PostgresWriter {
    /// Each new record of a batch takes an entry of the server's lock table until the commit. By
    /// default, that has 6,400.
    const MOST: usize = 256;

    async fn execute(&mut self, ops: &[Op]) -> Result<Vec<Result<Reply, StoreError>>, StoreError> {
        let mut tries = 0;
        loop {
            // Taken out, and put back if it is known to be good. After a failure or a time-out, an
            // answer may still arrive on it, so it is dropped.
            let mut connection = self.connection().await?;
            let answer = timeout(ANSWER, call(ops, !self.wary).fetch_all(&mut connection)).await;
            let error = match answer.map_err(StoreError::unavailable)? {
                Ok(rows) => {
                    self.connection = Some((connection, now()));
                    // The batch has taken effect, so an answer that cannot be read is not reported
                    // as a failed verb.
                    let replies = answers::replies(ops, &rows).map_err(StoreError::unavailable)?;
                    self.wary &= replies.iter().any(|reply| matches!(reply, Ok(Reply::Locked(_))));
                    return Ok(replies);
                }
                Err(error) => error,
            };
            tries += 1;
            if is_locked(&error) {
                self.connection = Some((connection, now()));
                if replace(&mut self.wary, true) {
                    return Ok(answers::locked(ops));
                }
            } else if is_collision(&error) && tries < TRIES {
                self.connection = Some((connection, now()));
            } else if is_out_of_locks(&error) && ops.len() > 1 {
                self.connection = Some((connection, now()));
                // Each verb is carried out alone then.
                return Err(StoreError::invalid(error));
            } else {
                return Err(store_error(error));
            }
        }
    }

    fn together(first: &Op, other: &Op) -> bool {
        together(first, other)
    }

    async fn close(self) {
        if let Some((connection, _)) = self.connection {
            // If this fails, the server notices by itself.
            let _ = timeout(CONNECT, connection.close()).await;
        }
    }
}
