//! What the API knows.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// A verdict that can be worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `not_found`
    NotFound,
    /// `cep_unavailable`
    CepUnavailable,
    /// `error`
    Error,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::NotFound, Self::CepUnavailable, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::CepUnavailable => "cep_unavailable",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or(UnknownOutcome)
    }
}

/// The text names no outcome.
#[derive(Debug, thiserror::Error)]
#[error("not an outcome that can be retried")]
pub(crate) struct UnknownOutcome;

/// A saved retry policy.
pub(crate) type RetryPolicy = account_retry_policy::RetryPolicy<Outcome>;
/// What a plan allows a retry policy to say.
pub(crate) type Caps = account_retry_policy::Caps<Outcome>;

/// Each account's default retry policy, in memory: at most one for each account.
#[derive(Debug, Default)]
pub(crate) struct RetryPolicies {
    by_user: Mutex<HashMap<String, RetryPolicy>>,
}

impl RetryPolicies {
    /// What was saved last; nothing saved is no retries.
    pub(crate) fn of(&self, user: &str) -> RetryPolicy {
        self.lock().get(user).cloned().unwrap_or_default()
    }

    /// Takes the place of what was there.
    pub(crate) fn save(&self, user: &str, policy: RetryPolicy) {
        self.lock().insert(user.to_owned(), policy);
    }

    /// Whoever panicked with the lock held had not begun to change the map: both uses above are one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, RetryPolicy>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
