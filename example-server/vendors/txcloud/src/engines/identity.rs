//! The interface of identity verification engines.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EngineError, RiskLevel, RiskScore};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// An engine that checks whether an identity document is genuine and belongs to its holder.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    /// Receives the images of a document, and returns the evidence that represents them from then
    /// on. No table of ours stores the images, so a background verification is judged by the
    /// evidence.
    async fn receive(&self, environment: Environment, images: &Images) -> Result<Evidence, EngineError>;

    /// Judges a case. When one document is verified twice at the same time, the later verification
    /// is judged a second time.
    async fn judge(&self, environment: Environment, case: &Case) -> Result<Findings, EngineError>;
}

text_enum! {
    /// A type of document that can be verified. The vendor's pages show the first two; the others
    /// are ours.
    pub(crate) enum DocumentType {
        Cin = "cin",
        NationalId = "national_id",
        Passport = "passport",
        DriverLicense = "driver_license",
        ResidencePermit = "residence_permit",
    }
}

text_enum! {
    /// A check of a verification.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum IdentityCheck {
        Ocr = "ocr",
        FaceMatch = "face_match",
        Liveness = "liveness",
        Fraud = "fraud",
        Duplicate = "duplicate",
    }
}

text_enum! {
    /// The status of a verification.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum VerificationStatus {
        Pending = "pending",
        Verified = "verified",
        Failed = "failed",
        ManualReview = "manual_review",
    }
}

/// The images of a request. Only the engine receives them.
pub(crate) struct Images {
    pub(crate) front: Vec<u8>,
    pub(crate) back: Option<Vec<u8>>,
    pub(crate) selfie: Option<Vec<u8>>,
}

/// Shows only the sizes of the images.
impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |image: &Option<Vec<u8>>| image.as_ref().map(Vec::len);
        f.debug_struct("Images")
            .field("front", &self.front.len())
            .field("back", &length(&self.back))
            .field("selfie", &length(&self.selfie))
            .finish()
    }
}

/// The engine's representation of images that it has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Identifies the document: equal for the same document, so that duplicates are recognised.
    pub(crate) document: String,
    /// The engine's own reference to the images, stored with the verification until it is judged.
    pub(crate) reference: String,
}

/// The input of a judgement.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) document_type: DocumentType,
    pub(crate) country: Country,
    pub(crate) checks: Vec<IdentityCheck>,
    pub(crate) evidence: Evidence,
    /// Whether the account has submitted this document before, in the same environment.
    pub(crate) seen_before: bool,
}

/// The result of a judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) status: VerificationStatus,
    pub(crate) extracted_data: Option<ExtractedData>,
    pub(crate) checks: Checks,
    pub(crate) risk_score: RiskScore,
    pub(crate) risk_level: RiskLevel,
    pub(crate) fraud_signals: Vec<FraudSignal>,
}

/// The data read from the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ExtractedData {
    #[schema(example = "AE123456")]
    pub(crate) document_number: String,
    #[schema(example = "Mohammed")]
    pub(crate) first_name: String,
    #[schema(example = "El Amrani")]
    pub(crate) last_name: String,
    #[schema(required, example = "محمد")]
    pub(crate) first_name_arabic: Option<String>,
    #[schema(required, example = "العمراني")]
    pub(crate) last_name_arabic: Option<String>,
    #[schema(value_type = String, format = Date, example = "1990-05-15")]
    pub(crate) date_of_birth: Date,
    #[schema(example = "M")]
    pub(crate) gender: String,
    #[schema(example = "MA")]
    pub(crate) nationality: String,
    #[schema(value_type = String, format = Date, example = "2020-01-02")]
    pub(crate) issue_date: Date,
    #[schema(value_type = String, format = Date, example = "2030-01-01")]
    pub(crate) expiry_date: Date,
    #[schema(required, example = "1 rue Exemple, Rabat")]
    pub(crate) address: Option<String>,
    #[schema(required, example = "Rabat")]
    pub(crate) place_of_birth: Option<String>,
    #[schema(required, example = "IDMARAE123456<<<<<<<<<<<<<<<<<<")]
    pub(crate) mrz: Option<String>,
    pub(crate) field_confidences: FieldConfidences,
}

/// The confidence in the extracted fields, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldConfidences {
    #[schema(example = 0.99)]
    pub(crate) document_number: f64,
    #[schema(example = 0.98)]
    pub(crate) first_name: f64,
    #[schema(example = 0.98)]
    pub(crate) last_name: f64,
    #[schema(example = 0.97)]
    pub(crate) date_of_birth: f64,
}

/// The results of the requested checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = IdentityChecks)]
#[serde(default)]
pub(crate) struct Checks {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) ocr: Option<CheckResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) face_match: Option<FaceMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) liveness: Option<Liveness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) fraud: Option<Fraud>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) duplicate: Option<CheckResult>,
}

text_enum! {
    /// The result of a check.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum CheckStatus {
        Passed = "passed",
        Failed = "failed",
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = IdentityCheckResult)]
pub(crate) struct CheckResult {
    pub(crate) status: CheckStatus,
    #[schema(example = 0.98)]
    pub(crate) confidence: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FaceMatch {
    pub(crate) status: CheckStatus,
    #[schema(example = 0.98)]
    pub(crate) confidence: f64,
    #[schema(example = 0.97)]
    pub(crate) similarity_score: f64,
    #[schema(example = 0.85)]
    pub(crate) threshold: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Liveness {
    pub(crate) status: CheckStatus,
    #[schema(example = 0.98)]
    pub(crate) confidence: f64,
    #[schema(example = true)]
    pub(crate) is_live: bool,
    #[schema(example = 0.02)]
    pub(crate) spoof_probability: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FraudCheck)]
pub(crate) struct Fraud {
    pub(crate) status: CheckStatus,
    #[schema(example = 0.98)]
    pub(crate) confidence: f64,
    #[schema(example = false)]
    pub(crate) tampering_detected: bool,
    #[schema(example = json!(["document_tampered"]))]
    pub(crate) signals: Vec<String>,
}

/// A sign of fraud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FraudSignal {
    #[schema(example = "document_tampered")]
    pub(crate) code: String,
    pub(crate) severity: RiskLevel,
    #[schema(example = "The document was altered.")]
    pub(crate) message: String,
}
