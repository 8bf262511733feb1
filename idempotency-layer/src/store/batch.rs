//! Many callers' verbs as one statement with one commit, for stores whose commits are dear.
//!
//! A caller puts its verb into a queue and waits for the answer. One task owns the connection: it takes whatever arrived
//! while the last batch was on its way, and carries that out as the next one. Nothing is waited for, so a lone verb goes
//! at once, and the batches grow with the load by themselves.

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

/// The end of a batcher that owns the connection.
pub(crate) trait Writer: Send + 'static {
    /// The verbs of one batch.
    const MOST: usize = BATCH;

    /// Carries out the verbs: at most one of each record, in ascending order of the records, so that two processes take
    /// their locks in the same order. One reply for each verb, in the order of the verbs.
    ///
    /// An `Err` is about the batch as a whole. `Unavailable` goes to every caller; any other says that *nothing* of the
    /// batch took effect, and then each verb is carried out alone, so that a bad one does not fail its neighbours.
    ///
    /// It comes back in bounded time and finds its way back to a working connection by itself.
    fn execute(
        &mut self,
        ops: &[Op],
    ) -> impl Future<Output = Result<Vec<Result<Reply, StoreError>>, StoreError>> + Send;

    /// Whether the two may be in one batch.
    fn together(_first: &Op, _other: &Op) -> bool {
        true
    }

    /// The batcher is gone: takes leave of the database.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async {}
    }
}

/// A verb and what it was called with.
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

    /// The bytes that come beside the row itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Complete(_, _, Outcome::Response(response)) => response.as_bytes().len(),
            Self::Checkpoint(_, _, checkpoint) => checkpoint.name.len() + checkpoint.data.len(),
            _ => 0,
        }
    }
}

/// What became of a verb in a batch.
#[derive(Debug)]
pub(crate) enum Reply {
    Done(Answer),
    /// Another transaction holds the row, and the batch did not wait for it. The verb is asked again, behind those that
    /// arrived meanwhile; where the row stays locked for [`LOCKED_FOR`] the caller gets this claim, or `Unavailable`.
    Locked(Option<Claim>),
}

#[derive(Debug)]
pub(crate) enum Answer {
    /// The answer to a claim and, with `InFlight`, whose claim holds. Where that is known, other claims of the record are
    /// answered without the database.
    Claim(Claim, Option<ClaimToken>),
    Fenced(Fenced),
}

/// As many verbs wait in the queue; a caller beyond them waits for a place.
const QUEUE: usize = 4096;
/// The verbs that are taken from the queue at a time.
pub(crate) const BATCH: usize = 1024;
/// Bytes of responses and checkpoints after which a batch takes no more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often the others get their turn between two batches. Each takes less than a commit by far.
const YIELDS: usize = 4;
/// How long a verb asks again for a row that others hold. They hold it from an `UPDATE` to the `COMMIT` after it, so only
/// one that hangs in between is waited for so long.
const LOCKED_FOR: Duration = Duration::from_secs(1);
/// How soon, when nothing else is to do.
const LOCKED_PAUSE: Duration = Duration::from_millis(3);

/// A queue and, from the first verb on, the task that empties it.
///
/// The task runs on the runtime of the caller that came first, and serves callers of others. When that runtime ends, what
/// was in the queue is `Unavailable`, and the next caller's runtime takes over. The task ends when the batcher is dropped.
pub(crate) struct Batcher<W> {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Box<dyn Fn() -> W + Send + Sync>,
    patience: Duration,
}

/// A verb on its way.
struct Job {
    op: Op,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
    /// Since when its row is found locked.
    locked: Option<Instant>,
}

impl<W: Writer> Batcher<W> {
    /// A batcher whose callers wait for at most `patience`. The writer is made when the task starts.
    pub(crate) fn new(patience: Duration, writer: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self { queue: Mutex::default(), writer: Box::new(writer), patience }
    }

    /// Has a verb carried out.
    ///
    /// A caller that goes away takes its verb with it while that waits in the queue; once the batch is on its way, it takes
    /// effect as if the caller were there.
    pub(super) async fn ask(&self, op: Op) -> Result<Answer, StoreError> {
        let runtime = Handle::try_current().map_err(StoreError::unavailable)?;
        timeout(self.patience, self.queued(op, &runtime)).await.map_err(StoreError::unavailable)?
    }

    async fn queued(&self, op: Op, runtime: &Handle) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let mut job = Job { op, answer, locked: None };
        // A queue that is closed gives the verb back, and the next one is new.
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

/// The task.
async fn work<W: Writer>(mut writer: W, mut queue: mpsc::Receiver<Job>) {
    let (mut waiting, mut is_ready) = (Vec::new(), false);
    while take(&mut queue, &mut waiting, is_ready).await {
        is_ready = Round::cut(&mut waiting, W::MOST, W::together).carry_out(&mut writer, &mut waiting).await;
        let_callers_ask(&queue).await;
    }
    writer.close().await;
}

/// Whoever was answered gets to say what it wants next, as long as more of them do: else the next batch would be the first
/// few, and the others would wait for it. With 64 callers it holds 63 instead of 41, for as many commits less.
async fn let_callers_ask(queue: &mpsc::Receiver<Job>) {
    let mut arrived = None;
    for _ in 0..YIELDS {
        if arrived.replace(queue.len()) == Some(queue.len()) {
            return;
        }
        yield_now().await;
    }
}

/// Takes what has arrived. Waits only when there is nothing to do; false when there will be nothing more.
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
    // All of them wait for locked rows. Nobody waits for the answers when the queue is closed.
    if room == 0 {
        sleep(LOCKED_PAUSE).await;
        return true;
    }
    !matches!(timeout(LOCKED_PAUSE, queue.recv_many(waiting, room)).await, Ok(0))
}
