//! What happens to a cycle: one match.

use std::time::SystemTime;

use super::Activity::{Idle, Leased};
use super::Ending::{Cancelled, Exhausted, Resolved};
use super::State::{Ended, Pending};
use super::{Activity, Cycle, Ending, Event, Refused, State, Transition, Verdict};
use crate::millis::{later, whole};
use crate::scheduler::NewCycle;

impl Cycle {
    /// A cycle that begins at `now`. Where its plan is over before the first attempt is due, it has ended exhausted.
    pub fn new(new: &NewCycle, now: SystemTime) -> Self {
        let now = whole(now);
        let begun = Self {
            key: new.key.clone(),
            tenant: new.tenant.clone(),
            plan: new.plan.clone(),
            state: Pending(Idle { due: now }),
            epoch: 0,
            attempts: 0,
            used: 0,
            lapses: 0,
            reactivations: 0,
        };
        Self { state: begun.due(later(now, new.first_in), now), ..begun }
    }

    /// What an event at `now` makes of this cycle, by the [table](Cycle#what-happens-to-it).
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
            (Pending(activity), Event::Claim { lease }) => {
                cycle.epoch += 1;
                cycle.lapses = self.lapses.saturating_add(u32::from(matches!(activity, Leased { .. })));
                cycle.state = if self.plan.begins_at(now) {
                    Pending(Leased { until: later(now, lease) })
                } else {
                    Ended { ending: Exhausted, at: now }
                };
            }
            (Pending(Leased { .. }), Event::Extend { epoch, lease }) if epoch == self.epoch => {
                cycle.state = Pending(Leased { until: later(now, lease) });
            }
            (Pending(Leased { .. }), Event::Finish { epoch, verdict }) if epoch == self.epoch => {
                cycle.attempts = self.attempts.saturating_add(1);
                cycle.used = self.used.saturating_add(1);
                cycle.lapses = 0;
                cycle.state = match self.ended_by(verdict) {
                    Some(ending) => Ended { ending, at: now },
                    None => cycle.due(later(now, self.plan.delay_after(cycle.used)), now),
                };
                attempt = Some(cycle.attempts);
            }
            // Lapses stay: that the claim was given back says nothing of what an attempt does to its worker.
            (Pending(Leased { .. }), Event::Defer { epoch, delay }) if epoch == self.epoch => {
                cycle.state = Pending(Idle { due: later(now, delay) });
            }
            (_, Event::Extend { .. } | Event::Finish { .. } | Event::Defer { .. }) => {
                return Err(Refused::Stale);
            }
            (Pending(_), Event::Cancel) => {
                cycle.epoch += 1;
                cycle.state = Ended { ending: Cancelled, at: now };
            }
            (Pending(_), Event::Reschedule(change)) => {
                cycle.epoch += 1;
                cycle.lapses = 0;
                cycle.plan = change.plan;
                cycle.state = cycle.due(later(now, change.next_in), now);
            }
            (Ended { ending: Exhausted | Cancelled, .. }, Event::Reschedule(change)) if change.reactivate => {
                cycle.epoch += 1;
                cycle.used = 0;
                cycle.lapses = 0;
                cycle.reactivations = self.reactivations.saturating_add(1);
                cycle.plan = change.plan;
                cycle.state = cycle.due(later(now, change.next_in), now);
            }
            (Ended { ending, .. }, Event::Claim { .. } | Event::Cancel | Event::Reschedule(_)) => {
                return Err(Refused::Ended(ending));
            }
        }
        Ok(Transition { cycle, attempt })
    }

    /// How it ended; `None` while it goes on.
    pub fn ending(&self) -> Option<Ending> {
        match self.state {
            Pending(_) => None,
            Ended { ending, .. } => Some(ending),
        }
    }

    /// How the attempt that runs ends the cycle, with this verdict; `None`: the cycle goes on, if its plan has the time.
    pub(crate) fn ended_by(&self, verdict: Verdict) -> Option<Ending> {
        match verdict {
            Verdict::Success => Some(Resolved),
            Verdict::Hopeless => Some(Exhausted),
            Verdict::Failure => {
                (self.used.saturating_add(1) >= self.plan.max_attempts()).then_some(Exhausted)
            }
        }
    }

    /// Waiting for an attempt at `due`; or exhausted, where the plan has none left or none that late.
    fn due(&self, due: SystemTime, now: SystemTime) -> State {
        if self.used < self.plan.max_attempts() && self.plan.begins_at(due) {
            Pending(Idle { due })
        } else {
            Ended { ending: Exhausted, at: now }
        }
    }
}

impl Activity {
    /// From when on the cycle can be claimed.
    pub fn wake(self) -> SystemTime {
        match self {
            Idle { due } => due,
            Leased { until } => until,
        }
    }
}
