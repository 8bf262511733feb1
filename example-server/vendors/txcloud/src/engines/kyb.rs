//! What is asked and said about a business. The vendor's pages do not show this operation, so all of it is ours.

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineFault, RiskLevel};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// Whether a business is what it says.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, of: Environment, case: &Case) -> Result<Findings, EngineFault>;
}

text_enum! {
    /// One of the checks of a business.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum KybCheck {
        /// `registry`
        Registry = "registry",
        /// `watchlist`
        Watchlist = "watchlist",
        /// `ownership`
        Ownership = "ownership",
    }
}

text_enum! {
    /// How it ended.
    pub(crate) enum KybStatus {
        /// `verified`
        Verified = "verified",
        /// `manual_review`
        ManualReview = "manual_review",
        /// `failed`
        Failed = "failed",
    }
}

text_enum! {
    /// How a check ended.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum KybCheckStatus {
        /// `passed`
        Passed = "passed",
        /// `review`
        Review = "review",
        /// `failed`
        Failed = "failed",
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) legal_name: String,
    pub(crate) registration_number: String,
    pub(crate) country: Country,
    pub(crate) checks: Vec<KybCheck>,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KybFindings)]
pub(crate) struct Findings {
    pub(crate) status: KybStatus,
    pub(crate) checks: Checks,
    pub(crate) risk_level: RiskLevel,
}

/// What came of each check that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KybChecks)]
pub(crate) struct Checks {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) registry: Option<CheckResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) watchlist: Option<CheckResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) ownership: Option<CheckResult>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KybCheckResult)]
pub(crate) struct CheckResult {
    pub(crate) status: KybCheckStatus,
    /// What it found.
    #[schema(example = json!(["dissolved"]))]
    pub(crate) findings: Vec<&'static str>,
}
