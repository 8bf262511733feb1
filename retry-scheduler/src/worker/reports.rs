//! Reports on their way to the scheduler.

use std::convert::Infallible;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::handle::Meter;
use super::within;
use crate::claim::{Claimed, Report};
use crate::clock;
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::scheduler::{Finished, RetryScheduler};

/// The most reports in one call.
const BATCH: usize = 256;

/// How long a report waits for the next claim to take it along, at most.
const WAIT_FOR_CLAIM: Duration = Duration::from_millis(250);

/// The answer to a report, or why there is none.
pub(super) type Answer = Result<Finished, SchedulerErrorKind>;

/// The reports of a worker. Those that arrive while a call is under way go together with the next.
///
/// While something is due and no place is free, the loop takes them along with its next claim: one
/// call then records what ended and claims what follows. Otherwise [`deliver`](Self::deliver) sends
/// them at once.
pub(super) struct Reports {
    scheduler: Arc<dyn RetryScheduler>,
    meter: Arc<Meter>,
    /// How long a call may take before it counts as failed.
    patience: Duration,
    state: Mutex<State>,
    /// For `deliver`: a report arrived, or the loop takes no more.
    changed: Notify,
    /// For the loop: a report arrived that it may take along.
    offered: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Whether the loop takes reports along.
    left_to_claims: bool,
}

struct Waiting {
    claimed: Claimed,
    report: Report,
    reply: oneshot::Sender<Answer>,
    since: Instant,
    frees_place: bool,
}

/// Reports that go in one call. Dropped unanswered, they count as failed, and are sent again.
#[derive(Default)]
pub(super) struct Batch(Vec<Waiting>);

impl Reports {
    pub(super) fn new(scheduler: Arc<dyn RetryScheduler>, meter: Arc<Meter>, patience: Duration) -> Self {
        let (state, changed, offered) = (Mutex::default(), Notify::new(), Notify::new());
        Self { scheduler, meter, patience, state, changed, offered }
    }

    /// Has a report recorded, in one call with others where there are some.
    pub(super) async fn finish(&self, claimed: Claimed, report: Report, frees_place: bool) -> Answer {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.push(Waiting { claimed, report, reply, since: clock::now(), frees_place });
            if state.left_to_claims {
                self.offered.notify_one();
            }
        }
        self.changed.notify_one();
        answer.await.unwrap_or(Err(SchedulerErrorKind::Unavailable))
    }

    /// Says whether the loop takes reports along with its next claim.
    pub(super) fn leave_to_claims(&self, leave: bool) {
        let was = mem::replace(&mut self.lock().left_to_claims, leave);
        if was && !leave {
            self.changed.notify_one();
        }
    }

    /// Waits for a report that the loop may take along.
    pub(super) async fn offered(&self) {
        self.offered.notified().await;
    }

    /// Takes the reports that wait.
    pub(super) fn take(&self) -> Batch {
        let mut state = self.lock();
        state.waiting.retain(|one| !one.reply.is_closed());
        let batch = state.waiting.len().min(BATCH);
        let rest = state.waiting.split_off(batch);
        Batch(mem::replace(&mut state.waiting, rest))
    }

    /// Sends what the loop does not take along, for ever.
    pub(super) async fn deliver(&self) -> Infallible {
        loop {
            let (oldest, left_to_claims) = {
                let state = self.lock();
                (state.waiting.first().map(|one| one.since), state.left_to_claims)
            };
            match oldest {
                None => self.changed.notified().await,
                Some(since) if left_to_claims && since.elapsed() < WAIT_FOR_CLAIM => select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(clock::after(since, WAIT_FOR_CLAIM)) => {}
                },
                Some(_) => self.send(self.take()).await,
            }
        }
    }

    /// Sends a batch, and hands out the answers.
    pub(super) async fn send(&self, mut batch: Batch) {
        // A batch of one costs more than the call for one.
        if batch.0.len() > 1 {
            match within(self.patience, self.scheduler.finish_many(batch.reports())).await {
                Ok(answers) => {
                    self.meter.answered();
                    mem::take(&mut batch).answer(answers, &self.meter);
                }
                Err(error) => {
                    self.meter.failed("finish_many", &error);
                    // One of them may be the reason, and the others must not fail for it: below,
                    // each for itself.
                    if error.kind() != SchedulerErrorKind::Invalid {
                        mem::take(&mut batch).fail(error.kind());
                    }
                }
            }
        }
        for one in batch.0 {
            let answer = self.finish_alone(&one.claimed, one.report).await;
            let _ = one.reply.send(answer);
        }
    }

    /// Records one report in a call of its own, whatever the others do.
    pub(super) async fn finish_alone(&self, claimed: &Claimed, report: Report) -> Answer {
        let answer = within(self.patience, self.scheduler.finish(claimed, report)).await;
        match &answer {
            Ok(_) => self.meter.answered(),
            Err(error) => self.meter.failed("finish", error),
        }
        answer.map_err(|error| error.kind())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tenants whose places become free when the reports are recorded. One that was sent before
    /// has no place any more: it was given away with the first try.
    pub(super) fn freed_tenants(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|one| one.frees_place).map(|one| one.claimed.cycle.tenant.as_str())
    }

    pub(super) fn reports(&self) -> Vec<(Claimed, Report)> {
        self.0.iter().map(|one| (one.claimed.clone(), one.report.clone())).collect()
    }

    /// Hands out the answers of a call.
    pub(super) fn answer(self, answers: Vec<Result<Finished, SchedulerError>>, meter: &Meter) {
        for (one, answer) in self.0.into_iter().zip(answers) {
            if let Err(error) = &answer {
                meter.failed("finish_many", error);
            }
            let _ = one.reply.send(answer.map_err(|error| error.kind()));
        }
    }

    pub(super) fn fail(self, kind: SchedulerErrorKind) {
        for one in self.0 {
            let _ = one.reply.send(Err(kind));
        }
    }
}
