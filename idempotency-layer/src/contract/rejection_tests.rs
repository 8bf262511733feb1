//! The answers of every preset to every kind of rejection.

use http::{HeaderName, Uri};

use super::Contract;
use crate::key::InvalidKey;
use crate::rejection::RejectionKind;
use crate::store::Tombstone;

const KINDS: [RejectionKind; 20] = [
    RejectionKind::KeyMissing,
    RejectionKind::KeyInvalid(InvalidKey::Repeated),
    RejectionKind::KeyInvalid(InvalidKey::TooShort),
    RejectionKind::KeyInvalid(InvalidKey::TooLong),
    RejectionKind::KeyInvalid(InvalidKey::Syntax),
    RejectionKind::KeyReused,
    RejectionKind::InProgress,
    RejectionKind::Tombstone(Tombstone::Unreplayable),
    RejectionKind::Tombstone(Tombstone::Unknown),
    RejectionKind::BodyTooLarge { limit: Some(17) },
    RejectionKind::BodyTooLarge { limit: None },
    RejectionKind::BodyUnreadable,
    RejectionKind::ScopeMissing,
    RejectionKind::Misconfigured,
    RejectionKind::Overloaded,
    RejectionKind::StoreUnavailable,
    RejectionKind::NotRecorded,
    RejectionKind::RolledBack,
    RejectionKind::CommitUnknown,
    RejectionKind::ResponseUnreadable,
];

fn presets() -> [Contract; 5] {
    [Contract::ietf(), Contract::stripe(), Contract::mintfax(), Contract::txcloud(), Contract::veriko()]
}

#[test]
fn no_text_names_a_header_that_the_contract_does_not_have() {
    for contract in presets() {
        let contract = contract.header(HeaderName::from_static("x-request-key"));
        for kind in KINDS {
            let answer = contract.answer(contract.reject(kind), None);
            let text = std::str::from_utf8(answer.body()).unwrap();
            assert!(!text.to_ascii_lowercase().contains("idempotency-key"), "{kind:?}: {text}");
            let of_a_key = matches!(kind, RejectionKind::KeyMissing | RejectionKind::KeyReused);
            assert!(!of_a_key || text.contains("X-Request-Key"), "{kind:?}: {text}");
        }
    }
}

#[test]
fn every_rejection_is_json_whatever_the_uri_of_the_documentation() {
    // Every character that a `Uri` accepts.
    let taken: String = ('!'..='~')
        .filter(|character| !matches!(character, '#' | '?'))
        .filter(|character| Uri::try_from(format!("https://example.com/{character}")).is_ok())
        .collect();
    assert!(taken.contains('\\') && taken.contains('"'), "{taken}");
    let uri = format!("https://example.com/{taken}");
    for contract in presets() {
        let contract = contract.documentation(uri.parse().unwrap());
        for kind in KINDS {
            let answer = contract.answer(contract.reject(kind), None);
            let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            let names_it = json.get("type").is_none_or(|named| named == &*uri);
            assert!(names_it, "{json}");
        }
    }
}
