mod input;
mod rules;

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use input::RetryPolicyInput;

use crate::outcome::{Outcome, Texts};

/// A retry policy that cannot be invalid: either disabled, or enabled with at least one retry, an interval of at least
/// one second, and at least one outcome, without duplicates.
///
/// There is no public constructor for an enabled policy. [`RetryPolicyInput::parse`] checks a request against the caps of a
/// plan, and [`RetryPolicyInput::restore`] reads back what was stored after such a check. The type deliberately does not
/// implement `Deserialize`: a request body that names it would bypass the caps.
///
/// Serialises to `{"enabled","max_retries","interval_seconds","outcomes"}`; disabled, that is `false, 0, 0, []`.
///
/// ```
/// use account_retry_policy::{RetryPolicy, RetryPolicyInput};
///
/// let stored = r#"{"enabled":true,"max_retries":3,"interval_seconds":600,"outcomes":["busy"]}"#;
/// let policy: RetryPolicy = serde_json::from_str::<RetryPolicyInput>(stored)?.restore()?;
/// assert_eq!(policy.max_retries(), 3);
/// assert_eq!(serde_json::to_string(&policy)?, stored);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy<O = String> {
    enabled: Option<Enabled<O>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Enabled<O> {
    max_retries: u32,
    interval_seconds: u32,
    outcomes: Vec<O>,
}

impl<O> RetryPolicy<O> {
    /// Returns the policy without retries.
    pub const fn disabled() -> Self {
        Self { enabled: None }
    }

    /// The caller has checked that both numbers are at least 1, and that the outcomes are not empty and have no duplicates.
    pub(crate) fn from_checked(max_retries: u32, interval_seconds: u32, outcomes: Vec<O>) -> Self {
        debug_assert!(max_retries > 0 && interval_seconds > 0 && !outcomes.is_empty());
        Self { enabled: Some(Enabled { max_retries, interval_seconds, outcomes }) }
    }

    /// Returns whether there are any retries.
    pub const fn is_enabled(&self) -> bool {
        self.enabled.is_some()
    }

    /// Returns how many retries follow the first attempt; 0 when disabled.
    pub fn max_retries(&self) -> u32 {
        self.enabled.as_ref().map_or(0, |enabled| enabled.max_retries)
    }

    /// Returns the time from the end of one attempt to the start of the next, in seconds; 0 when disabled.
    pub fn interval_seconds(&self) -> u32 {
        self.enabled.as_ref().map_or(0, |enabled| enabled.interval_seconds)
    }

    /// Returns [`interval_seconds`](Self::interval_seconds) as a [`Duration`].
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds().into())
    }

    /// Returns the outcomes that are retried, in the order of the request; empty when disabled.
    pub fn outcomes(&self) -> &[O] {
        self.enabled.as_ref().map_or(&[], |enabled| &enabled.outcomes)
    }
}

impl<O: Outcome> RetryPolicy<O> {
    /// Returns whether work that ended in `outcome` is retried, whatever the number of retries so far.
    pub fn retries_on(&self, outcome: &O) -> bool {
        self.outcomes().contains(outcome)
    }
}

/// Disabled.
impl<O> Default for RetryPolicy<O> {
    fn default() -> Self {
        Self::disabled()
    }
}

impl<O: Outcome> Serialize for RetryPolicy<O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("RetryPolicy", 4)?;
        object.serialize_field("enabled", &self.is_enabled())?;
        object.serialize_field("max_retries", &self.max_retries())?;
        object.serialize_field("interval_seconds", &self.interval_seconds())?;
        object.serialize_field("outcomes", &Texts(self.outcomes()))?;
        object.end()
    }
}
