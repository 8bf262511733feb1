//! An identity verification and its representation.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::country::Country;
use super::engines::identity::{
    Case, Checks, DocumentType, Evidence, ExtractedData, Findings, FraudSignal, IdentityCheck,
    VerificationStatus,
};
use super::engines::{RiskLevel, RiskScore};
use super::free_form::FreeForm;
use platform::api_key::Environment;
use platform::utc::Utc;

/// An identity verification.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verification {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) environment: Environment,
    pub(super) document_type: DocumentType,
    pub(super) country: Country,
    pub(super) checks: Vec<IdentityCheck>,
    pub(super) evidence: Evidence,
    pub(super) metadata: FreeForm,
    pub(super) outcome: Outcome,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Not decided yet.
    Pending,
    /// No judgement succeeded in time.
    GivenUp,
    Judged(Box<Findings>),
}

impl Verification {
    pub(super) const PREFIX: &'static str = "ver";

    pub(super) fn status(&self) -> VerificationStatus {
        match &self.outcome {
            Outcome::Pending => VerificationStatus::Pending,
            Outcome::GivenUp => VerificationStatus::Failed,
            Outcome::Judged(findings) => findings.status,
        }
    }

    pub(super) fn asks_for_duplicates(&self) -> bool {
        self.checks.contains(&IdentityCheck::Duplicate)
    }

    /// Returns the case for an engine.
    pub(super) fn case(&self, seen_before: bool) -> Case {
        Case {
            document_type: self.document_type,
            country: self.country,
            checks: self.checks.clone(),
            evidence: self.evidence.clone(),
            seen_before,
        }
    }

    pub(super) fn to_response(&self) -> VerificationBody<'_> {
        let findings = match &self.outcome {
            Outcome::Judged(findings) => Some(&**findings),
            Outcome::Pending | Outcome::GivenUp => None,
        };
        VerificationBody {
            id: &self.id,
            object: "identity.verification",
            status: self.status(),
            document_type: self.document_type,
            country: self.country,
            extracted_data: findings.and_then(|findings| findings.extracted_data.as_ref()),
            checks: findings.map(|findings| findings.checks.clone()).unwrap_or_default(),
            risk_score: findings.map(|findings| findings.risk_score),
            risk_level: findings.map(|findings| findings.risk_level),
            fraud_signals: findings.map(|findings| findings.fraud_signals.as_slice()).unwrap_or_default(),
            metadata: &self.metadata,
            created_at: Utc(self.created_at),
            updated_at: Utc(self.updated_at),
        }
    }
}

/// The API's representation of a verification.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(super) struct VerificationBody<'a> {
    #[schema(example = "ver_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: &'a str,
    #[schema(example = "identity.verification")]
    object: &'static str,
    status: VerificationStatus,
    document_type: DocumentType,
    country: Country,
    /// The data read from the document, if requested and readable.
    #[schema(required)]
    extracted_data: Option<&'a ExtractedData>,
    /// The results of the requested checks; empty while the verification is pending.
    checks: Checks,
    #[schema(required)]
    risk_score: Option<RiskScore>,
    #[schema(required)]
    risk_level: Option<RiskLevel>,
    fraud_signals: &'a [FraudSignal],
    #[schema(value_type = Object, example = json!({"user_id": "usr_abc123"}))]
    metadata: &'a FreeForm,
    created_at: Utc,
    updated_at: Utc,
}
