//! The retry cycles of validations, in the scheduler that shares the database.
//!
//! A cycle and its validation change in the same transaction, so they always agree.

use bytes::Bytes;
use jiff::Timestamp;
use retry_scheduler::{Activity, Cycle, CycleKey, NewCycle, Plan, Reschedule, State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::{Caps, RetryPolicy};
use super::validation::{Ending, RetryState};

/// The scheduler's namespace for this kind of work.
pub(super) const NAMESPACE: &str = "validation";

/// Returns the key of a validation's cycle.
pub(super) fn key(id: Uuid) -> CycleKey {
    CycleKey::new(NAMESPACE, id.to_string())
}

/// Creates a cycle for a validation that was created at `created_at`. Returns `None` if the policy
/// has no retries.
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

/// Creates a change to this policy, which also reactivates an ended cycle. Returns `None` if the
/// policy has no retries.
pub(super) fn change(created_at: Timestamp, policy: &RetryPolicy, caps: &Caps) -> Option<Reschedule> {
    let plan = plan(created_at, policy, Terms::of(caps))?;
    Some(Reschedule::new(plan).next_in(policy.interval()).reactivate(true))
}

fn plan(created_at: Timestamp, policy: &RetryPolicy, terms: Terms) -> Option<Plan> {
    let last_start = end_of_life(created_at, terms);
    // Deferred attempts do not count, so their number is not limited; the deadline ends them.
    Plan::of_policy(policy).map(|plan| plan.deadline(last_start.into()).max_deferrals(u32::MAX))
}

/// Returns the time after which a validation is too old to be retried.
pub(super) fn end_of_life(created_at: Timestamp, terms: Terms) -> Timestamp {
    let age = std::time::Duration::from_secs(terms.max_age_seconds.into());
    created_at.saturating_add(age).unwrap_or(Timestamp::MAX)
}

/// The plan's limits that a cycle keeps, as they were when the retries were requested.
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

    /// Parses a payload. Returns `None` if it is not one of this API.
    pub(super) fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// Returns the retry state to show for a cycle; `before` is the state shown until now.
pub(super) fn state(cycle: &Cycle, policy: &RetryPolicy, before: &RetryState) -> RetryState {
    let attempts_completed = cycle.attempts;
    match cycle.state {
        State::Pending(activity) => {
            let next_attempt_at = match (activity, before) {
                // Show when the attempt was due, not when its lease ends.
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

/// Converts a time of the scheduler, which is between the years 1970 and 9999, so that both types
/// can represent it.
pub(super) fn timestamp(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}
