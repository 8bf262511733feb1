//! The layer's handle of a request's transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use http::Extensions;
use tokio::time::{sleep, timeout};

use super::connection::{LentConnection, roll_back_in_time};
use super::database::{CoCommitDatabase, CommitError, Written};
use super::{CoCommit, Shared, StillInUse};
use crate::error::StoreError;
use crate::store::{Ending, Fence, Fenced, Outcome, RecordId, RequestTransaction};
use crate::trace;

/// The pauses before each look-up whether a commit took effect.
pub(super) const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1)];
/// How long one look-up may take. It waits for the end of the transaction in question.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

const GONE: &str = "the transaction ended before its request";
const TORN: &str = "a savepoint of the handler was begun or ended half way";
const IN_USE: &str = "a task that outlived the handler still uses the transaction";
const ELSEWHERE: &str = "the handler, or its driver, ended the transaction of the request";

/// Puts the handler's handle into the extensions and returns the layer's.
pub(in crate::store) fn offer<DB: CoCommitDatabase>(
    home: &DB::Home,
    extensions: &mut Extensions,
) -> Box<dyn RequestTransaction> {
    let co_commit = CoCommit::<DB>::new(home.clone());
    extensions.insert(co_commit.clone());
    Box::new(Offered(co_commit))
}

/// Dropping it ends the handler's use of the transaction, too.
struct Offered<DB: CoCommitDatabase>(CoCommit<DB>);

impl<DB: CoCommitDatabase> Drop for Offered<DB> {
    fn drop(&mut self) {
        // A transaction that was not ended is discarded here, or by the task that still uses it.
        drop(self.0.shared.end());
    }
}

impl<DB: CoCommitDatabase> Shared<DB> {
    /// Ends the handler's use of the transaction, and takes its connection.
    pub(super) fn connection(&self) -> Result<LentConnection<DB>, StoreError> {
        match self.end() {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) if self.lock().is_elsewhere => Err(ended_elsewhere::<DB>()),
            Ok(None) => Err(StoreError::rolled_back(GONE)),
            Err(StillInUse) => Err(StoreError::rolled_back(IN_USE)),
        }
    }

    /// Ends the handler's use of the transaction, and rolls it back.
    pub(super) async fn roll_back(&self) -> Result<(), StoreError> {
        match self.connection() {
            Ok(connection) => roll_back_in_time(connection).await,
            // Nobody waits for the end of a transaction whose uncommitted rows the handler has
            // read.
            Err(error) if self.lock().reads_uncommitted => Err(error),
            // A task that still uses it rolls it back.
            Err(_) => Ok(()),
        }
    }

    /// Ends the handler's use of the transaction, to commit it. If it is unknown which rows are
    /// left, rolls back and fails.
    pub(super) async fn to_commit(&self) -> Result<LentConnection<DB>, StoreError> {
        let mut connection = self.connection()?;
        let (is_torn, was_elsewhere) = {
            let state = self.lock();
            (state.is_torn, state.is_elsewhere)
        };
        if was_elsewhere {
            let _ = roll_back_in_time(connection).await;
            return Err(ended_elsewhere::<DB>());
        }
        if !is_torn {
            return Ok(connection);
        }
        // sqlx may have ended the transaction. What was written since is committed then, if the
        // database allows it.
        let (within, _, mark) = connection.parts();
        let is_elsewhere =
            !DB::ELSEWHERE_IS_ROLLED_BACK && matches!(DB::check(within, mark).await, Ok(false));
        let _ = roll_back_in_time(connection).await;
        Err(if is_elsewhere { ended_elsewhere::<DB>() } else { StoreError::rolled_back(TORN) })
    }

    /// Runs the functions of `on_commit`.
    pub(super) fn committed(&self) {
        let waiting = std::mem::take(&mut self.lock().on_commit);
        for callback in waiting {
            if catch_unwind(AssertUnwindSafe(callback)).is_err() {
                trace::on_commit_panicked();
            }
        }
    }
}

impl<DB: CoCommitDatabase> Offered<DB> {
    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let mut connection = self.0.shared.to_commit().await?;
        let home = &self.0.shared.home;
        let (within, _, mark) = connection.parts();
        // If this is dropped or the process dies before the COMMIT, nothing is committed.
        let refused = match DB::complete(home, within, mark, record, fence, &outcome).await {
            Ok(Written::Held) => None,
            Ok(Written::Stale) => Some(Ok(Fenced::Stale)),
            Ok(Written::Elsewhere) => Some(Err(ended_elsewhere::<DB>())),
            Err(error) => Some(Err(StoreError::rolled_back(error))),
        };
        if let Some(refused) = refused {
            roll_back_in_time(connection).await?;
            return refused;
        }
        match connection.commit().await {
            Ok(()) => {}
            Err(CommitError::RolledBack(error)) => return Err(StoreError::rolled_back(error)),
            Err(CommitError::Unknown(error)) => {
                look_up::<DB>(home, record, fence, error).await?;
            }
        }
        self.0.shared.committed();
        Ok(Fenced::Held)
    }

    async fn commit(&self) -> Result<(), StoreError> {
        let mut connection = self.0.shared.to_commit().await?;
        let (within, _, mark) = connection.parts();
        let refused = match DB::check(within, mark).await {
            Ok(true) => None,
            Ok(false) => Some(ended_elsewhere::<DB>()),
            Err(error) => Some(StoreError::rolled_back(error)),
        };
        if let Some(refused) = refused {
            let _ = roll_back_in_time(connection).await;
            return Err(refused);
        }
        match connection.commit().await {
            Ok(()) => {
                self.0.shared.committed();
                Ok(())
            }
            Err(CommitError::RolledBack(error)) => Err(StoreError::rolled_back(error)),
            Err(CommitError::Unknown(error)) => Err(StoreError::unavailable(error)),
        }
    }
}

impl<DB: CoCommitDatabase> RequestTransaction for Offered<DB> {
    fn is_begun(&self) -> bool {
        use super::Stage;
        // One that is in use has begun. One that is beginning has written nothing.
        let state = self.0.shared.lock();
        state.is_elsewhere || matches!(state.stage, Stage::Idle(_) | Stage::InUse)
    }

    fn keeps_on_error(&self) -> bool {
        self.0.shared.lock().keeps_on_error
    }

    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced> {
        Box::pin(async move { Offered::complete(&self, record, fence, outcome).await })
    }

    fn commit(self: Box<Self>) -> Ending<()> {
        Box::pin(async move { Offered::commit(&self).await })
    }

    fn roll_back(self: Box<Self>) -> Ending<()> {
        Box::pin(async move { self.0.shared.roll_back().await })
    }
}

/// The error if somebody else than the layer ended the transaction.
pub(super) fn ended_elsewhere<DB: CoCommitDatabase>() -> StoreError {
    if DB::ELSEWHERE_IS_ROLLED_BACK {
        StoreError::rolled_back(ELSEWHERE)
    } else {
        StoreError::unavailable(ELSEWHERE)
    }
}

/// Looks up in the record whether a COMMIT took effect whose answer was lost.
async fn look_up<DB: CoCommitDatabase>(
    home: &DB::Home,
    record: RecordId,
    fence: Fence,
    lost: sqlx::Error,
) -> Result<(), StoreError> {
    for pause in PAUSES {
        sleep(pause).await;
        match timeout(PATIENCE, DB::is_completed(home, record, fence)).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => return Err(StoreError::rolled_back(lost)),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(StoreError::unavailable(lost))
}
