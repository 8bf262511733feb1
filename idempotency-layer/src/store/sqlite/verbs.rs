//! Executes verbs at once, or in the next batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::runtime::Handle;

use super::checkpoints::Checkpoints;
use super::error::{is_busy, store_error};
use super::lent::Lent;
use super::writer::{SqliteWriter, alone};
use crate::error::StoreError;
use crate::store::batch::{Answer, Batcher, Op, Reply};
use crate::store::{Claim, ClaimRequest, Fenced};

/// The verbs of a store.
///
/// A verb that is alone has no other to share a commit with, so it uses the connection itself:
/// handing it to the batcher's task and back costs a tenth of a commit. All other verbs wait for
/// the next batch.
pub(super) struct Verbs {
    pool: SqlitePool,
    batcher: Batcher<SqliteWriter>,
    checkpoints: Option<Arc<Checkpoints>>,
    under_way: AtomicUsize,
}

/// How long a verb may wait for the batcher.
const PATIENCE: Duration = Duration::from_secs(15);

impl Verbs {
    pub(super) fn new(pool: SqlitePool, checkpoints: Option<Arc<Checkpoints>>) -> Self {
        let writer = {
            let (pool, checkpoints) = (pool.clone(), checkpoints.clone());
            move || SqliteWriter::new(pool.clone(), checkpoints.clone())
        };
        let batcher = Batcher::new(PATIENCE, writer);
        Self { pool, batcher, checkpoints, under_way: AtomicUsize::new(0) }
    }

    pub(super) async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        match self.ask(Op::Claim(request)).await? {
            Answer::Claim(claim, _) => Ok(claim),
            Answer::Fenced(_) => Err(StoreError::unavailable("the answer to another verb")),
        }
    }

    pub(super) async fn fenced(&self, op: Op) -> Result<Fenced, StoreError> {
        match self.ask(op).await? {
            Answer::Fenced(fenced) => Ok(fenced),
            Answer::Claim(..) => Err(StoreError::unavailable("the answer to another verb")),
        }
    }

    async fn ask(&self, op: Op) -> Result<Answer, StoreError> {
        let under_way = UnderWay::begin(&self.under_way);
        if under_way.is_alone
            && Handle::try_current().is_ok()
            && let Some(answer) = self.at_once(&op).await
        {
            return answer;
        }
        self.batcher.ask(op).await
    }

    /// `None`: the connection was not free, and nothing was done.
    ///
    /// If it is dropped, the statement takes effect completely or not at all, because it commits by
    /// itself.
    async fn at_once(&self, op: &Op) -> Option<Result<Answer, StoreError>> {
        let mut lent = Lent::new(self.pool.try_acquire()?);
        let reply = match alone(&mut lent, op).await {
            Err(error) if is_busy(&error) => return None,
            Err(error) => Err(store_error(error)),
            Ok(reply) => reply,
        };
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.wrote(std::slice::from_ref(op));
        }
        match reply {
            Ok(Reply::Locked(_)) => None,
            Ok(Reply::Done(answer)) => Some(Ok(answer)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A verb that is under way.
struct UnderWay<'a> {
    count: &'a AtomicUsize,
    is_alone: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let is_alone = count.fetch_add(1, Ordering::Relaxed) == 0;
        Self { count, is_alone }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
