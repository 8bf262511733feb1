//! The loop: claim, start, rest.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::handle::{Meter, WorkerPhase};
use super::slots::Slots;
use super::supervisor::{decline, supervise};
use super::{Core, STOPPING, WINDING_DOWN, backoff, trace};
use crate::claim::{ClaimDue, Namespaces};
use crate::clock;
use crate::error::SchedulerError;

/// The most claims in one call.
const CLAIMS: usize = 256;

/// The first pause where something is due that this worker may not or cannot have; then twice as long each time, up to the
/// poll.
const BLOCKED: Duration = Duration::from_millis(10);

pub(super) struct Run {
    core: Arc<Core>,
    slots: Slots,
    shutdown: CancellationToken,
    /// How often in a row the scheduler did not answer.
    failures: u32,
    /// How often in a row something was due and nothing was claimed.
    blocked: u32,
}

/// What there is to wait for.
enum Rest {
    /// Nothing: there may be more to claim.
    None,
    /// The next cycle, so long; or that of an attempt that ends until then.
    UntilDue(Duration),
    /// A place that becomes free, or so long: what is due is of tenants at their share, or another worker is at it.
    UntilFree(Duration),
    /// The scheduler, so long: nothing else helps.
    Outage(Duration),
}

impl Run {
    pub(super) fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        Self { core, slots: Slots::default(), shutdown, failures: 0, blocked: 0 }
    }

    /// Works until the shutdown, then drains; in the end at the latest, whatever hangs.
    pub(super) async fn run(mut self) {
        let _stopped = Stopped(Arc::clone(&self.core.meter));
        let core = Arc::clone(&self.core);
        let shutdown = self.shutdown.clone();
        let end = async move {
            shutdown.cancelled().await;
            sleep(core.config.grace).await;
            core.stop.cancel();
            sleep(WINDING_DOWN + 2 * STOPPING).await;
        };
        select! {
            () = async { self.work().await; self.drain().await } => {}
            () = end => {}
        }
        self.slots.sweep();
        trace::stopped(self.slots.len());
    }

    async fn work(&mut self) {
        self.note(WorkerPhase::Working);
        trace::started(self.core.config.concurrency, self.core.config.lease);
        while !self.shutdown.is_cancelled() {
            self.slots.sweep();
            let free = self.core.config.concurrency.saturating_sub(self.slots.len());
            let rest = match free {
                0 => Rest::UntilFree(Duration::MAX),
                _ => self.claim(free).await,
            };
            self.note(WorkerPhase::Working);
            self.rest(rest).await;
        }
    }

    async fn drain(&mut self) {
        self.note(WorkerPhase::Draining);
        trace::draining(self.slots.len());
        while !self.slots.is_empty() {
            self.slots.freed().await;
            self.note(WorkerPhase::Draining);
        }
    }

    /// Claims what is due, starts it, and finds out what to wait for.
    async fn claim(&mut self, free: usize) -> Rest {
        let limit = free.min(CLAIMS);
        let request = ClaimDue::new(limit, self.core.config.lease)
            .per_tenant(self.core.config.per_tenant)
            .running(self.slots.by_tenant().clone());
        let asked = clock::now();
        // Not dropped at a shutdown: what it claims would be leased to nobody.
        let claimed = match self.core.scheduler.claim_due(request).await {
            Ok(claimed) => claimed,
            Err(error) => return self.outage("claim_due", &error),
        };
        self.core.meter.answered();
        let count = claimed.len();
        if count > 0 {
            trace::claimed(count, limit);
        }
        for claimed in claimed {
            let core = Arc::clone(&self.core);
            let tenant = claimed.cycle.tenant.clone();
            if self.shutdown.is_cancelled() {
                self.slots.fill(tenant, decline(core, claimed, asked));
            } else {
                self.slots.fill(tenant, supervise(core, claimed, asked));
            }
        }
        if count >= limit {
            self.failures = 0;
            self.blocked = 0;
            return Rest::None;
        }
        self.next(count > 0).await
    }

    /// Finds out when the next cycle is due.
    async fn next(&mut self, claimed: bool) -> Rest {
        let core = Arc::clone(&self.core);
        let next_wake = select! {
            () = self.shutdown.cancelled() => return Rest::None,
            next_wake = core.scheduler.next_wake(&Namespaces::All) => next_wake,
        };
        let poll = self.core.config.poll;
        let due_in = match next_wake {
            Ok(due_in) => due_in.unwrap_or(poll),
            Err(error) => return self.outage("next_wake", &error),
        };
        self.core.meter.answered();
        self.failures = 0;
        if !due_in.is_zero() {
            self.blocked = 0;
            Rest::UntilDue(due_in.min(poll))
        } else if claimed {
            self.blocked = 0;
            Rest::None
        } else {
            let pause = BLOCKED.saturating_mul(1 << self.blocked.min(16)).min(poll);
            self.blocked += 1;
            Rest::UntilFree(pause)
        }
    }

    fn outage(&mut self, verb: &'static str, error: &SchedulerError) -> Rest {
        self.core.meter.failed(verb, error);
        let pause = backoff(self.failures);
        self.failures += 1;
        Rest::Outage(pause)
    }

    async fn rest(&mut self, rest: Rest) {
        let (pause, wakes) = match rest {
            // A scheduler in memory never waits, and the attempts want their turn.
            Rest::None => return yield_now().await,
            Rest::UntilDue(pause) | Rest::UntilFree(pause) => (pause, true),
            Rest::Outage(pause) => (pause, false),
        };
        let mut until = clock::after(clock::now(), pause);
        let mut woken = pin!(self.core.meter.wake.notified());
        loop {
            let due_in = select! {
                biased;
                () = self.shutdown.cancelled() => return,
                due_in = self.slots.freed() => due_in,
                () = &mut woken, if wakes => return,
                () = sleep_until(until) => return,
            };
            match rest {
                Rest::UntilFree(_) => return,
                Rest::UntilDue(_) => {
                    if let Some(due_in) = due_in {
                        until = until.min(clock::after(clock::now(), due_in));
                    }
                }
                Rest::None | Rest::Outage(_) => {}
            }
            self.core.meter.note(|snapshot| snapshot.running = self.slots.len());
        }
    }

    fn note(&self, phase: WorkerPhase) {
        let running = self.slots.len();
        self.core.meter.note(|snapshot| {
            snapshot.phase = phase;
            snapshot.running = running;
        });
    }
}

/// Says that the worker is gone, also where it was dropped.
struct Stopped(Arc<Meter>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.note(|snapshot| {
            snapshot.phase = WorkerPhase::Stopped;
            snapshot.running = 0;
        });
    }
}
