//! One claim, from its first moment to its last. The worker may be dropped at any await in here: the lease then runs out,
//! and the attempt is made again, by whoever claims the cycle next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::gate::{Admission, Pass};
use super::handler::{Attempt, Done};
use super::lease::{Lease, Loss};
use super::{Core, STOPPING, WINDING_DOWN, trace};
use crate::claim::{Claimed, Report};
use crate::clock;
use crate::cycle::{Cycle, State, Verdict};
use crate::error::SchedulerErrorKind;
use crate::scheduler::{Fenced, Finished};

const POISONED: &str = "not attempted: the workers that attempted it died or lost their leases";
const PANICKED: &str = "the handler panicked";
const TIMED_OUT: &str = "the attempt took too long";

/// Makes the attempt that was claimed, as far as it is to be made, and records its end. Answers in how long the cycle is due
/// again, where that is known.
pub(super) async fn supervise(core: Arc<Core>, claimed: Claimed, asked: Instant) -> Option<Duration> {
    let mut supervisor = Supervisor::new(&core, &claimed, asked);
    if supervisor.lease.remaining().is_zero() {
        // The claim was answered so late that it may be somebody else's by now.
        return supervisor.give_back(Duration::ZERO).await;
    }
    if claimed.cycle.lapses >= core.config.poison_limit {
        trace::poisoned(&claimed);
        core.meter.count(|attempts| attempts.poisoned += 1);
        return supervisor.report(Report::crashed().detail(POISONED)).await;
    }
    match core.gates.admit(&claimed.cycle) {
        Admission::Wait(retry_in) => supervisor.give_back(retry_in).await,
        Admission::Run(pass) => supervisor.run(pass).await,
    }
}

/// Gives a claim back that came after the worker was told to stop.
pub(super) async fn decline(core: Arc<Core>, claimed: Claimed, asked: Instant) -> Option<Duration> {
    Supervisor::new(&core, &claimed, asked).give_back(Duration::ZERO).await
}

struct Supervisor<'a> {
    core: &'a Core,
    claimed: &'a Claimed,
    lease: Lease<'a>,
}

/// What the handler came to.
enum Ended {
    Done(Done),
    Panicked,
    /// It was still running when its time was up.
    TimedOut,
    /// It was still running when the worker's time was up.
    Interrupted,
    /// Its runtime shuts down, and dropped it.
    Gone,
}

/// What a handler that was stopped came to.
enum Stopped {
    /// To its end, just before.
    Done(Done),
    Dropped,
    /// Nothing yet: it does not await.
    Stuck,
}

impl<'a> Supervisor<'a> {
    fn new(core: &'a Core, claimed: &'a Claimed, asked: Instant) -> Self {
        Self { core, claimed, lease: Lease::new(core, claimed, asked) }
    }

    async fn run(&mut self, pass: Pass<'_>) -> Option<Duration> {
        let token = CancellationToken::new();
        // What the handler left running hears of it too, whatever becomes of this future.
        let _over = token.clone().drop_guard();
        let mut task = self.spawn(token.clone());
        match self.watch(&mut task, &token).await {
            Ended::Done(done) => self.settle(done, pass).await,
            Ended::Panicked => {
                trace::panicked(self.claimed);
                self.core.meter.count(|attempts| attempts.panicked += 1);
                self.report(failure(PANICKED)).await
            }
            Ended::TimedOut => match self.stop(&mut task).await {
                Stopped::Done(done) => self.settle(done, pass).await,
                stopped => {
                    drop(pass);
                    trace::timed_out(self.claimed);
                    self.core.meter.count(|attempts| attempts.timed_out += 1);
                    let due = self.report(failure(TIMED_OUT)).await;
                    if matches!(stopped, Stopped::Stuck) {
                        // The cycle is free, the worker's place is not: its thread is still taken.
                        let _ = task.await;
                    }
                    due
                }
            },
            Ended::Interrupted => match self.stop(&mut task).await {
                Stopped::Done(done) => self.settle(done, pass).await,
                Stopped::Dropped => self.give_back(Duration::ZERO).await,
                // Given back, it would run twice at a time. The lease outlasts this process.
                Stopped::Stuck => None,
            },
            Ended::Gone => self.give_back(Duration::ZERO).await,
        }
    }

    /// Starts the handler in a task of its own: one that computes for long keeps no lease from being renewed, and a panic is
    /// a value.
    fn spawn(&self, token: CancellationToken) -> AbortOnDropHandle<Done> {
        let handler = Arc::clone(&self.core.handler);
        let attempt = Attempt::new(self.claimed.clone(), token);
        let run = async move { handler.attempt(attempt).await };
        AbortOnDropHandle::new(tokio::spawn(run.instrument(trace::attempt(self.claimed))))
    }

    /// Renews the lease until the handler has ended or its time is up.
    async fn watch(&mut self, task: &mut AbortOnDropHandle<Done>, token: &CancellationToken) -> Ended {
        let mut limit = clock::after(clock::now(), self.core.config.attempt_timeout);
        let mut stopping = false;
        loop {
            select! {
                biased;
                ended = &mut *task => return match ended {
                    Ok(done) => Ended::Done(done),
                    Err(error) if error.is_panic() => Ended::Panicked,
                    Err(_) => Ended::Gone,
                },
                loss = self.lease.lost(), if self.lease.holds() => {
                    match loss {
                        Loss::Lapsed => trace::lapsed(self.claimed),
                        Loss::Taken => trace::taken(self.claimed),
                    }
                    token.cancel();
                }
                () = self.core.stop.cancelled(), if !stopping => {
                    stopping = true;
                    token.cancel();
                    limit = limit.min(clock::after(clock::now(), WINDING_DOWN));
                }
                () = sleep_until(limit) => {
                    token.cancel();
                    return if stopping { Ended::Interrupted } else { Ended::TimedOut };
                }
            }
        }
    }

    /// Drops the handler at its next await.
    async fn stop(&mut self, task: &mut AbortOnDropHandle<Done>) -> Stopped {
        task.abort();
        match self.lease.while_it_holds(timeout(STOPPING, task)).await {
            Some(Ok(Ok(done))) => Stopped::Done(done),
            Some(Ok(Err(_))) => Stopped::Dropped,
            Some(Err(_)) | None => {
                trace::stuck(self.claimed);
                Stopped::Stuck
            }
        }
    }

    /// Does as the handler says.
    async fn settle(&mut self, done: Done, pass: Pass<'_>) -> Option<Duration> {
        match done {
            Done::Report(report) => {
                pass.answered();
                self.note_gates();
                self.report(report).await
            }
            Done::Settled => {
                pass.answered();
                self.note_gates();
                self.core.meter.count(|attempts| attempts.settled += 1);
                Some(Duration::ZERO) // when it is due again is known to the handler only
            }
            Done::Unavailable { retry_in } => {
                let retry_in = self.core.gates.close(&self.claimed.cycle.key.namespace, retry_in);
                drop(pass);
                self.note_gates();
                trace::closed(self.claimed, retry_in);
                self.give_back(retry_in).await
            }
            Done::Deferred { retry_in } => {
                drop(pass);
                self.give_back(retry_in).await
            }
        }
    }

    /// Records how the attempt ended. Tried again while the lease lasts; then it is left to that, and the attempt is made
    /// again.
    async fn report(&mut self, mut report: Report) -> Option<Duration> {
        let mut failures = 0;
        loop {
            if self.lease.loss() == Some(Loss::Taken) {
                return self.refused();
            }
            let (verdict, own_delay) = (report.verdict, report.retry_in);
            let call = self.core.reports.finish(self.claimed.clone(), report.clone());
            match self.lease.while_it_holds(call).await {
                Some(Ok(Finished::Recorded(cycle))) => {
                    self.core.meter.count(|attempts| match verdict {
                        Verdict::Success => attempts.succeeded += 1,
                        Verdict::Failure | Verdict::Crashed => attempts.failed += 1,
                        Verdict::Permanent => attempts.permanent += 1,
                    });
                    return due_in(&cycle, own_delay);
                }
                Some(Ok(Finished::Stale)) => return self.refused(),
                // The verdict matters more than what is told about it.
                Some(Err(SchedulerErrorKind::Invalid)) if !report.detail.is_empty() => {
                    trace::without_detail(self.claimed);
                    report.detail = Bytes::new();
                }
                Some(Err(SchedulerErrorKind::Invalid)) => return self.undelivered(),
                Some(Err(_)) if self.lease.pause(failures).await => failures += 1,
                _ => return self.undelivered(),
            }
        }
    }

    /// Gives the claim back; the attempt does not count.
    async fn give_back(&mut self, retry_in: Duration) -> Option<Duration> {
        let mut failures = 0;
        loop {
            if self.lease.loss() == Some(Loss::Taken) {
                return self.refused();
            }
            let call = self.core.scheduler.defer(self.claimed, retry_in);
            match self.lease.while_it_holds(call).await {
                Some(Ok(Fenced::Held)) => {
                    self.core.meter.answered();
                    self.core.meter.count(|attempts| attempts.deferred += 1);
                    trace::deferred(self.claimed, retry_in);
                    return Some(retry_in);
                }
                Some(Ok(Fenced::Stale)) => {
                    self.core.meter.answered();
                    return self.refused();
                }
                Some(Err(error)) => {
                    self.core.meter.failed("defer", &error);
                    let invalid = error.kind() == SchedulerErrorKind::Invalid;
                    if invalid || !self.lease.pause(failures).await {
                        return self.undelivered();
                    }
                    failures += 1;
                }
                None => return self.undelivered(),
            }
        }
    }

    fn refused(&self) -> Option<Duration> {
        trace::refused(self.claimed);
        self.core.meter.count(|attempts| attempts.refused += 1);
        None
    }

    fn undelivered(&self) -> Option<Duration> {
        trace::undelivered(self.claimed);
        self.core.meter.count(|attempts| attempts.undelivered += 1);
        None
    }

    fn note_gates(&self) {
        let closed = self.core.gates.closed();
        self.core.meter.note(|snapshot| snapshot.gates_closed = closed);
    }
}

fn failure(detail: &'static str) -> Report {
    Report::failure().detail(detail)
}

/// In how long the next attempt is due, just after the end of one; `None`: there is none.
fn due_in(cycle: &Cycle, own_delay: Option<Duration>) -> Option<Duration> {
    matches!(cycle.state, State::Pending(_)).then(|| own_delay.unwrap_or_else(|| cycle.delay()))
}
