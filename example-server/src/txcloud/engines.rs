//! Who judges: the checks behind the operations, as one trait.
//!
//! The server comes with the [`Sandbox`](super::sandbox::Sandbox), whose rules anybody can read. Whoever has real engines
//! writes another implementation and names it in [`Api::new`](super::Api::new); nothing else knows which it is. Test keys
//! and live keys ask the same one: who has two, tells them apart by the [`Environment`] of a case.

#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(super) mod identity;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(super) mod kyb;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(super) mod lending;
#[expect(dead_code, reason = "a case has all that was sent, and the sandbox needs less")]
pub(super) mod transaction;
pub(super) mod watchlist;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::Environment;
use crate::cep::text_enum;

/// The checks. They may take long: nobody who asks holds a connection or a lock meanwhile. What they did for a request that is
/// sent again without a key, they do again.
#[async_trait]
pub(super) trait Engines: fmt::Debug + Send + Sync {
    /// Takes the images of a document in, and gives back what stands for them from here on. The images themselves are in no
    /// table of ours, so what is judged in the background is judged by this.
    async fn receive(
        &self,
        of: Environment,
        images: &identity::Images,
    ) -> Result<identity::Evidence, EngineFault>;

    /// Whether the document is genuine, and its holder who holds it.
    async fn identity(
        &self,
        of: Environment,
        case: &identity::Case,
    ) -> Result<identity::Findings, EngineFault>;

    /// How risky a transaction is.
    async fn transaction(
        &self,
        of: Environment,
        case: &transaction::Case,
    ) -> Result<transaction::Score, EngineFault>;

    /// How much may be lent to whom, at what price.
    async fn lending(
        &self,
        of: Environment,
        case: &lending::Case,
    ) -> Result<lending::Assessment, EngineFault>;

    /// Whether a business is what it says.
    async fn kyb(&self, of: Environment, case: &kyb::Case) -> Result<kyb::Findings, EngineFault>;

    /// Whether somebody stands on a list.
    async fn watchlist(
        &self,
        of: Environment,
        case: &watchlist::Case,
    ) -> Result<watchlist::Screening, EngineFault>;
}

/// An engine did not answer. What was wrong is for the log.
#[derive(Debug, thiserror::Error)]
#[error("an engine failed: {0}")]
pub(super) struct EngineFault(#[from] pub(super) Box<dyn std::error::Error + Send + Sync>);

text_enum! {
    /// How risky something is.
    #[derive(PartialOrd, Ord, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum RiskLevel {
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
pub(super) struct RiskScore(u16);

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
