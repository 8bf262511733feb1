//! Batches: the verbs of many callers in one statement and one commit, for stores whose commits are
//! slow.
//!
//! A caller puts its verb into a queue and waits for the answer. One task owns the connection. It
//! takes all verbs that arrived during the last batch and executes them as the next one. It does
//! not wait for more, so a single verb is executed at once, and batches grow with the load.

mod round;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use self::round::Round;
use super::{Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, RecordId, Store};
use crate::error::StoreError;

/// The part of a batcher that executes its batches.
pub(crate) trait Writer: Send + 'static {
    /// The maximum number of verbs in a batch.
    const MOST: usize = BATCH;

    /// Executes a batch and returns one reply for each verb, in the order of the verbs.
    ///
    /// A batch has at most one verb of each record, sorted by record, so that two processes take
    /// their locks in the same order. The call returns in bounded time. After a failure, the writer
    /// reconnects by itself.
    ///
    /// # Errors
    ///
    /// An error concerns the whole batch. `Unavailable` is passed to every caller. Any other error
    /// means that *nothing* of the batch took effect. Each verb is then executed alone, so that a
    /// bad one does not fail the others.
    fn execute(
        &mut self,
        ops: &[Op],
    ) -> impl Future<Output = Result<Vec<Result<Reply, StoreError>>, StoreError>> + Send;

    /// Returns whether two verbs may be in one batch.
    fn together(_first: &Op, _other: &Op) -> bool {
        true
    }

    /// Closes the connection. Called when the batcher was dropped.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async {}
    }
}

/// A verb and its arguments.
#[derive(Debug)]
pub(crate) enum Op {
    Claim(ClaimRequest),
    Complete(RecordId, Fence, Outcome),
    Release(RecordId, Fence),
    Extend(RecordId, Fence, Duration),
    Checkpoint(RecordId, Fence, Checkpoint),
}

impl Op {
    pub(crate) fn record(&self) -> RecordId {
        match self {
            Self::Claim(ClaimRequest { record, .. })
            | Self::Complete(record, ..)
            | Self::Release(record, ..)
            | Self::Extend(record, ..)
            | Self::Checkpoint(record, ..) => *record,
        }
    }

    /// Returns the size of the response or checkpoint that it writes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Complete(_, _, Outcome::Response(response)) => response.as_bytes().len(),
            Self::Checkpoint(_, _, checkpoint) => checkpoint.name.len() + checkpoint.data.len(),
            _ => 0,
        }
    }
}

/// The result of a verb in a batch.
#[derive(Debug)]
pub(crate) enum Reply {
    Done(Answer),
    /// Another transaction holds the row, and the batch did not wait for it. The verb is tried
    /// again, after those that arrived in the meantime. If the row stays locked for [`LOCKED_FOR`],
    /// the caller gets this claim, or `Unavailable`.
    Locked(Option<Claim>),
}

#[derive(Debug)]
pub(crate) enum Answer {
    /// The answer to a claim. With `InFlight` also the token of the claim that holds, if known:
    /// other claims of the record are then answered without the database.
    Claim(Claim, Option<ClaimToken>),
    Fenced(Fenced),
}

/// The capacity of the queue. If it is full, a caller waits for a place.
const QUEUE: usize = 4096;
/// The maximum number of verbs that are taken from the queue at a time.
pub(crate) const BATCH: usize = 1024;
/// The maximum size of the responses and checkpoints in a batch, in bytes. A larger one is executed
/// alone.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often the task yields between two batches. A yield takes far less time than a commit.
const YIELDS: usize = 4;
/// How long a verb is tried again while another transaction holds its row. A transaction holds it
/// from its `UPDATE` to its `COMMIT`, so this bound is reached only if it hangs in between.
const LOCKED_FOR: Duration = Duration::from_secs(1);
/// The pause between two tries, if there is nothing else to do.
const LOCKED_PAUSE: Duration = Duration::from_millis(3);

/// A queue of verbs and the task that executes them.
///
/// The first caller starts the task on its runtime. The task also serves callers of other runtimes.
/// When its runtime ends, the verbs in the queue fail with `Unavailable`, and the next caller
/// starts a new task. The task ends when the batcher is dropped.
pub(crate) struct Batcher<W> {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Box<dyn Fn() -> W + Send + Sync>,
    patience: Duration,
}

/// A verb in the queue.
struct Job {
    op: Op,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
    /// When its row was first found locked.
    locked: Option<Instant>,
}

impl<W: Writer> Batcher<W> {
    /// Creates a batcher whose callers wait for at most `patience`. The task makes the writer when
    /// it starts.
    pub(crate) fn new(patience: Duration, writer: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self { queue: Mutex::default(), writer: Box::new(writer), patience }
    }

    /// Executes a verb in the next batch.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped while its verb is in the queue, the verb is not executed. If its
    /// batch has begun, the verb takes effect.
    pub(super) async fn ask(&self, op: Op) -> Result<Answer, StoreError> {
        let runtime = Handle::try_current().map_err(StoreError::unavailable)?;
        timeout(self.patience, self.queued(op, &runtime)).await.map_err(StoreError::unavailable)?
    }

    async fn queued(&self, op: Op, runtime: &Handle) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let mut job = Job { op, answer, locked: None };
        // A closed queue returns the verb. `queue` then makes a new one.
        while let Err(SendError(back)) = self.queue(runtime).send(job).await {
            job = back;
        }
        answered.await.map_err(StoreError::unavailable)?
    }

    fn queue(&self, runtime: &Handle) -> mpsc::Sender<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &*queue {
            Some(open) if !open.is_closed() => open.clone(),
            _ => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                runtime.spawn(work((self.writer)(), receiver));
                queue.insert(sender).clone()
            }
        }
    }

    async fn fenced(&self, op: Op) -> Result<Fenced, StoreError> {
        match self.ask(op).await? {
            Answer::Fenced(fenced) => Ok(fenced),
            Answer::Claim(..) => Err(StoreError::invalid("the answer to another verb")),
        }
    }
}

impl<W: Writer> Store for Batcher<W> {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        match self.ask(Op::Claim(request)).await? {
            Answer::Claim(claim, _) => Ok(claim),
            Answer::Fenced(_) => Err(StoreError::invalid("the answer to another verb")),
        }
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.fenced(Op::Complete(record, fence, outcome)).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.fenced(Op::Release(record, fence)).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.fenced(Op::Extend(record, fence, lease)).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        self.fenced(Op::Checkpoint(record, fence, checkpoint)).await
    }
}

impl<W> fmt::Debug for Batcher<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

/// Executes batches until the batcher is dropped.
async fn work<W: Writer>(mut writer: W, mut queue: mpsc::Receiver<Job>) {
    let (mut waiting, mut is_ready) = (Vec::new(), false);
    while take(&mut queue, &mut waiting, is_ready).await {
        is_ready = Round::cut(&mut waiting, W::MOST, W::together).carry_out(&mut writer, &mut waiting).await;
        let_callers_ask(&queue).await;
    }
    writer.close().await;
}

/// Yields to callers that were just answered, as long as new verbs arrive. Otherwise the next batch
/// would hold the first few of them, and the others would wait for it. With 64 callers, a batch
/// holds 63 verbs instead of 41.
async fn let_callers_ask(queue: &mpsc::Receiver<Job>) {
    let mut arrived = None;
    for _ in 0..YIELDS {
        if arrived.replace(queue.len()) == Some(queue.len()) {
            return;
        }
        yield_now().await;
    }
}

/// Takes the verbs that have arrived, and waits only if there is nothing to do. Returns `false`
/// after the last one.
async fn take(queue: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>, is_ready: bool) -> bool {
    let room = BATCH.saturating_sub(waiting.len());
    if waiting.is_empty() {
        return queue.recv_many(waiting, room).await > 0;
    }
    if is_ready {
        while waiting.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            waiting.push(job);
        }
        return true;
    }
    // All verbs wait for locked rows. If the queue is closed, no caller waits for an answer.
    if room == 0 {
        sleep(LOCKED_PAUSE).await;
        return true;
    }
    !matches!(timeout(LOCKED_PAUSE, queue.recv_many(waiting, room)).await, Ok(0))
}
