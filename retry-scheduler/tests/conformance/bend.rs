//! Where the faults of single transitions are.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use retry_scheduler::{
    Activity, Claimed, Cycle, CycleKey, EndReason, Ending, Event, NewCycle, Plan, Refused, State, Verdict,
};

use super::{Row, Wrong, is_leased};
use crate::faults::Fault;

const MS: Duration = Duration::from_millis(1);

impl Wrong {
    /// What the row is found under.
    pub(super) fn name(&self, key: &CycleKey) -> CycleKey {
        let CycleKey { namespace, subject } = key;
        let cut = |text: &str| text.chars().take(200).collect::<String>();
        match self.fault {
            Fault::SubjectOnly => CycleKey::new("", subject),
            Fault::JoinedWithColon => CycleKey::new("", format!("{namespace}:{subject}")),
            Fault::CaseFolded => CycleKey::new(namespace.to_lowercase(), subject.to_lowercase()),
            Fault::Trimmed => CycleKey::new(namespace.trim(), subject.trim()),
            Fault::TextCut => CycleKey::new(cut(namespace), cut(subject)),
            _ => key.clone(),
        }
    }

    pub(super) fn bend_new(&self, new: &mut NewCycle) {
        match self.fault {
            Fault::WaitCut => {
                new.first_in = Duration::from_millis(u64::try_from(new.first_in.as_millis()).unwrap());
            }
            Fault::PayloadAsText => new.payload = as_text(&new.payload),
            _ => {}
        }
    }

    pub(super) fn bend_claimed(&self, claimed: &mut Claimed) {
        if self.is(Fault::ClaimedAtDue) {
            claimed.claimed_at -= MS;
        }
    }

    pub(super) fn kept_detail(&self, detail: &Bytes) -> Bytes {
        if self.is(Fault::DetailAsText) { as_text(detail) } else { detail.clone() }
    }

    /// When the row can be claimed.
    pub(super) fn wake(&self, row: &Row) -> Option<SystemTime> {
        let State::Pending(activity) = row.cycle.state else { return None };
        let leased = is_leased(&row.cycle);
        match self.fault {
            _ if row.lost => None,
            Fault::GivenEarly if !leased => Some(activity.wake() - MS),
            Fault::LeaseEndsEarly if leased => Some(activity.wake() - MS),
            Fault::LeaseEndsLate if leased => Some(activity.wake() + Duration::from_hours(1)),
            _ => Some(activity.wake()),
        }
    }

    /// Where the row stands among those that are due.
    pub(super) fn rank(&self, row: &Row, wake: SystemTime) -> (bool, i64, u64) {
        let wake = i64::try_from(wake.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let wake = if self.is(Fault::YoungestFirst) { -wake } else { wake };
        (self.is(Fault::HeirsLast) && is_leased(&row.cycle), wake, row.id)
    }

    /// The event, and what it makes of the row.
    pub(super) fn apply(&self, row: &mut Row, event: Event) -> Result<Cycle, Refused> {
        let now = self.now();
        let mut before = row.cycle.clone();
        let event = self.bend_event(&mut before, event, now)?;
        // What is given early is given as if it were due; what is stolen, as if its lease were over.
        let at = if let Event::Claim { .. } = event { now.max(before_wake(&before)) } else { now };
        let mut cycle = before.apply(event.clone(), at)?.cycle;
        self.bend_cycle(&row.cycle, &event, &mut cycle, now);
        if cycle.ending().is_some() {
            self.tell(&cycle);
        }
        row.cycle = cycle.clone();
        Ok(cycle)
    }

    fn bend_event(&self, before: &mut Cycle, event: Event, now: SystemTime) -> Result<Event, Refused> {
        let current = before.fence();
        let lease_over = matches!(before.state, State::Pending(Activity::Leased { until }) if until <= now);
        Ok(match (self.fault, event) {
            (Fault::LastStartNotAtClaim, event @ Event::Claim { .. })
            | (Fault::LastStartNotAtFinish, event @ Event::Finish { .. }) => {
                before.plan = without_last_start(&before.plan);
                event
            }
            (Fault::LastStartEndsAttempt, Event::Finish { .. } | Event::Extend { .. })
                if !before.plan.begins_at(now) =>
            {
                return Err(Refused::Stale);
            }
            (Fault::LastStartExcluded, event) => {
                if let Some(last) = before.plan.last_start() {
                    before.plan = before.plan.clone().deadline(last - MS);
                }
                event
            }
            (Fault::FinishUnfenced, Event::Finish { verdict, retry_in, .. }) => {
                Event::Finish { fence: current, verdict, retry_in }
            }
            (Fault::ExtendUnfenced, Event::Extend { lease, .. }) => Event::Extend { fence: current, lease },
            (Fault::DeferUnfenced, Event::Defer { delay, .. }) => Event::Defer { fence: current, delay },
            (Fault::NonceIgnored, Event::Finish { fence, verdict, retry_in })
                if fence.epoch == current.epoch =>
            {
                Event::Finish { fence: current, verdict, retry_in }
            }
            (Fault::DeferralsUnbounded, event @ Event::Defer { .. }) => {
                before.deferrals = 0;
                event
            }
            (Fault::JitterIgnored, event @ Event::Finish { .. }) => {
                before.plan = before.plan.clone().jitter(0).unwrap();
                event
            }
            (Fault::LaterEpochHeld, Event::Finish { fence, verdict, retry_in })
                if fence.epoch > current.epoch =>
            {
                Event::Finish { fence: current, verdict, retry_in }
            }
            (
                Fault::IdleStillHeld,
                event @ (Event::Finish { .. } | Event::Defer { .. } | Event::Extend { .. }),
            ) => {
                if let State::Pending(_) = before.state
                    && before.attempts > 0
                {
                    before.state = State::Pending(Activity::Leased { until: now });
                }
                event
            }
            (Fault::CancelUnfenced, Event::Finish { verdict, fence, retry_in }) => {
                if let State::Ended { ending: Ending::Cancelled, .. } = before.state {
                    before.state = State::Pending(Activity::Leased { until: now });
                    (before.epoch, before.nonce) = (fence.epoch, fence.nonce);
                }
                Event::Finish { fence, verdict, retry_in }
            }
            (Fault::LateIsStale, Event::Finish { .. } | Event::Extend { .. } | Event::Defer { .. })
                if lease_over =>
            {
                return Err(Refused::Stale);
            }
            (Fault::PermanentIsFailure, Event::Finish { fence, verdict: Verdict::Permanent, retry_in }) => {
                Event::Finish { fence, verdict: Verdict::Failure, retry_in }
            }
            (Fault::SuccessGoesOn, Event::Finish { fence, verdict: Verdict::Success, retry_in })
                if before.used + 1 < before.plan.max_attempts() =>
            {
                Event::Finish { fence, verdict: Verdict::Failure, retry_in }
            }
            (Fault::OneAttemptMore, event @ Event::Finish { .. }) => {
                before.plan = with_attempts(&before.plan, before.plan.max_attempts().saturating_add(1));
                event
            }
            (Fault::AlwaysReactivates, Event::Reschedule(change)) => {
                Event::Reschedule(change.reactivate(true))
            }
            (Fault::ResolvedReactivated, Event::Reschedule(change)) => {
                if let State::Ended { at, .. } = before.state {
                    before.state = State::ended(EndReason::TooLate, at);
                }
                Event::Reschedule(change)
            }
            (_, event) => event,
        })
    }

    fn bend_cycle(&self, before: &Cycle, event: &Event, cycle: &mut Cycle, now: SystemTime) {
        let idle = |due| State::Pending(Activity::Idle { due });
        let until = |cycle: &Cycle| match cycle.state {
            State::Pending(activity) => activity.wake(),
            State::Ended { at, .. } => at,
        };
        let goes_on = cycle.ending().is_none();
        if !matches!(event, Event::Reschedule(_)) {
            // What was bent before was bent for this event only.
            cycle.plan = before.plan.clone();
        }
        match (self.fault, event) {
            (Fault::ClaimKeepsEpoch, Event::Claim { .. }) => cycle.epoch = before.epoch,
            (Fault::TakeoverCounts, Event::Claim { .. }) if is_leased(before) => cycle.attempts += 1,
            (Fault::ExtendFromEnd, Event::Extend { lease, .. }) => {
                cycle.state = State::Pending(Activity::Leased { until: until(before) + *lease });
            }
            (Fault::ExtendNeverShortens, Event::Extend { .. }) if until(before) > until(cycle) => {
                cycle.state = before.state;
            }
            (Fault::FailureDueAtOnce, Event::Finish { .. }) if goes_on => cycle.state = idle(now),
            (Fault::DelayFromClaim, Event::Finish { .. }) if goes_on => {
                // The lease of the tests, where nobody extended it.
                let claimed = until(before) - Duration::from_secs(30);
                cycle.state = idle(claimed + cycle.plan.delay_after(cycle.used));
            }
            (Fault::DelaysGoRound, Event::Finish { .. }) if goes_on => {
                let delays = cycle.plan.delay_list();
                let place = (usize::try_from(cycle.used).unwrap() - 1) % delays.len();
                cycle.state = idle(now + delays[place]);
            }
            (Fault::FirstDelayOnly, Event::Finish { .. }) if goes_on => {
                cycle.state = idle(now + cycle.plan.delay_list()[0]);
            }
            (Fault::DelaysGoOn, Event::Finish { .. }) if goes_on => {
                cycle.state = idle(now + cycle.plan.delay_after(cycle.attempts));
            }
            (Fault::EndedAtLease, Event::Finish { .. }) => {
                if let Some(reason) = cycle.end_reason() {
                    cycle.state = State::ended(reason, until(before));
                }
            }
            (Fault::DeferCounts, Event::Defer { .. }) => {
                cycle.attempts += 1;
                cycle.used += 1;
            }
            (Fault::LapsesLost, Event::Claim { .. }) | (Fault::DeferForgetsLapses, Event::Defer { .. }) => {
                cycle.lapses = 0;
            }
            (Fault::RescheduleResetsUsed, Event::Reschedule(change)) => {
                cycle.used = 0;
                cycle.state = idle(now + change.next_in);
            }
            (Fault::RescheduleKeepsDue, Event::Reschedule(_)) if before.ending().is_none() && goes_on => {
                cycle.state = idle(until(before));
            }
            (Fault::RescheduleKeepsClaim, Event::Reschedule(_)) if is_leased(before) => {
                cycle.state = before.state;
                cycle.epoch = before.epoch;
            }
            (Fault::RescheduleKeepsPlan, Event::Reschedule(_)) => cycle.plan = before.plan.clone(),
            (Fault::RescheduleGivesOne, Event::Reschedule(change))
                if cycle.plan.begins_at(now + change.next_in) =>
            {
                cycle.state = idle(now + change.next_in);
            }
            (Fault::ReactivationKeepsUsed, Event::Reschedule(_)) if before.ending().is_some() => {
                cycle.used = before.used;
            }
            (Fault::DeferralsKept, Event::Finish { .. }) => cycle.deferrals = before.deferrals,
            (Fault::DeferralsUnbounded, Event::Defer { .. }) => cycle.deferrals = before.deferrals + 1,
            (Fault::ReasonForgotten, _) => {
                if let Some(EndReason::TooLate) = cycle.end_reason() {
                    cycle.state = State::ended(EndReason::AttemptsUsedUp, until(cycle));
                }
            }
            (Fault::RunNowIsAChange, Event::RunNow) => cycle.epoch += 1,
            (Fault::NumbersRestart, Event::Reschedule(_)) if before.ending().is_some() => cycle.attempts = 0,
            _ => {}
        }
    }
}

fn before_wake(cycle: &Cycle) -> SystemTime {
    match cycle.state {
        State::Pending(activity) => activity.wake(),
        State::Ended { at, .. } => at,
    }
}

fn without_last_start(plan: &Plan) -> Plan {
    Plan::delays(plan.delay_list().iter().copied(), plan.max_attempts()).unwrap()
}

fn with_attempts(plan: &Plan, max_attempts: u32) -> Plan {
    let more = Plan::delays(plan.delay_list().iter().copied(), max_attempts).unwrap();
    if let Some(last) = plan.last_start() { more.deadline(last) } else { more }
}

fn as_text(bytes: &Bytes) -> Bytes {
    Bytes::from(String::from_utf8_lossy(bytes).into_owned())
}
