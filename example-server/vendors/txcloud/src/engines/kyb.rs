//! The interface of business verification engines. The vendor's pages do not describe this
//! operation, so all of it is ours.

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineError, RiskLevel};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// An engine that verifies a business.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, environment: Environment, case: &Case) -> Result<Findings, EngineError>;
}

text_enum! {
    /// A check of a business.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum KybCheck {
        Registry = "registry",
        Watchlist = "watchlist",
        Ownership = "ownership",
    }
}

text_enum! {
    /// The result of a verification.
    pub(crate) enum KybStatus {
        Verified = "verified",
        ManualReview = "manual_review",
        Failed = "failed",
    }
}

text_enum! {
    /// The result of a check.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum KybCheckStatus {
        Passed = "passed",
        Review = "review",
        Failed = "failed",
    }
}

/// The input of a judgement.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) legal_name: String,
    pub(crate) registration_number: String,
    pub(crate) country: Country,
    pub(crate) checks: Vec<KybCheck>,
}

/// The result of a judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KybFindings)]
pub(crate) struct Findings {
    pub(crate) status: KybStatus,
    pub(crate) checks: Checks,
    pub(crate) risk_level: RiskLevel,
}

/// The results of the requested checks.
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
    /// What the check found.
    #[schema(example = json!(["dissolved"]))]
    pub(crate) findings: Vec<&'static str>,
}
