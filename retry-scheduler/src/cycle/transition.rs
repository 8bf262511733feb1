//! What happens to a cycle: one match.

use std::time::SystemTime;

use super::Activity::{Idle, Leased};
use super::Ending::{Cancelled, Exhausted};
use super::State::{Ended, Pending};
use super::{
    Activity, Cycle, EndReason, Ending, Event, Fence, NewCycle, Refused, State, Transition, Verdict,
};
use crate::millis::{later, whole};

impl Cycle {
    /// Returns the cycle that begins at `now`. Where its plan is over before the first attempt is
    /// due, it has ended exhausted.
    pub fn new(new: &NewCycle, now: SystemTime) -> Self {
        let now = whole(now);
        let begun = Self {
            key: new.key.clone(),
            tenant: new.tenant.clone(),
            plan: new.plan.clone(),
            state: Pending(Idle { due: now }),
            epoch: 0,
            nonce: 0,
            attempts: 0,
            used: 0,
            lapses: 0,
            deferrals: 0,
            reactivations: 0,
        };
        Self { state: begun.due(later(now, new.first_in), now), ..begun }
    }

    /// Returns what an event at `now` makes of this cycle, by the
    /// [table](Cycle#what-happens-to-it).
    ///
    /// # Errors
    ///
    /// When it changes nothing, and why.
    pub fn apply(&self, event: Event, now: SystemTime) -> Result<Transition, Refused> {
        let now = whole(now);
        let mut cycle = self.clone();
        let mut attempt = None;
        match (self.state, event) {
            (Pending(activity), Event::Claim { .. }) if now < activity.wake() => return Err(Refused::NotDue),
            (Pending(activity), Event::Claim { lease, nonce }) => {
                cycle.epoch += 1;
                cycle.nonce = nonce;
                cycle.lapses = self.lapses.saturating_add(u32::from(matches!(activity, Leased { .. })));
                cycle.state = if self.plan.begins_at(now) {
                    Pending(Leased { until: later(now, lease) })
                } else {
                    State::ended(EndReason::TooLate, now)
                };
            }
            (Pending(Leased { .. }), Event::Extend { fence, lease }) if fence == self.fence() => {
                cycle.state = Pending(Leased { until: later(now, lease) });
            }
            (Pending(Leased { .. }), Event::Finish { fence, verdict, retry_in }) if fence == self.fence() => {
                cycle.attempts = self.attempts.saturating_add(1);
                cycle.used = self.used.saturating_add(1);
                cycle.lapses = 0;
                cycle.deferrals = 0;
                let delay = self.delay_after_attempt(verdict, retry_in);
                cycle.state = match self.ended_by(verdict) {
                    Some(reason) => State::ended(reason, now),
                    None => cycle.due(later(now, delay), now),
                };
                attempt = Some(cycle.attempts);
            }
            (Pending(Leased { .. }), Event::Defer { fence, .. })
                if fence == self.fence() && self.deferrals >= self.plan.deferral_limit() =>
            {
                cycle.state = State::ended(EndReason::DeferredTooOften, now);
            }
            // Lapses stay: that the claim was given back says nothing of what an attempt does to
            // its worker.
            (Pending(Leased { .. }), Event::Defer { fence, delay }) if fence == self.fence() => {
                cycle.deferrals = self.deferrals.saturating_add(1);
                cycle.state = Pending(Idle { due: later(now, delay) });
            }
            (_, Event::Extend { .. } | Event::Finish { .. } | Event::Defer { .. }) => {
                return Err(Refused::Stale);
            }
            (Pending(_), Event::Cancel) => {
                cycle.epoch += 1;
                cycle.state = State::ended(EndReason::Cancelled, now);
            }
            (Pending(Idle { due }), Event::RunNow) => cycle.state = Pending(Idle { due: due.min(now) }),
            (Pending(Leased { .. }), Event::RunNow) => return Err(Refused::Leased),
            (Pending(_), Event::Reschedule(change)) => {
                cycle.epoch += 1;
                cycle.lapses = 0;
                cycle.deferrals = 0;
                cycle.plan = change.plan;
                cycle.state = cycle.due(later(now, change.next_in), now);
            }
            (Ended { ending: Exhausted | Cancelled, .. }, Event::Reschedule(change)) if change.reactivate => {
                cycle.epoch += 1;
                cycle.used = 0;
                cycle.lapses = 0;
                cycle.deferrals = 0;
                cycle.reactivations = self.reactivations.saturating_add(1);
                cycle.plan = change.plan;
                cycle.state = cycle.due(later(now, change.next_in), now);
            }
            (
                Ended { ending, .. },
                Event::Claim { .. } | Event::Cancel | Event::RunNow | Event::Reschedule(_),
            ) => return Err(Refused::Ended(ending)),
        }
        Ok(Transition { cycle, attempt })
    }

    /// Returns the fence of the last claim or change.
    pub fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, nonce: self.nonce }
    }

    /// Returns how it ended, or `None` while it is pending.
    pub fn ending(&self) -> Option<Ending> {
        self.end_reason().map(EndReason::ending)
    }

    /// Returns why it ended, or `None` while it is pending.
    pub fn end_reason(&self) -> Option<EndReason> {
        match self.state {
            Pending(_) => None,
            Ended { reason, .. } => Some(reason),
        }
    }

    /// Why this verdict of the running attempt ends the cycle; `None`: the cycle goes on, if its
    /// plan has the time.
    pub(crate) fn ended_by(&self, verdict: Verdict) -> Option<EndReason> {
        let was_last = self.used.saturating_add(1) >= self.plan.max_attempts();
        match verdict {
            Verdict::Success => Some(EndReason::Succeeded),
            Verdict::Permanent => Some(EndReason::PermanentFailure),
            Verdict::Failure => was_last.then_some(EndReason::AttemptsUsedUp),
            Verdict::Crashed => was_last.then_some(EndReason::CrashedTooOften),
        }
    }

    /// Waiting for an attempt at `due`; or exhausted, where the plan has none left or none that
    /// late.
    fn due(&self, due: SystemTime, now: SystemTime) -> State {
        if self.used >= self.plan.max_attempts() {
            State::ended(EndReason::AttemptsUsedUp, now)
        } else if self.plan.begins_at(due) {
            Pending(Idle { due })
        } else {
            State::ended(EndReason::TooLate, now)
        }
    }
}

impl State {
    /// Returns the state of a cycle that ended for this reason.
    pub fn ended(reason: EndReason, at: SystemTime) -> Self {
        Ended { ending: reason.ending(), reason, at }
    }
}

impl Activity {
    /// Returns when the cycle can be claimed next.
    pub fn wake(self) -> SystemTime {
        match self {
            Idle { due } => due,
            Leased { until } => until,
        }
    }
}
