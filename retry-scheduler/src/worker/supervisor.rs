//! One claim, from its first moment to its last. The worker may be dropped at any await in here:
//! the lease then runs out, and the attempt is made again, by whoever claims the cycle next.

mod recording;

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::gate::{Admission, Pass};
use super::handler::{Attempt, Done};
use super::lease::{Lease, Loss};
use super::outcome::Outcome;
use super::{Core, STOPPING, WINDING_DOWN, metrics, trace};
use crate::claim::{Claimed, Report};
use crate::clock;

const POISONED: &str = "not attempted: the workers that attempted it crashed or lost their leases";
const PANICKED: &str = "the handler panicked";
const TIMED_OUT: &str = "the attempt took too long";

/// Makes the attempt that was claimed, if it may be made, and records its end. Returns in how long
/// the cycle is due again, if that is known.
pub(super) async fn supervise(
    core: Arc<Core>,
    claimed: Claimed,
    asked: Instant,
    probe: Option<Pass>,
) -> Option<Duration> {
    let mut supervisor = Supervisor::new(&core, &claimed, asked);
    if supervisor.lease.remaining().is_zero() {
        // The claim was answered so late that it may be somebody else's by now.
        return supervisor.give_back(Duration::ZERO).await;
    }
    if claimed.cycle.lapses >= core.config.poison_limit {
        trace::poisoned(&claimed);
        core.meter.count(|attempts| attempts.poisoned += 1);
        return supervisor.report(Report::crashed().detail(POISONED), true).await;
    }
    let namespace = &claimed.cycle.key.namespace;
    match probe.map_or_else(|| core.gates.admit(namespace), Admission::Run) {
        Admission::Wait(retry_in) => supervisor.give_back(retry_in).await,
        Admission::Run(pass) => supervisor.run(pass).await,
    }
}

/// Gives back a claim that came after the worker was told to stop.
pub(super) async fn decline(core: Arc<Core>, claimed: Claimed, asked: Instant) -> Option<Duration> {
    Supervisor::new(&core, &claimed, asked).give_back(Duration::ZERO).await
}

struct Supervisor<'a> {
    core: &'a Core,
    claimed: &'a Claimed,
    lease: Lease<'a>,
}

/// How the handler ended.
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

/// How a handler ended that was stopped.
enum Stopped {
    /// It returned just before.
    Done(Done),
    Dropped,
    /// It has not ended: it does not await.
    Stuck,
}

impl<'a> Supervisor<'a> {
    fn new(core: &'a Core, claimed: &'a Claimed, asked: Instant) -> Self {
        Self { core, claimed, lease: core.leases.hold(claimed, asked) }
    }

    async fn run(&mut self, pass: Pass) -> Option<Duration> {
        let token = CancellationToken::new();
        // Tells what the handler left running, also when this future is dropped.
        let _over = token.clone().drop_guard();
        let begun = clock::now();
        let mut task = self.spawn(token.clone());
        let ended = self.watch(&mut task, &token).await;
        metrics::attempt_took(self.claimed, begun.elapsed());
        match ended {
            Ended::Done(done) => self.conclude(done, pass).await,
            Ended::Panicked => {
                drop(pass);
                trace::panicked(self.claimed);
                metrics::panicked(self.claimed);
                self.core.meter.count(|attempts| attempts.panicked += 1);
                self.report(Report::failure().detail(PANICKED), true).await
            }
            Ended::TimedOut => match stop(&mut task).await {
                Stopped::Done(done) => self.conclude(done, pass).await,
                stopped => {
                    drop(pass);
                    trace::timed_out(self.claimed);
                    metrics::timed_out(self.claimed);
                    self.core.meter.count(|attempts| attempts.timed_out += 1);
                    let stuck = matches!(stopped, Stopped::Stuck);
                    let due = self.report(Report::failure().detail(TIMED_OUT), !stuck).await;
                    if stuck {
                        trace::stuck(self.claimed);
                        // The cycle is free, the worker's place is not: its thread is still taken.
                        let _ = task.await;
                    }
                    due
                }
            },
            Ended::Interrupted => match stop(&mut task).await {
                Stopped::Done(done) => self.conclude(done, pass).await,
                Stopped::Dropped => self.give_back(Duration::ZERO).await,
                // Given back, it would run twice at a time. The lease outlasts this process.
                Stopped::Stuck => {
                    trace::stuck(self.claimed);
                    None
                }
            },
            Ended::Gone => self.give_back(Duration::ZERO).await,
        }
    }

    /// Starts the handler in a task of its own: a handler that computes for long then keeps no
    /// lease from being renewed, and a panic is a value.
    fn spawn(&self, token: CancellationToken) -> AbortOnDropHandle<Done> {
        let handler = Arc::clone(&self.core.handler);
        let attempt = Attempt::new(self.claimed.clone(), token);
        let run = async move { handler.attempt(attempt).await };
        AbortOnDropHandle::new(tokio::spawn(trace::in_span(self.claimed, run)))
    }

    /// Waits until the handler has ended or its time is up, and tells it when the lease is lost.
    async fn watch(&mut self, task: &mut AbortOnDropHandle<Done>, token: &CancellationToken) -> Ended {
        let mut limit = clock::after(clock::now(), self.core.config.attempt_timeout);
        let mut stopping = false;
        let mut told = false;
        loop {
            select! {
                biased;
                ended = &mut *task => return match ended {
                    Ok(done) => Ended::Done(done),
                    Err(error) if error.is_panic() => Ended::Panicked,
                    Err(_) => Ended::Gone,
                },
                loss = self.lease.lost(), if !told => {
                    match loss {
                        Loss::Lapsed => trace::lapsed(self.claimed),
                        Loss::Taken => trace::taken(self.claimed),
                    }
                    told = true;
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

    /// Does as the handler says.
    async fn conclude(&mut self, done: Done, pass: Pass) -> Option<Duration> {
        match done {
            Done::Report(report) => {
                pass.answered();
                self.report(report, true).await
            }
            Done::AlreadyRecorded => {
                pass.answered();
                self.core.meter.ended(self.claimed, Outcome::AlreadyRecorded);
                Some(Duration::ZERO) // only the handler knows when it is due again
            }
            Done::Unavailable { retry_in } => {
                let retry_in = self.core.gates.close(&self.claimed.cycle.key.namespace, retry_in);
                drop(pass);
                trace::closed(self.claimed, retry_in);
                self.give_back(retry_in).await
            }
            Done::Deferred { retry_in } => {
                drop(pass);
                self.give_back(retry_in).await
            }
        }
    }
}

/// Drops the handler at its next await.
async fn stop(task: &mut AbortOnDropHandle<Done>) -> Stopped {
    task.abort();
    match timeout(STOPPING, task).await {
        Ok(Ok(done)) => Stopped::Done(done),
        Ok(Err(_)) => Stopped::Dropped,
        Err(_) => Stopped::Stuck,
    }
}
