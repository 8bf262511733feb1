//! What is asked for with a verification, and the parts of it that a session has too.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::cep::text_enum;
use crate::txcloud::country::Country;
use crate::txcloud::engines::identity::{DocumentType, IdentityCheck, Images};
use crate::txcloud::errors::Failure;
use crate::txcloud::reading::{Field, Object};

text_enum! {
    /// Whether the caller waits.
    pub(crate) enum Mode {
        /// `sync`
        Sync = "sync",
        /// `async`
        Async = "async",
    }
}

/// What is asked for.
pub(super) struct Request {
    pub(super) document_type: DocumentType,
    pub(super) country: Country,
    pub(super) checks: Vec<IdentityCheck>,
    pub(super) images: Images,
    pub(super) mode: Mode,
    pub(super) metadata: Map<String, Value>,
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        let body = Object::body(body)?;
        let front = body.required("document_front")?.image()?;
        let country = body.required("country")?.country()?;
        let document_type = document_type(&body.required("document_type")?)?;
        let back = body.optional("document_back").map(|field| field.image()).transpose()?;
        let selfie = body.optional("selfie").map(|field| field.image()).transpose()?;
        let checks = checks(&body)?.unwrap_or_else(|| default_checks(selfie.is_some()));
        let mode = body.optional("mode").map_or(Ok(Mode::Sync), |field| field.one_of(Mode::ALL))?;
        refuse_webhook(&body)?;
        let metadata = metadata(&body)?;
        Ok(Self { document_type, country, checks, images: Images { front, back, selfie }, mode, metadata })
    }
}

/// What is there to be checked, but for whether it was there before: that is for who asks.
fn default_checks(has_selfie: bool) -> Vec<IdentityCheck> {
    let of_face = |check: &IdentityCheck| matches!(check, IdentityCheck::FaceMatch | IdentityCheck::Liveness);
    let checks = IdentityCheck::ALL.iter().copied();
    checks.filter(|check| *check != IdentityCheck::Duplicate && (has_selfie || !of_face(check))).collect()
}

pub(in crate::txcloud) fn document_type(field: &Field<'_>) -> Result<DocumentType, Failure> {
    field.one_of_or(DocumentType::ALL, "unsupported_document")
}

pub(in crate::txcloud) fn checks(body: &Object<'_>) -> Result<Option<Vec<IdentityCheck>>, Failure> {
    body.optional("checks").map(|field| field.some_of(IdentityCheck::ALL)).transpose()
}

pub(in crate::txcloud) fn metadata(body: &Object<'_>) -> Result<Map<String, Value>, Failure> {
    body.optional("metadata").map_or(Ok(Map::new()), |field| field.free_form())
}

/// A call that nobody would make must not be promised. (The vendor signs what it sends with a secret of the endpoint, and
/// endpoints are registered by operations that this server does not have.)
pub(in crate::txcloud) fn refuse_webhook(body: &Object<'_>) -> Result<(), Failure> {
    match body.optional("webhook_url") {
        Some(field) => {
            Err(field.refused("is not supported by this server: ask for the verification by its id"))
        }
        None => Ok(()),
    }
}

/// A document to be verified.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
pub(super) struct VerificationRequest {
    /// The image, in base64; 10 MB at the most before that. So are the others.
    #[schema(
        content_encoding = "base64",
        min_length = 4,
        max_length = 13_981_016,
        example = "/9j/4AAQSkZJRg=="
    )]
    document_front: String,
    country: Country,
    document_type: DocumentType,
    #[schema(
        content_encoding = "base64",
        min_length = 4,
        max_length = 13_981_016,
        example = "/9j/4AAQSkZJRg=="
    )]
    document_back: Option<String>,
    #[schema(
        content_encoding = "base64",
        min_length = 4,
        max_length = 13_981_016,
        example = "/9j/4AAQSkZJRg=="
    )]
    selfie: Option<String>,
    /// If none is named: `ocr` and `fraud`, and with a selfie `face_match` and `liveness`.
    #[schema(min_items = 1)]
    checks: Option<Vec<IdentityCheck>>,
    /// `sync`, if nothing is said.
    mode: Option<Mode>,
    /// The caller's own, to be given back: at most 50 members, 4096 bytes.
    #[schema(value_type = Option<Object>, example = json!({"user_id": "usr_abc123"}))]
    metadata: Option<Map<String, Value>>,
}
