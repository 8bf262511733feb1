//! The retry cycles of validations, in the scheduler that shares our database.
//!
//! A cycle changes in the transaction that changes its validation, so that each of them says what the other does.

use bytes::Bytes;
use jiff::Timestamp;
use retry_scheduler::{Activity, Cycle, CycleKey, NewCycle, Plan, Reschedule, State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::{Caps, RetryPolicy};
use super::validation::{Ending, RetryState};

/// What the scheduler calls this kind of work.
pub(super) const NAMESPACE: &str = "validation";

/// What the cycle of a validation is known by.
pub(super) fn key(id: Uuid) -> CycleKey {
    CycleKey::new(NAMESPACE, id.to_string())
}

/// A cycle for a validation of this account, asked for at `created_at`; `None` if the policy has no retries.
pub(super) fn new(
    id: Uuid,
    account: &str,
    created_at: Timestamp,
    policy: &RetryPolicy,
    terms: Terms,
) -> Option<NewCycle> {
    let plan = plan(created_at, policy, terms)?;
    let new = NewCycle::new(key(id), plan).tenant(account).first_in(policy.interval());
    Some(new.payload(terms.to_payload()))
}

/// A change to this policy, which also begins an ended cycle anew; `None` if the policy has no retries.
pub(super) fn change(created_at: Timestamp, policy: &RetryPolicy, caps: &Caps) -> Option<Reschedule> {
    let plan = plan(created_at, policy, Terms::of(caps))?;
    Some(Reschedule::new(plan).next_in(policy.interval()).reactivate(true))
}

fn plan(created_at: Timestamp, policy: &RetryPolicy, terms: Terms) -> Option<Plan> {
    let last_start = end_of_life(created_at, terms);
    // An attempt that could not be made does not count, however often that is: the deadline ends it.
    Plan::of_policy(policy).map(|plan| plan.deadline(last_start.into()).max_deferrals(u32::MAX))
}

/// When a validation is too old to be retried.
pub(super) fn end_of_life(created_at: Timestamp, terms: Terms) -> Timestamp {
    let age = std::time::Duration::from_secs(terms.max_age_seconds.into());
    created_at.saturating_add(age).unwrap_or(Timestamp::MAX)
}

/// What of the account's plan retries go by: as it was when they were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) retries_a_day: u32,
    pub(super) max_age_seconds: u32,
}

impl Terms {
    pub(super) fn of(caps: &Caps) -> Self {
        Self {
            retries_a_day: caps.max_dispatched_per_day_per_user(),
            max_age_seconds: caps.max_age_seconds(),
        }
    }

    pub(super) fn to_payload(self) -> Bytes {
        serde_json::to_vec(&self).expect("two numbers serialise").into()
    }

    /// `None` if it is no payload of ours.
    pub(super) fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// A cycle as its validation shows it, which showed `before` until now.
pub(super) fn state(cycle: &Cycle, policy: &RetryPolicy, before: &RetryState) -> RetryState {
    let attempts_completed = cycle.attempts;
    match cycle.state {
        State::Pending(activity) => {
            let next_attempt_at = match (activity, before) {
                // When that was due, and not when its lease ends.
                (Activity::Leased { .. }, RetryState::Active { next_attempt_at, .. }) => *next_attempt_at,
                _ => timestamp(activity.wake()),
            };
            RetryState::Active { policy: policy.clone(), attempts_completed, next_attempt_at }
        }
        State::Ended { ending, at, .. } => RetryState::Ended {
            policy: policy.clone(),
            attempts_completed,
            ending: match ending {
                retry_scheduler::Ending::Resolved => Ending::Resolved,
                retry_scheduler::Ending::Exhausted => Ending::Exhausted,
                retry_scheduler::Ending::Cancelled => Ending::Cancelled,
            },
            at: timestamp(at),
        },
    }
}

/// The scheduler keeps to the years from 1970 to 9999, which both types can say.
pub(super) fn timestamp(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}
