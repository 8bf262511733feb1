//! What the checks ask a scheduler with, and how they judge its answers.

use std::fmt::{Debug, Display};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Barrier;

use super::Harness;
use crate::claim::{ClaimDue, Claimed, Namespaces, Report};
use crate::clock::Clock;
use crate::cycle::{
    Activity, AttemptRecord, Cycle, CycleKey, EndReason, Ending, NewCycle, Reschedule, State, Verdict,
};
use crate::error::SchedulerError;
use crate::plan::Plan;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, RetryScheduler, Scheduled};

/// As many handles as verbs of one check go round.
const HANDLES: usize = 3;
/// As often as a claim is repeated before it is believed that there is nothing.
const CALLS: usize = 3;
/// More cycles than any check begins.
const ENDLESS: usize = 100_000;
/// A lease that ends when a check lets it.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// What lies between attempts where a check does not say.
pub(super) const INTERVAL: Duration = Duration::from_mins(10);
pub(super) const MS: Duration = Duration::from_millis(1);

/// A scheduler in the hands of a check.
pub(super) struct Probe<'h, H: Harness> {
    /// What a failure begins with.
    rule: String,
    pub(super) harness: &'h H,
    handles: Vec<Arc<H::Scheduler>>,
    turn: AtomicUsize,
    /// Whatever was scheduled and may be pending.
    begun: Mutex<Vec<CycleKey>>,
}

impl<'h, H: Harness> Probe<'h, H> {
    pub(super) async fn new(rule: impl Display, harness: &'h H) -> Self {
        let mut handles = Vec::with_capacity(HANDLES);
        for _ in 0..HANDLES {
            handles.push(Arc::new(harness.scheduler().await));
        }
        Self { rule: rule.to_string(), harness, handles, turn: AtomicUsize::new(0), begun: Mutex::default() }
    }

    /// Ends the check.
    pub(super) fn fail(&self, seen: impl Display) -> ! {
        panic!("{}\n  But {seen}.", self.rule)
    }

    pub(super) fn ensure(&self, good: bool, seen: impl Display) {
        if !good {
            self.fail(seen);
        }
    }

    pub(super) fn same<T: PartialEq + Debug>(&self, seen: &T, wanted: &T, what: impl Display) {
        self.ensure(seen == wanted, format_args!("{what} was {seen:?}, not {wanted:?}"));
    }

    pub(super) fn rounds(&self) -> usize {
        self.harness.rounds()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.harness.clock().now()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.harness.clock().advance(by);
    }

    /// The next handle: each verb goes through another.
    pub(super) fn handle(&self) -> Arc<H::Scheduler> {
        self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % HANDLES].clone()
    }

    /// A cycle that the scheduler has not heard of, due at once, with three attempts.
    pub(super) fn new_cycle(&self) -> NewCycle {
        static SUBJECTS: AtomicUsize = AtomicUsize::new(1);
        let subject = format!("subject {}", SUBJECTS.fetch_add(1, Ordering::Relaxed));
        let payload = format!("payload of {subject}");
        NewCycle::new(CycleKey::new("check", subject), self.plan(INTERVAL, 3))
            .tenant("tenant")
            .payload(payload)
    }

    pub(super) fn plan(&self, interval: Duration, max_attempts: u32) -> Plan {
        self.delays([interval], max_attempts)
    }

    pub(super) fn delays(&self, delays: impl IntoIterator<Item = Duration>, max_attempts: u32) -> Plan {
        let plan = Plan::delays(delays, max_attempts);
        plan.unwrap_or_else(|error| self.fail(format_args!("the kit's own plan is none: {error}")))
    }

    /// Calls off what earlier parts of a check left pending.
    pub(super) async fn clear(&self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        for key in begun {
            self.cancel(&key).await;
        }
    }

    /// Lets [`clear`](Self::clear) know of a cycle.
    pub(super) fn note(&self, key: &CycleKey) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
    }

    // The verbs, of a scheduler that does not fail.

    pub(super) fn unfailing<T>(&self, answer: Result<T, SchedulerError>, verb: impl Display) -> T {
        answer.unwrap_or_else(|error| self.fail(format_args!("{verb} failed: {error:?}")))
    }

    pub(super) async fn try_schedule(&self, new: &NewCycle) -> Scheduled {
        self.note(&new.key);
        self.unfailing(self.handle().schedule(new.clone()).await, "schedule")
    }

    pub(super) async fn claim_due(&self, request: ClaimDue) -> Vec<Claimed> {
        let limit = request.limit;
        let claims = self.unfailing(self.handle().claim_due(request).await, "claim_due");
        self.ensure(
            claims.len() <= limit,
            format_args!("claim_due with a limit of {limit} gave {}", claims.len()),
        );
        let unreadable = &claims.unreadable;
        self.ensure(unreadable.is_empty(), format_args!("claim_due could not read {unreadable:?}"));
        claims.claimed
    }

    pub(super) async fn extend_by(&self, claim: &Claimed, lease: Duration) -> Fenced {
        self.unfailing(self.handle().extend(claim, lease).await, "extend")
    }

    pub(super) async fn finish(&self, claim: &Claimed, verdict: Verdict) -> Finished {
        self.unfailing(self.handle().finish(claim, report(verdict)).await, "finish")
    }

    pub(super) async fn finish_many(&self, reports: Vec<(Claimed, Report)>) -> Vec<Finished> {
        let count = reports.len();
        let answers = self.unfailing(self.handle().finish_many(reports).await, "finish_many");
        self.same(&answers.len(), &count, "the number of answers to finish_many");
        answers.into_iter().map(|answer| self.unfailing(answer, "one report of finish_many")).collect()
    }

    pub(super) async fn defer_by(&self, claim: &Claimed, delay: Duration) -> Fenced {
        self.unfailing(self.handle().defer(claim, delay).await, "defer")
    }

    pub(super) async fn cancel(&self, key: &CycleKey) -> Cancelled {
        self.unfailing(self.handle().cancel(key).await, "cancel")
    }

    pub(super) async fn reschedule(&self, key: &CycleKey, change: &Reschedule) -> Rescheduled {
        self.unfailing(self.handle().reschedule(key, change.clone()).await, "reschedule")
    }

    pub(super) async fn get(&self, key: &CycleKey) -> Option<Cycle> {
        self.unfailing(self.handle().get(key).await, "get")
    }

    pub(super) async fn attempts(&self, key: &CycleKey) -> Vec<AttemptRecord> {
        self.unfailing(self.handle().attempts(key, 0, usize::MAX).await, "attempts")
    }

    pub(super) async fn next_wake(&self) -> Option<Duration> {
        self.next_wake_of(&Namespaces::All).await
    }

    pub(super) async fn next_wake_of(&self, namespaces: &Namespaces) -> Option<Duration> {
        self.unfailing(self.handle().next_wake(namespaces).await, "next_wake")
    }

    // What is asked more than once, and the answers to it. `when` ends the sentence "… was".

    /// Begins a cycle that is not known.
    pub(super) async fn schedule(&self, new: &NewCycle) -> Cycle {
        match self.try_schedule(new).await {
            Scheduled::New(cycle) => cycle,
            Scheduled::Exists(cycle) => {
                self.fail(format_args!("schedule under an unknown key was Exists({cycle:?}), not New"))
            }
        }
    }

    /// Claims once, whatever the tenant.
    pub(super) async fn claims(&self, limit: usize, lease: Duration) -> Vec<Claimed> {
        self.claim_due(ask(limit, lease)).await
    }

    /// Claims until there is nothing more.
    pub(super) async fn all_due(&self) -> Vec<Claimed> {
        let (mut all, mut empty) = (Vec::new(), 0);
        while empty < CALLS {
            let claims = self.claims(100, LEASE).await;
            empty = if claims.is_empty() { empty + 1 } else { 0 };
            all.extend(claims);
            self.ensure(all.len() < ENDLESS, "claim_due never came to an end");
        }
        all
    }

    pub(super) async fn none_due(&self, when: impl Display) {
        let claims = self.all_due().await;
        self.ensure(claims.is_empty(), format_args!("claim_due {when} gave {claims:?}, not nothing"));
    }

    /// Claims this cycle, the only one that is due.
    pub(super) async fn claim(&self, key: &CycleKey, when: impl Display) -> Claimed {
        self.claim_for(key, LEASE, when).await
    }

    pub(super) async fn claim_for(&self, key: &CycleKey, lease: Duration, when: impl Display) -> Claimed {
        let mut claims = self.claims(10, lease).await;
        match claims.pop() {
            Some(claim) if claims.is_empty() && claim.cycle.key == *key => claim,
            other => self.fail(format_args!("claim_due {when} gave {other:?} and {claims:?}, not {key:?}")),
        }
    }

    /// Begins a cycle and claims it.
    pub(super) async fn claimed(&self, new: &NewCycle) -> Claimed {
        self.schedule(new).await;
        self.claim(&new.key, "of a new cycle").await
    }

    /// Begins a cycle and ends it so.
    pub(super) async fn ended(&self, ending: Ending) -> Cycle {
        let new = self.new_cycle();
        match ending {
            Ending::Cancelled => {
                self.schedule(&new).await;
                self.cancelled(&new.key, "of an idle cycle").await
            }
            Ending::Resolved => {
                let claim = self.claimed(&new).await;
                self.recorded(&claim, Verdict::Success, "of a running attempt").await
            }
            Ending::Exhausted => {
                let claim = self.claimed(&new).await;
                self.recorded(&claim, Verdict::Permanent, "of a running attempt").await
            }
        }
    }

    pub(super) async fn recorded(&self, claim: &Claimed, verdict: Verdict, when: impl Display) -> Cycle {
        match self.finish(claim, verdict).await {
            Finished::Recorded(cycle) => {
                self.is(&cycle, format_args!("after finish {when}")).await;
                cycle
            }
            Finished::Stale => self.fail(format_args!("finish {when} was Stale, not Recorded")),
        }
    }

    pub(super) async fn cancelled(&self, key: &CycleKey, when: impl Display) -> Cycle {
        match self.cancel(key).await {
            Cancelled::Cancelled(cycle) => {
                self.is(&cycle, format_args!("after cancel {when}")).await;
                cycle
            }
            other => self.fail(format_args!("cancel {when} was {other:?}, not Cancelled")),
        }
    }

    pub(super) async fn changed(&self, key: &CycleKey, change: &Reschedule, when: impl Display) -> Cycle {
        match self.reschedule(key, change).await {
            Rescheduled::Changed(cycle) => {
                self.is(&cycle, format_args!("after reschedule {when}")).await;
                cycle
            }
            other => self.fail(format_args!("reschedule {when} was {other:?}, not Changed")),
        }
    }

    pub(super) async fn reactivated(&self, key: &CycleKey, change: &Reschedule, when: impl Display) -> Cycle {
        match self.reschedule(key, change).await {
            Rescheduled::Reactivated(cycle) => {
                self.is(&cycle, format_args!("after reschedule {when}")).await;
                cycle
            }
            other => self.fail(format_args!("reschedule {when} was {other:?}, not Reactivated")),
        }
    }

    /// Everybody is shown this cycle.
    pub(super) async fn is(&self, cycle: &Cycle, when: impl Display) {
        let seen = self.get(&cycle.key).await;
        self.same(&seen.as_ref(), &Some(cycle), format_args!("the cycle {when}"));
    }

    pub(super) async fn known(&self, key: &CycleKey) -> Cycle {
        let cycle = self.get(key).await;
        cycle.unwrap_or_else(|| self.fail(format_args!("{key:?}, which was scheduled, is unknown")))
    }

    pub(super) fn held(&self, answer: Fenced, what: impl Display) {
        self.ensure(answer == Fenced::Held, format_args!("{what} was Stale, not Held"));
    }

    pub(super) fn is_idle(&self, cycle: &Cycle, due: SystemTime, when: impl Display) {
        let state = State::Pending(Activity::Idle { due });
        self.same(&cycle.state, &state, format_args!("the state of {:?} {when}", cycle.key));
    }

    pub(super) fn is_ended(&self, cycle: &Cycle, reason: EndReason, when: impl Display) {
        let state = State::ended(reason, self.now());
        self.same(&cycle.state, &state, format_args!("the state of {:?} {when}", cycle.key));
    }

    /// So many tasks at once, each with its number and a handle.
    pub(super) async fn race<T, F>(
        &self,
        racers: usize,
        mut act: impl FnMut(usize, Arc<H::Scheduler>) -> F,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SchedulerError>> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(racers));
        let run = |racer| {
            let (start, verb) = (start.clone(), act(racer, self.handle()));
            tokio::spawn(async move {
                start.wait().await;
                verb.await
            })
        };
        let mut answers = Vec::with_capacity(racers);
        for task in (0..racers).map(run).collect::<Vec<_>>() {
            let answer = task.await.unwrap_or_else(|end| resume_unwind(end.into_panic()));
            answers.push(self.unfailing(answer, "a verb in a race"));
        }
        answers
    }
}

/// A claim without regard to tenants.
pub(super) fn ask(limit: usize, lease: Duration) -> ClaimDue {
    ClaimDue::new(limit, lease)
}

pub(super) fn report(verdict: Verdict) -> Report {
    Report::new(verdict).detail("detail")
}

/// What is counted of a cycle: attempts, used, lapses, reactivations.
pub(super) fn counts(cycle: &Cycle) -> (u32, u32, u32, u32) {
    (cycle.attempts, cycle.used, cycle.lapses, cycle.reactivations)
}
