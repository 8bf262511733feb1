//! The state of a validation's retries.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::model::{Outcome, RetryPolicy};
use platform::text::text_enum;
use platform::utc::Utc;

/// The retry cycle of a validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryState {
    /// There is no cycle.
    None,
    /// A cycle will start if this policy retries the first verdict. Shown as no cycle.
    Intended {
        /// The policy of the cycle.
        policy: RetryPolicy,
    },
    /// The cycle is active.
    Active {
        /// The policy of the cycle.
        policy: RetryPolicy,
        /// The number of attempts that have ended.
        attempts_completed: u32,
        /// When the next attempt is due.
        next_attempt_at: Timestamp,
    },
    /// The cycle has ended.
    Ended {
        /// The policy of the cycle.
        policy: RetryPolicy,
        /// The number of attempts that had ended by then.
        attempts_completed: u32,
        /// How it ended.
        ending: Ending,
        /// When it ended.
        at: Timestamp,
    },
}

text_enum! {
    /// How a cycle ended.
    pub enum Ending {
        /// A retry found the payment.
        Resolved = "resolved",
        /// There are no retries left, or the verdict is not retried.
        Exhausted = "exhausted",
        /// The client cancelled it.
        Cancelled = "cancelled",
    }
}

text_enum! {
    /// `terminal_state`: the state of a validation's cycle.
    pub enum CycleState {
        /// The cycle is active.
        Pending = "pending",
        /// [`Ending::Resolved`]
        Resolved = "resolved",
        /// [`Ending::Exhausted`]
        Exhausted = "exhausted",
        /// [`Ending::Cancelled`]
        Cancelled = "cancelled",
    }
}

impl From<Ending> for CycleState {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Resolved => Self::Resolved,
            Ending::Exhausted => Self::Exhausted,
            Ending::Cancelled => Self::Cancelled,
        }
    }
}

impl RetryState {
    /// Returns the state of the cycle; `None` if there is none.
    pub fn cycle_state(&self) -> Option<CycleState> {
        match self {
            Self::None | Self::Intended { .. } => None,
            Self::Active { .. } => Some(CycleState::Pending),
            Self::Ended { ending, .. } => Some((*ending).into()),
        }
    }

    /// Returns the policy of the cycle; `None` if there is none.
    pub fn policy(&self) -> Option<&RetryPolicy> {
        match self {
            Self::None | Self::Intended { .. } => None,
            Self::Active { policy, .. } | Self::Ended { policy, .. } => Some(policy),
        }
    }

    /// Returns the `retry_state` of a response. Every response uses this function.
    ///
    /// In the published interface, the policy's fields are `null` as soon as the cycle is not
    /// active. Another version keeps them; only this function would have to change for it.
    fn to_response(&self) -> Shown {
        let inactive = Shown {
            enabled: false,
            max_retries: None,
            interval_seconds: None,
            outcomes: None,
            attempts_completed: 0,
            next_attempt_at: None,
            resolved_at: None,
            exhausted_at: None,
            cancelled_at: None,
            terminal_state: self.cycle_state(),
        };
        match self {
            Self::None | Self::Intended { .. } => inactive,
            Self::Active { policy, attempts_completed, next_attempt_at } => Shown {
                enabled: true,
                max_retries: Some(policy.max_retries()),
                interval_seconds: Some(policy.interval_seconds()),
                outcomes: Some(policy.outcomes().iter().map(ToString::to_string).collect()),
                attempts_completed: *attempts_completed,
                next_attempt_at: Some(Utc(*next_attempt_at)),
                ..inactive
            },
            Self::Ended { policy: _, attempts_completed, ending, at } => {
                let at = |which| (*ending == which).then_some(Utc(*at));
                Shown {
                    attempts_completed: *attempts_completed,
                    resolved_at: at(Ending::Resolved),
                    exhausted_at: at(Ending::Exhausted),
                    cancelled_at: at(Ending::Cancelled),
                    ..inactive
                }
            }
        }
    }
}

impl Serialize for RetryState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_response().serialize(serializer)
    }
}

/// The state of a validation's retries. The policy's fields are `null` unless the cycle is active.
#[derive(Serialize, ToSchema)]
#[schema(as = RetryState)]
pub(super) struct Shown {
    /// Whether the cycle is active.
    #[schema(example = true)]
    enabled: bool,
    #[schema(required, example = 3)]
    max_retries: Option<u32>,
    #[schema(required, example = 600)]
    interval_seconds: Option<u32>,
    #[schema(required, value_type = Option<Vec<Outcome>>)]
    outcomes: Option<Vec<String>>,
    #[schema(example = 1)]
    attempts_completed: u32,
    #[schema(required)]
    next_attempt_at: Option<Utc>,
    #[schema(required, example = json!(null))]
    resolved_at: Option<Utc>,
    #[schema(required, example = json!(null))]
    exhausted_at: Option<Utc>,
    #[schema(required, example = json!(null))]
    cancelled_at: Option<Utc>,
    #[schema(required)]
    terminal_state: Option<CycleState>,
}

#[cfg(test)]
mod tests {
    use account_retry_policy::RetryPolicyInput;
    use serde_json::{Value, json};

    use super::*;

    fn policy() -> RetryPolicy {
        let asked = RetryPolicyInput::new().enabled(true).max_retries(3).interval_seconds(600);
        asked.outcomes(["not_found", "error"]).restore().unwrap()
    }

    fn shown(state: &RetryState) -> Value {
        serde_json::to_value(state).unwrap()
    }

    #[test]
    fn without_a_cycle_or_with_an_intended_one_nothing_is_set() {
        let expected = json!({
            "enabled": false, "max_retries": null, "interval_seconds": null, "outcomes": null,
            "attempts_completed": 0, "next_attempt_at": null, "resolved_at": null, "exhausted_at": null,
            "cancelled_at": null, "terminal_state": null,
        });
        assert_eq!(shown(&RetryState::None), expected);
        assert_eq!(shown(&RetryState::Intended { policy: policy() }), expected);
    }

    #[test]
    fn an_active_cycle_shows_its_policy_and_is_pending() {
        let state = RetryState::Active {
            policy: policy(),
            attempts_completed: 2,
            next_attempt_at: "2025-03-15T14:42:11.9Z".parse().unwrap(),
        };
        let expected = json!({
            "enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["not_found", "error"],
            "attempts_completed": 2, "next_attempt_at": "2025-03-15T14:42:11Z", "resolved_at": null,
            "exhausted_at": null, "cancelled_at": null, "terminal_state": "pending",
        });
        assert_eq!(shown(&state), expected);
    }

    #[test]
    fn an_ended_cycle_shows_how_and_when_but_no_policy() {
        for ending in Ending::ALL.iter().copied() {
            let state = RetryState::Ended {
                policy: policy(),
                attempts_completed: 3,
                ending,
                at: "2025-03-15T15:00:00.5Z".parse().unwrap(),
            };
            let mut expected = json!({
                "enabled": false, "max_retries": null, "interval_seconds": null, "outcomes": null,
                "attempts_completed": 3, "next_attempt_at": null, "resolved_at": null, "exhausted_at": null,
                "cancelled_at": null, "terminal_state": ending,
            });
            expected[format!("{ending}_at")] = json!("2025-03-15T15:00:00Z");
            assert_eq!(shown(&state), expected);
        }
    }
}
