//! Verification sessions, in which documents are submitted step by step.

use jiff::Timestamp;
use platform::api_key::Environment;

use super::country::Country;
use super::engines::identity::{DocumentType, IdentityCheck};
use super::free_form::FreeForm;

/// A verification session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) environment: Environment,
    pub(super) document_type: DocumentType,
    pub(super) country: Country,
    pub(super) checks: Vec<IdentityCheck>,
    pub(super) metadata: FreeForm,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}
