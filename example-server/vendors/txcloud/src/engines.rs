//! The engines behind the operations. Each check is a trait.
//!
//! The server comes with the [`Sandbox`](crate::sandbox::Sandbox), whose rules are public. To use a
//! real engine, implement the trait and name the implementation in `definition.rs`, where the API
//! is opened:
//!
//! ```text
//! Engines { lending: Arc::new(OurBureau::new(…)), ..Engines::sandbox() }
//! ```
//!
//! No other code depends on the implementation. Test keys and live keys use the same engine, which
//! can distinguish them by the [`Environment`](platform::api_key::Environment).
//!
//! An engine may be slow: its callers hold no connection and no lock while they wait. A request
//! that is repeated without an idempotency key calls the engine again, and so does a retry after
//! the process died during a call.

#[expect(dead_code, reason = "the sandbox does not use every field of a case")]
pub(crate) mod identity;
#[expect(dead_code, reason = "the sandbox does not use every field of a case")]
pub(crate) mod kyb;
#[expect(dead_code, reason = "the sandbox does not use every field of a case")]
pub(crate) mod lending;
#[expect(dead_code, reason = "the sandbox does not use every field of a case")]
pub(crate) mod transaction;
pub(crate) mod watchlist;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use platform::text::text_enum;

/// The engine of each check.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    pub(crate) identity: Arc<dyn identity::Engine>,
    pub(crate) transaction: Arc<dyn transaction::Engine>,
    pub(crate) lending: Arc<dyn lending::Engine>,
    pub(crate) kyb: Arc<dyn kyb::Engine>,
    pub(crate) watchlist: Arc<dyn watchlist::Engine>,
}

/// The error of an engine that failed to answer. Its details are only logged.
#[derive(Debug, thiserror::Error)]
#[error("an engine failed: {0}")]
pub(crate) struct EngineError(#[from] pub(crate) Box<dyn std::error::Error + Send + Sync>);

text_enum! {
    /// A level of risk.
    #[derive(PartialOrd, Ord, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum RiskLevel {
        Low = "low",
        Medium = "medium",
        High = "high",
        Critical = "critical",
    }
}

/// A risk score, from 0 (no risk) to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(value_type = u16, minimum = 0, maximum = 1000, example = 180)]
pub(crate) struct RiskScore(u16);

impl RiskScore {
    /// Returns the score for a sum. A sum off the scale is clamped to it.
    pub(super) fn clamped(sum: i32) -> Self {
        Self(u16::try_from(sum.clamp(0, 1000)).unwrap_or(1000))
    }

    pub(super) fn points(self) -> u16 {
        self.0
    }

    /// Returns the level on the vendor's scale. One page names the lowest range, up to 200,
    /// separately, but every example response calls it `low`.
    pub(super) fn level(self) -> RiskLevel {
        match self.0 {
            0..=400 => RiskLevel::Low,
            401..=600 => RiskLevel::Medium,
            601..=800 => RiskLevel::High,
            _ => RiskLevel::Critical,
        }
    }
}

#[cfg(test)]
mod custom_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_on_the_scale_and_has_its_level() {
        for (sum, points, level) in [
            (-100, 0, RiskLevel::Low),
            (400, 400, RiskLevel::Low),
            (401, 401, RiskLevel::Medium),
            (600, 600, RiskLevel::Medium),
            (601, 601, RiskLevel::High),
            (800, 800, RiskLevel::High),
            (801, 801, RiskLevel::Critical),
            (5000, 1000, RiskLevel::Critical),
        ] {
            let score = RiskScore::clamped(sum);
            assert_eq!((score.points(), score.level()), (points, level), "{sum}");
        }
    }
}
