//! Who judges: the checks behind the operations, each as one trait.
//!
//! The server comes with the [`Sandbox`](crate::sandbox::Sandbox), whose rules anybody can read. Whoever has a real engine implements its trait
//! and names it in `definition.rs`, where the API is opened:
//!
//! ```text
//! Engines { lending: Arc::new(OurBureau::new(…)), ..Engines::sandbox() }
//! ```
//!
//! Nothing else knows which it is. Test keys and live keys ask the same one: who has two, tells them apart by the
//! [`Environment`](platform::api_key::Environment).
//!
//! An engine may take long: nobody who asks holds a connection or a lock meanwhile. What it did for a request that is sent
//! again without a key, it does again; and one that was asked when the process died is asked again, too.

#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(crate) mod identity;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(crate) mod kyb;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(crate) mod lending;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(crate) mod transaction;
pub(crate) mod watchlist;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use platform::text::text_enum;

/// Who judges what.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    pub(crate) identity: Arc<dyn identity::Engine>,
    pub(crate) transaction: Arc<dyn transaction::Engine>,
    pub(crate) lending: Arc<dyn lending::Engine>,
    pub(crate) kyb: Arc<dyn kyb::Engine>,
    pub(crate) watchlist: Arc<dyn watchlist::Engine>,
}

/// An engine did not answer. What was wrong is for the log.
#[derive(Debug, thiserror::Error)]
#[error("an engine failed: {0}")]
pub(crate) struct EngineFault(#[from] pub(crate) Box<dyn std::error::Error + Send + Sync>);

text_enum! {
    /// How risky something is.
    #[derive(PartialOrd, Ord, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum RiskLevel {
        /// `low`
        Low = "low",
        /// `medium`
        Medium = "medium",
        /// `high`
        High = "high",
        /// `critical`
        Critical = "critical",
    }
}

/// From 0, no risk, to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(value_type = u16, minimum = 0, maximum = 1000, example = 180)]
pub(crate) struct RiskScore(u16);

impl RiskScore {
    /// The end of the scale that is nearer, for what is off it.
    pub(super) fn clamped(sum: i32) -> Self {
        Self(u16::try_from(sum.clamp(0, 1000)).unwrap_or(1000))
    }

    pub(super) fn points(self) -> u16 {
        self.0
    }

    /// The vendor's scale. (Its lowest step, to 200, has a name of its own on one page, and is `low` in every answer shown.)
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
