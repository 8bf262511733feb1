//! The retry policy types of this API.

use std::fmt;
use std::str::FromStr;

use utoipa::ToSchema;

/// A verdict that a retry policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Outcome {
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

/// The error for a text that is not an outcome.
#[derive(Debug, thiserror::Error)]
#[error("not an outcome that can be retried")]
pub struct UnknownOutcome;

/// A saved retry policy.
pub type RetryPolicy = account_retry_policy::RetryPolicy<Outcome>;
/// The limits that a plan sets for retry policies.
pub type Caps = account_retry_policy::Caps<Outcome>;
