//! The loop: claim, start, rest.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::gate::Pass;
use super::handle::{Meter, WorkerPhase};
use super::reports::Batch;
use super::slots::Slots;
use super::supervisor::{decline, supervise};
use super::{Core, STOPPING, WINDING_DOWN, backoff, metrics, patience, trace, upkeep, within};
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Unreadable};
use crate::clock;
use crate::cycle::CycleKey;
use crate::error::{SchedulerError, SchedulerErrorKind};

/// The most claims in one call.
const CLAIMS: usize = 256;

/// The first pause when something is due that this worker cannot have; it doubles up to the poll.
const BLOCKED: Duration = Duration::from_millis(10);

/// How long an unreadable cycle is not logged again, and how many cycles the worker remembers for
/// that.
const LOG_AGAIN: Duration = Duration::from_mins(10);
const LOGGED: usize = 1_000;

pub(super) struct Run {
    core: Arc<Core>,
    slots: Slots,
    shutdown: CancellationToken,
    /// Failed calls in a row.
    failures: u32,
    /// How often in a row something was due and nothing was claimed.
    blocked: u32,
    /// The unreadable cycles that were logged, and when.
    logged: HashMap<Option<CycleKey>, Instant>,
}

/// What there is to wait for.
enum Rest {
    /// Nothing: there may be more to claim.
    None,
    /// The next cycle, so long; or that of an attempt that ends until then.
    UntilDue(Duration),
    /// A free place, or so long: something is due, and no place is free or another worker is at it.
    UntilFree(Duration),
    /// The scheduler, so long: nothing else helps.
    Outage(Duration),
}

impl Run {
    pub(super) fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        Self { core, slots: Slots::default(), shutdown, failures: 0, blocked: 0, logged: HashMap::new() }
    }

    /// Works until the shutdown, then drains; in the end at the latest, whatever hangs.
    pub(super) async fn run(mut self) {
        let _stopped = Stopped(Arc::clone(&self.core.meter));
        let core = Arc::clone(&self.core);
        let shutdown = self.shutdown.clone();
        let end = async {
            shutdown.cancelled().await;
            sleep(core.config.grace).await;
            core.stop.cancel();
            sleep(WINDING_DOWN + 2 * STOPPING).await;
        };
        select! {
            () = async { self.work().await; self.drain().await } => {}
            () = end => {}
            never = core.leases.keep() => match never {},
            never = core.reports.deliver() => match never {},
            never = upkeep::purge(&core, &shutdown) => match never {},
            never = upkeep::listen(&core) => match never {},
        }
        self.slots.sweep();
        trace::stopped(self.slots.len());
    }

    async fn work(&mut self) {
        self.note(WorkerPhase::Working);
        trace::started(self.core.config.concurrency, self.core.config.lease);
        while !self.shutdown.is_cancelled() {
            self.slots.sweep();
            let rest = self.round().await;
            let hungry = matches!(rest, Rest::None | Rest::UntilFree(_));
            self.core.reports.leave_to_claims(hungry);
            self.note(WorkerPhase::Working);
            self.rest(rest).await;
        }
        self.core.reports.leave_to_claims(false);
    }

    async fn drain(&mut self) {
        self.note(WorkerPhase::Draining);
        trace::draining(self.slots.len());
        while !self.slots.is_empty() {
            self.slots.freed().await;
            self.note(WorkerPhase::Draining);
        }
    }

    /// Records what has ended, claims what is due, starts it, and finds out what to wait for.
    async fn round(&mut self) -> Rest {
        if self.core.leases.recover().await.is_err() {
            return self.back_off();
        }
        let mut batch = self.core.reports.take();
        let places = self.core.config.concurrency + batch.freed_tenants().count();
        let mut free = places.saturating_sub(self.slots.len());
        if free == 0 && batch.is_empty() {
            return Rest::UntilFree(Duration::MAX);
        }
        let mut claimed = false;
        let ripe = self.core.gates.ripe(&self.core.config.namespaces);
        if !ripe.is_empty() && free > 0 {
            // A probe needs a place, which may be one that the batch frees.
            self.core.reports.send(mem::take(&mut batch)).await;
            let Ok(probes) = self.probe(ripe, free).await else { return self.back_off() };
            free -= probes;
            claimed = probes > 0;
        }
        let open = self.core.gates.open(&self.core.config.namespaces);
        if free == 0 || is_nothing(&open) {
            self.core.reports.send(batch).await;
            return if free == 0 { Rest::None } else { self.next(claimed).await };
        }
        let limit = free.min(CLAIMS);
        let mut running = self.slots.by_tenant().clone();
        for tenant in batch.freed_tenants() {
            if let Some(count) = running.get_mut(tenant) {
                *count = count.saturating_sub(1);
            }
        }
        let asked = clock::now();
        let request = self.request(limit).running(running).namespaces(open);
        let Ok(claims) = self.finish_and_claim(batch, request).await else { return self.back_off() };
        let (count, met) = (claims.claimed.len(), claims.claimed.len() + claims.unreadable.len());
        if count > 0 {
            trace::claimed(count, limit);
        }
        self.start(claims, asked, None);
        if met >= limit {
            self.failures = 0;
            self.blocked = 0;
            return Rest::None;
        }
        self.next(claimed || count > 0).await
    }

    /// Claims one cycle of each of these namespaces, at most `free`. Returns how many there were.
    async fn probe(&mut self, mut ripe: BTreeSet<String>, free: usize) -> Result<usize, SchedulerError> {
        let mut probes = 0;
        while probes < free && !ripe.is_empty() {
            let asked = clock::now();
            let request = self.request(1).namespaces(Namespaces::Only(ripe.clone()));
            let claims = self.finish_and_claim(Batch::default(), request).await?;
            let Some(namespace) = claims.first().map(|first| first.cycle.key.namespace.clone()) else {
                self.start(claims, asked, None);
                break;
            };
            ripe.remove(&namespace);
            probes += claims.claimed.len();
            let pass = self.core.gates.probe(&namespace);
            self.start(claims, asked, pass);
        }
        Ok(probes)
    }

    /// Records the reports and claims: in one call, if there are both.
    async fn finish_and_claim(&self, batch: Batch, request: ClaimDue) -> Result<Claims, SchedulerError> {
        let Core { scheduler, meter, config, .. } = &*self.core;
        // Not dropped at a shutdown: what it claims would be leased to nobody. Given up when its
        // leases would be long over.
        if batch.is_empty() {
            let claims = within(2 * config.lease, scheduler.claim_due(request)).await;
            return claims
                .inspect(|_| meter.answered())
                .inspect_err(|error| meter.failed("claim_due", error));
        }
        let mut call = pin!(within(2 * config.lease, scheduler.finish_and_claim(batch.reports(), request)));
        let answer = select! {
            biased;
            answer = &mut call => answer,
            () = sleep(patience(config.lease)) => {
                // The reports are sent again meanwhile; what this call makes of them is found out
                // then.
                batch.fail(SchedulerErrorKind::Unavailable);
                return match call.await {
                    Ok(answer) => answer.claims.inspect(|_| meter.answered()),
                    Err(error) => Err(error),
                }
                .inspect_err(|error| meter.failed("finish_and_claim", error));
            }
        };
        match answer {
            Ok(answer) => {
                meter.answered();
                batch.answer(answer.finished, meter);
                answer.claims.inspect_err(|error| meter.failed("claim_due", error))
            }
            Err(error) => {
                meter.failed("finish_and_claim", &error);
                // One report may be the reason, and the others must not fail for it: sent without a
                // claim, each is tried alone then.
                if error.kind() == SchedulerErrorKind::Invalid {
                    self.core.reports.send(batch).await;
                } else {
                    batch.fail(error.kind());
                }
                Err(error)
            }
        }
    }

    fn request(&self, limit: usize) -> ClaimDue {
        ClaimDue::new(limit, self.core.config.lease)
            .per_tenant(self.core.config.per_tenant)
            .running(self.slots.by_tenant().clone())
    }

    /// Starts what was claimed, the first of it with this pass; takes note of what is unreadable.
    fn start(&mut self, claims: Claims, asked: Instant, mut pass: Option<Pass>) {
        for unreadable in claims.unreadable {
            self.note_unreadable(unreadable);
        }
        for claimed in claims.claimed {
            metrics::claimed(&claimed);
            self.fill(claimed, asked, pass.take());
        }
    }

    fn fill(&mut self, claimed: Claimed, asked: Instant, pass: Option<Pass>) {
        let core = Arc::clone(&self.core);
        let tenant = claimed.cycle.tenant.clone();
        if self.shutdown.is_cancelled() {
            self.slots.fill(tenant, decline(core, claimed, asked));
        } else {
            self.slots.fill(tenant, supervise(core, claimed, asked, pass));
        }
    }

    fn note_unreadable(&mut self, unreadable: Unreadable) {
        metrics::unreadable();
        self.core.meter.note(|snapshot| snapshot.unreadable += 1);
        let now = clock::now();
        self.logged.retain(|_, at| now.saturating_duration_since(*at) < LOG_AGAIN);
        if self.logged.len() < LOGGED && !self.logged.contains_key(&unreadable.key) {
            trace::unreadable(&unreadable);
            self.logged.insert(unreadable.key, now);
        }
    }

    /// Finds out when the next cycle is due, or the next gate.
    async fn next(&mut self, claimed: bool) -> Rest {
        let core = Arc::clone(&self.core);
        let claimable = core.gates.claimable(&core.config.namespaces);
        let next_wake = if is_nothing(&claimable) {
            Ok(None)
        } else {
            let next_wake = select! {
                () = self.shutdown.cancelled() => return Rest::None,
                next_wake = within(patience(core.config.lease), core.scheduler.next_wake(&claimable)) => next_wake,
            };
            next_wake
                .inspect(|_| core.meter.answered())
                .inspect_err(|error| core.meter.failed("next_wake", error))
        };
        let poll = core.config.poll;
        let due_in = match next_wake {
            Ok(due_in) => due_in.unwrap_or(poll).min(core.gates.next_ripe().unwrap_or(poll)),
            Err(_) => return self.back_off(),
        };
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

    /// The pause after a failed call.
    fn back_off(&mut self) -> Rest {
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
        let core = Arc::clone(&self.core);
        let mut woken = pin!(core.meter.wake.notified());
        loop {
            let due_in = select! {
                biased;
                () = self.shutdown.cancelled() => return,
                // Others that end in this moment go along.
                () = core.reports.offered(), if matches!(rest, Rest::UntilFree(_)) => return yield_now().await,
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

/// Whether nothing is selected.
fn is_nothing(namespaces: &Namespaces) -> bool {
    matches!(namespaces, Namespaces::Only(none) if none.is_empty())
}

/// Says that the worker is gone, also when it was dropped.
struct Stopped(Arc<Meter>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.note(|snapshot| {
            snapshot.phase = WorkerPhase::Stopped;
            snapshot.running = 0;
        });
    }
}
