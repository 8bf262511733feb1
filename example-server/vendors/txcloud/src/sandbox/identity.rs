//! Identity documents: words among the bytes of the images determine the outcome.

use jiff::civil::date;
use sha2::{Digest, Sha256};

use super::{Rule, triggered};
use crate::engines::identity::{
    Case, CheckResult, CheckStatus, Checks, Evidence, ExtractedData, FaceMatch, FieldConfidences, Findings,
    Fraud, FraudSignal, IdentityCheck, Images, Liveness, VerificationStatus,
};
use crate::engines::{RiskLevel, RiskScore};

/// The effect of a rule on a verification.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// The check that this rule fails. The rule is ignored if the check was not requested. `None`:
    /// the rule always applies, and fails no check.
    pub(super) check: Option<IdentityCheck>,
    pub(super) weight: i32,
    pub(super) severity: RiskLevel,
}

const fn fails(check: IdentityCheck, weight: i32, severity: RiskLevel) -> Effect {
    Effect { check: Some(check), weight, severity }
}

/// The points that each verification starts with.
pub(super) const BASE: i32 = 100;
/// The score from which a person must review a verification without a failed check.
pub(super) const REVIEW_FROM: u16 = 401;

/// The weights are within the vendor's ranges, where it documents one.
pub(super) const RULES: &[Rule<Facts, Effect>] = &[
    Rule {
        name: "document_unreadable",
        when: "the front or the back contains `UNREADABLE`",
        holds: |facts| facts.document("UNREADABLE"),
        effect: fails(IdentityCheck::Ocr, 150, RiskLevel::Medium),
        why: "The document is unreadable.",
    },
    Rule {
        name: "document_expired",
        when: "the front or the back contains `EXPIRED`",
        holds: |facts| facts.document("EXPIRED"),
        effect: fails(IdentityCheck::Ocr, 100, RiskLevel::Medium),
        why: "The document is no longer valid.",
    },
    Rule {
        name: "face_not_detected",
        when: "there is no selfie, or it contains `NOFACE`",
        holds: |facts| !facts.has_selfie || facts.selfie("NOFACE"),
        effect: fails(IdentityCheck::FaceMatch, 200, RiskLevel::Medium),
        why: "There is no face to compare.",
    },
    Rule {
        name: "face_mismatch",
        when: "the selfie contains `MISMATCH`",
        holds: |facts| facts.selfie("MISMATCH"),
        effect: fails(IdentityCheck::FaceMatch, 300, RiskLevel::High),
        why: "The selfie shows a different person.",
    },
    Rule {
        name: "liveness_failed",
        when: "there is no selfie, or it contains `SPOOF`",
        holds: |facts| !facts.has_selfie || facts.selfie("SPOOF"),
        effect: fails(IdentityCheck::Liveness, 400, RiskLevel::High),
        why: "There is no proof of a live person.",
    },
    Rule {
        name: "document_tampered",
        when: "the front or the back contains `TAMPERED`",
        holds: |facts| facts.document("TAMPERED"),
        effect: fails(IdentityCheck::Fraud, 500, RiskLevel::Critical),
        why: "The document was altered.",
    },
    Rule {
        name: "duplicate_document",
        when: "the account has submitted this document before, in the same environment",
        holds: |facts| facts.seen_before,
        effect: fails(IdentityCheck::Duplicate, 200, RiskLevel::Medium),
        why: "The document was submitted before.",
    },
    Rule {
        name: "data_inconsistent",
        when: "the front or the back contains `REVIEW`",
        holds: |facts| facts.document("REVIEW"),
        effect: Effect { check: None, weight: 310, severity: RiskLevel::Medium },
        why: "The data in the document is inconsistent; a person must review it.",
    },
];

/// The facts of a case that the rules use.
#[derive(Debug)]
pub(super) struct Facts {
    /// The words found in the document and in the selfie.
    document: Vec<String>,
    selfie: Vec<String>,
    has_selfie: bool,
    seen_before: bool,
}

impl Facts {
    fn document(&self, word: &str) -> bool {
        self.document.iter().any(|found| found == word)
    }

    fn selfie(&self, word: &str) -> bool {
        self.selfie.iter().any(|found| found == word)
    }

    /// Parses the reference that [`receive`] created.
    fn of(case: &Case) -> Self {
        let mut parts = case.evidence.reference.split(';');
        let words = |part: Option<&str>| -> Vec<String> {
            part.unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let document = words(parts.next());
        let selfie = parts.next();
        Self { document, has_selfie: selfie.is_some(), selfie: words(selfie), seen_before: case.seen_before }
    }
}

const DOCUMENT_WORDS: &[&str] = &["UNREADABLE", "EXPIRED", "TAMPERED", "REVIEW"];
const SELFIE_WORDS: &[&str] = &["NOFACE", "MISMATCH", "SPOOF"];

/// Returns the words that occur in the document's images and, after a semicolon, in the selfie.
pub(super) fn receive(images: &Images) -> Evidence {
    let words = |words: &[&str], images: &[&Vec<u8>]| {
        let found = words.iter().filter(|word| images.iter().any(|image| holds(image, word.as_bytes())));
        found.copied().collect::<Vec<_>>().join(",")
    };
    let document: Vec<_> = std::iter::once(&images.front).chain(&images.back).collect();
    let mut reference = words(DOCUMENT_WORDS, &document);
    if let Some(selfie) = &images.selfie {
        reference = format!("{reference};{}", words(SELFIE_WORDS, &[selfie]));
    }
    Evidence { document: hex::encode(Sha256::digest(&images.front)), reference }
}

fn holds(image: &[u8], word: &[u8]) -> bool {
    image.windows(word.len()).any(|window| window == word)
}

pub(super) fn judge(case: &Case) -> Findings {
    let facts = Facts::of(case);
    let counts =
        |rule: &&Rule<Facts, Effect>| rule.effect.check.is_none_or(|check| case.checks.contains(&check));
    let found: Vec<_> = triggered(RULES, &facts).filter(counts).collect();
    let risk_score = RiskScore::clamped(BASE + found.iter().map(|rule| rule.effect.weight).sum::<i32>());
    let failed = |check| found.iter().any(|rule| rule.effect.check == Some(check));
    let status = if found.iter().any(|rule| rule.effect.check.is_some()) {
        VerificationStatus::Failed
    } else if risk_score.points() >= REVIEW_FROM {
        VerificationStatus::ManualReview
    } else {
        VerificationStatus::Verified
    };
    let read = case.checks.contains(&IdentityCheck::Ocr) && !facts.document("UNREADABLE");
    Findings {
        status,
        extracted_data: read.then(|| extracted(case)),
        checks: checks(case, &failed, &found),
        risk_score,
        risk_level: risk_score.level(),
        fraud_signals: found
            .iter()
            .map(|rule| FraudSignal {
                code: rule.name.to_owned(),
                severity: rule.effect.severity,
                message: rule.why.to_owned(),
            })
            .collect(),
    }
}

/// The confidence of every result of the sandbox.
const CONFIDENCE: f64 = 0.98;
const LOW_CONFIDENCE: f64 = 1.0 - CONFIDENCE;
/// The minimum similarity of matching faces.
const FACE_MATCH_THRESHOLD: f64 = 0.85;

fn checks(case: &Case, failed: &dyn Fn(IdentityCheck) -> bool, found: &[&Rule<Facts, Effect>]) -> Checks {
    let requested = |check| case.checks.contains(&check).then(|| failed(check));
    let status = |failed| if failed { CheckStatus::Failed } else { CheckStatus::Passed };
    let confidence_in = |yes: bool| if yes { CONFIDENCE } else { round(LOW_CONFIDENCE) };
    let plain = |failed| CheckResult { status: status(failed), confidence: CONFIDENCE };
    Checks {
        ocr: requested(IdentityCheck::Ocr).map(plain),
        face_match: requested(IdentityCheck::FaceMatch).map(|failed| FaceMatch {
            status: status(failed),
            confidence: CONFIDENCE,
            similarity_score: confidence_in(!failed),
            threshold: FACE_MATCH_THRESHOLD,
        }),
        liveness: requested(IdentityCheck::Liveness).map(|failed| Liveness {
            status: status(failed),
            confidence: CONFIDENCE,
            is_live: !failed,
            spoof_probability: confidence_in(failed),
        }),
        fraud: requested(IdentityCheck::Fraud).map(|failed| Fraud {
            status: status(failed),
            confidence: CONFIDENCE,
            tampering_detected: failed,
            signals: found
                .iter()
                .filter(|rule| rule.effect.check == Some(IdentityCheck::Fraud))
                .map(|rule| rule.name.to_owned())
                .collect(),
        }),
        duplicate: requested(IdentityCheck::Duplicate).map(plain),
    }
}

fn round(confidence: f64) -> f64 {
    (confidence * 100.0).round() / 100.0
}

/// The made-up holders of documents.
const HOLDERS: &[(&str, &str, &str)] =
    &[("Amina", "Exemple", "F"), ("Karim", "Modele", "M"), ("Lina", "Specimen", "F"), ("Omar", "Essai", "M")];

/// Returns made-up data, chosen by a hash of the document.
fn extracted(case: &Case) -> ExtractedData {
    let bytes = Sha256::digest(&case.evidence.document);
    let (first_name, last_name, gender) = HOLDERS[usize::from(bytes[0]) % HOLDERS.len()];
    let year = 1950 + i16::from(bytes[1] % 50);
    let (month, day) =
        (1 + i8::try_from(bytes[2] % 12).unwrap_or(0), 1 + i8::try_from(bytes[3] % 28).unwrap_or(0));
    let is_expired = case.evidence.reference.contains("EXPIRED");
    let (issued, expires) = if is_expired { (2010, 2020) } else { (2024, 2034) };
    ExtractedData {
        document_number: format!(
            "SB{:06}",
            u32::from_be_bytes([0, bytes[4], bytes[5], bytes[6]]) % 1_000_000
        ),
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        first_name_arabic: None,
        last_name_arabic: None,
        date_of_birth: date(year, month, day),
        gender: gender.to_owned(),
        nationality: case.country.as_str().to_owned(),
        issue_date: date(issued, month, day),
        expiry_date: date(expires, month, day),
        address: None,
        place_of_birth: None,
        mrz: None,
        field_confidences: FieldConfidences {
            document_number: CONFIDENCE,
            first_name: CONFIDENCE,
            last_name: CONFIDENCE,
            date_of_birth: CONFIDENCE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::identity::DocumentType;

    fn judged(front: &str, selfie: Option<&str>, checks: &[IdentityCheck], seen_before: bool) -> Findings {
        let images = Images { front: front.into(), back: None, selfie: selfie.map(Into::into) };
        judge(&Case {
            document_type: DocumentType::Passport,
            country: "MA".parse().unwrap(),
            checks: checks.to_vec(),
            evidence: receive(&images),
            seen_before,
        })
    }

    #[test]
    fn each_rule_has_the_effect_in_its_row() {
        use VerificationStatus::{Failed, ManualReview, Verified};
        let all = IdentityCheck::ALL;
        for (front, selfie, seen, status, score, signals) in [
            ("front", Some("me"), false, Verified, 100, vec![]),
            ("xUNREADABLEx", Some("me"), false, Failed, 250, vec!["document_unreadable"]),
            ("EXPIRED", Some("me"), false, Failed, 200, vec!["document_expired"]),
            ("front", None, false, Failed, 700, vec!["face_not_detected", "liveness_failed"]),
            ("front", Some("NOFACE"), false, Failed, 300, vec!["face_not_detected"]),
            ("front", Some("MISMATCH"), false, Failed, 400, vec!["face_mismatch"]),
            ("front", Some("SPOOF"), false, Failed, 500, vec!["liveness_failed"]),
            ("TAMPERED", Some("me"), false, Failed, 600, vec!["document_tampered"]),
            ("front", Some("me"), true, Failed, 300, vec!["duplicate_document"]),
            ("REVIEW", Some("me"), false, ManualReview, 410, vec!["data_inconsistent"]),
            ("tampered", Some("TAMPERED"), false, Verified, 100, vec![]),
            (
                "TAMPERED REVIEW",
                Some("SPOOF MISMATCH"),
                true,
                Failed,
                1000,
                vec![
                    "face_mismatch",
                    "liveness_failed",
                    "document_tampered",
                    "duplicate_document",
                    "data_inconsistent",
                ],
            ),
        ] {
            let findings = judged(front, selfie, all, seen);
            let codes: Vec<_> = findings.fraud_signals.iter().map(|signal| signal.code.as_str()).collect();
            let found = (findings.status, findings.risk_score.points(), codes);
            assert_eq!(found, (status, score, signals), "{front} {selfie:?} {seen}");
        }
    }

    #[test]
    fn an_unrequested_check_finds_nothing_and_is_not_reported() {
        let findings = judged("TAMPERED", None, &[IdentityCheck::Ocr], true);
        assert_eq!((findings.status, findings.risk_score.points()), (VerificationStatus::Verified, 100));
        assert!(findings.checks.ocr.is_some() && findings.checks.fraud.is_none());
        assert!(findings.extracted_data.is_some());
        assert_eq!(judged("UNREADABLE", None, &[IdentityCheck::Ocr], false).extracted_data, None);
        let unread = judged("front", None, &[IdentityCheck::Fraud], false);
        assert_eq!((unread.extracted_data, unread.checks.ocr), (None, None));
    }

    #[test]
    fn the_back_belongs_to_the_document() {
        let images = Images { front: b"front".into(), back: Some(b"TAMPERED".into()), selfie: None };
        assert_eq!(receive(&images).reference, "TAMPERED");
    }

    #[test]
    fn the_same_document_has_the_same_holder() {
        let one = judged("a document", Some("me"), IdentityCheck::ALL, false);
        assert_eq!(judged("a document", Some("me"), IdentityCheck::ALL, false), one);
        let kept: Findings = serde_json::from_value(serde_json::to_value(&one).unwrap()).unwrap();
        assert_eq!(kept, one);
    }
}
