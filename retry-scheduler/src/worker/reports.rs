//! Reports on their way to the scheduler: those that arrive while a call is under way go out together with the next.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::select;
use tokio::sync::oneshot;

use super::handle::Meter;
use crate::claim::{Claimed, Report};
use crate::error::SchedulerErrorKind;
use crate::scheduler::{Finished, RetryScheduler};

/// The most reports in one call.
const BATCH: usize = 256;

/// What became of a report, or why nothing did.
pub(super) type Answer = Result<Finished, SchedulerErrorKind>;

/// Whoever has a report sends those of all who wait with it; there is no task of its own that could be gone.
pub(super) struct Reports {
    scheduler: Arc<dyn RetryScheduler>,
    meter: Arc<Meter>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held while a call is under way.
    turn: tokio::sync::Mutex<()>,
}

struct Waiting {
    claimed: Claimed,
    report: Report,
    reply: oneshot::Sender<Answer>,
}

impl Reports {
    pub(super) fn new(scheduler: Arc<dyn RetryScheduler>, meter: Arc<Meter>) -> Self {
        Self { scheduler, meter, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Records a report, in one call with others where there are some.
    ///
    /// Dropped, it may take the call with it that carries others' reports too: they are told `Unavailable`, and try again.
    pub(super) async fn finish(&self, claimed: Claimed, report: Report) -> Answer {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { claimed, report, reply });
        loop {
            select! {
                biased;
                answer = &mut answer => return answer.unwrap_or(Err(SchedulerErrorKind::Unavailable)),
                _turn = self.turn.lock() => self.send(self.batch()).await,
            }
        }
    }

    /// The reports to send next, without those that nobody waits for any more.
    fn batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !one.reply.is_closed());
        let batch = waiting.len().min(BATCH);
        let rest = waiting.split_off(batch);
        mem::replace(&mut waiting, rest)
    }

    async fn send(&self, mut batch: Vec<Waiting>) {
        // A batch of one costs more than the call for one.
        if batch.len() > 1 {
            let reports = batch.iter().map(|one| (one.claimed.clone(), one.report.clone())).collect();
            match self.scheduler.finish_many(reports).await {
                Ok(answers) => {
                    self.meter.answered();
                    // A reply that gets no answer is dropped, which says `Unavailable`.
                    for (one, answer) in batch.drain(..).zip(answers) {
                        let _ = one.reply.send(answer.map_err(|error| error.kind()));
                    }
                }
                Err(error) if error.kind() == SchedulerErrorKind::Invalid => {
                    // One of them is the reason, and the others must not fail for it: below, each for itself.
                    self.meter.failed("finish_many", &error);
                }
                Err(error) => {
                    self.meter.failed("finish_many", &error);
                    for one in batch.drain(..) {
                        let _ = one.reply.send(Err(error.kind()));
                    }
                }
            }
        }
        for one in batch {
            let answer = self.scheduler.finish(&one.claimed, one.report).await;
            match &answer {
                Ok(_) => self.meter.answered(),
                Err(error) => self.meter.failed("finish", error),
            }
            let _ = one.reply.send(answer.map_err(|error| error.kind()));
        }
    }
}
