//! Writes batches of verbs.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};

use super::answers::{claim, replies, unanswered};
use super::checkpoints::Checkpoints;
use super::error::{is_busy, store_error};
use super::lent::Lent;
use super::packed::{self, Packed};
use super::statements::TEXTS;
use crate::clock::{after, now};
use crate::error::StoreError;
use crate::store::batch::{Answer, Op, Reply, Writer};
use crate::store::{Fence, Fenced, Outcome, RecordId};

/// Writes with the one connection of the pool. It acquires the connection for each batch, so that
/// other users of the pool get their turn.
pub(super) struct SqliteWriter {
    pool: SqlitePool,
    checkpoints: Option<Arc<Checkpoints>>,
}

/// How long a batch retries while another process has the write lock. SQLite's own `busy_timeout`
/// may run out under load: it polls ever more rarely, and a busy process frees the lock only for an
/// instant between two commits.
const LOCKED_FOR: Duration = Duration::from_secs(10);

type Replies = Vec<Result<Reply, StoreError>>;

impl SqliteWriter {
    pub(super) fn new(pool: SqlitePool, checkpoints: Option<Arc<Checkpoints>>) -> Self {
        Self { pool, checkpoints }
    }

    async fn write(&self, ops: &[Op]) -> Result<Replies, sqlx::Error> {
        let mut lent = Lent::new(self.pool.acquire().await?);
        match ops {
            [op] => alone(&mut lent, op).await.map(|reply| vec![reply]),
            ops => together(&mut lent, ops).await,
        }
    }
}

impl Writer for SqliteWriter {
    async fn execute(&mut self, ops: &[Op]) -> Result<Replies, StoreError> {
        let deadline = after(now(), LOCKED_FOR);
        let replies = loop {
            match self.write(ops).await {
                Ok(replies) => break replies,
                // Nothing was begun.
                Err(error) if is_busy(&error) && now() < deadline => {}
                Err(error) => return Err(store_error(error)),
            }
        };
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.wrote(ops);
        }
        Ok(replies)
    }
}

/// Executes a verb as a statement that commits by itself.
///
/// A statement that writes is read to its end. `fetch_one` and `fetch_optional` stop at a row,
/// before the commit, and would miss an error of the commit.
pub(super) async fn alone(lent: &mut Lent, op: &Op) -> Result<Result<Reply, StoreError>, sqlx::Error> {
    let connection = lent.connection()?;
    let call = match op {
        Op::Claim(request) => {
            let taken = packed::claim(&TEXTS.take, request).fetch_all(&mut *connection).await?;
            if let Some(row) = taken.first() {
                return Ok(claim(row));
            }
            let found = packed::claim(&TEXTS.look, request).fetch_optional(connection).await?;
            return Ok(found.as_ref().map_or_else(|| Ok(unanswered(op)), claim));
        }
        Op::Complete(record, fence, outcome) => {
            let fenced = complete(connection, *record, *fence, outcome).await?;
            return Ok(Ok(Reply::Done(Answer::Fenced(fenced))));
        }
        Op::Release(record, fence) => {
            let forgotten = packed::forget(*record, *fence).execute(&mut *connection).await?;
            if forgotten.rows_affected() > 0 {
                return Ok(Ok(Reply::Done(Answer::Fenced(Fenced::Held))));
            }
            packed::release(*record, *fence)
        }
        Op::Extend(record, fence, lease) => packed::extend(*record, *fence, *lease),
        Op::Checkpoint(record, fence, checkpoint) => packed::checkpoint(*record, *fence, checkpoint),
    };
    let is_held = call.execute(connection).await?.rows_affected() > 0;
    Ok(Ok(Reply::Done(Answer::Fenced(if is_held { Fenced::Held } else { Fenced::Stale }))))
}

/// Completes a record, by itself or as a part of an open transaction.
pub(super) async fn complete(
    connection: &mut SqliteConnection,
    record: RecordId,
    fence: Fence,
    outcome: &Outcome,
) -> Result<Fenced, sqlx::Error> {
    let written = packed::complete(record, fence, outcome).execute(&mut *connection).await?;
    if written.rows_affected() > 0 {
        return Ok(Fenced::Held);
    }
    // Perhaps an earlier try completed it.
    let completed = packed::held(&TEXTS.completed, record, fence).fetch_optional(connection).await?;
    Ok(if completed.is_some() { Fenced::Held } else { Fenced::Stale })
}

/// Executes verbs in one transaction.
async fn together(lent: &mut Lent, ops: &[Op]) -> Result<Replies, sqlx::Error> {
    let mut packed = Packed::new(ops);
    let rows = lent.transaction(packed.call()).await?;
    Ok(replies(ops, &packed, &rows))
}
