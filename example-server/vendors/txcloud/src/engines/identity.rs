//! What is asked and said about an identity document.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EngineFault, RiskLevel, RiskScore};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// Whether a document is genuine, and its holder who holds it.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    /// Takes the images of a document in, and gives back what stands for them from here on. The images themselves are in no
    /// table of ours, so what is judged in the background is judged by this.
    async fn receive(&self, of: Environment, images: &Images) -> Result<Evidence, EngineFault>;

    /// Judges it. Of two verifications of one document at the same time, the one that comes second is judged twice.
    async fn judge(&self, of: Environment, case: &Case) -> Result<Findings, EngineFault>;
}

text_enum! {
    /// A document that can be verified. The vendor's pages show the first two; the others are ours.
    pub(crate) enum DocumentType {
        /// `cin`
        Cin = "cin",
        /// `national_id`
        NationalId = "national_id",
        /// `passport`
        Passport = "passport",
        /// `driver_license`
        DriverLicense = "driver_license",
        /// `residence_permit`
        ResidencePermit = "residence_permit",
    }
}

text_enum! {
    /// One of the checks of a verification.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum IdentityCheck {
        /// `ocr`
        Ocr = "ocr",
        /// `face_match`
        FaceMatch = "face_match",
        /// `liveness`
        Liveness = "liveness",
        /// `fraud`
        Fraud = "fraud",
        /// `duplicate`
        Duplicate = "duplicate",
    }
}

text_enum! {
    /// Where a verification stands.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum VerificationStatus {
        /// `pending`
        Pending = "pending",
        /// `verified`
        Verified = "verified",
        /// `failed`
        Failed = "failed",
        /// `manual_review`
        ManualReview = "manual_review",
    }
}

/// The images that came with a request. They go to the engine and nowhere else.
pub(crate) struct Images {
    pub(crate) front: Vec<u8>,
    pub(crate) back: Option<Vec<u8>>,
    pub(crate) selfie: Option<Vec<u8>>,
}

/// Says nothing of what they show.
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

/// What stands for images once an engine has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The same for the same document, so that it is recognised when it comes again.
    pub(crate) document: String,
    /// Whatever the engine needs to find them again; kept with the verification until it is decided.
    pub(crate) reference: String,
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) document_type: DocumentType,
    pub(crate) country: Country,
    pub(crate) checks: Vec<IdentityCheck>,
    pub(crate) evidence: Evidence,
    /// Whether the account has had this document before, in the same environment.
    pub(crate) seen_before: bool,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) status: VerificationStatus,
    pub(crate) extracted_data: Option<ExtractedData>,
    pub(crate) checks: Checks,
    pub(crate) risk_score: RiskScore,
    pub(crate) risk_level: RiskLevel,
    pub(crate) fraud_signals: Vec<FraudSignal>,
}

/// What the document says.
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

/// How sure the reading is.
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

/// What came of each check that was asked for.
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
    /// How a check ended.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum CheckStatus {
        /// `passed`
        Passed = "passed",
        /// `failed`
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

/// Something that speaks against a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FraudSignal {
    #[schema(example = "document_tampered")]
    pub(crate) code: String,
    pub(crate) severity: RiskLevel,
    #[schema(example = "The document was altered.")]
    pub(crate) message: String,
}
