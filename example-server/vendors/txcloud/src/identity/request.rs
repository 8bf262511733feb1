//! The request for a verification, and the fields that it shares with the request for a session.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::country::Country;
use crate::engines::identity::{DocumentType, IdentityCheck, Images};
use crate::errors::Failure;
use crate::free_form::FreeForm;
use crate::reading::{Field, Object};
use platform::outbound::{MAX_URL, Outbound};
use platform::text::text_enum;

text_enum! {
    /// Whether the caller waits for the judgement.
    pub(crate) enum Mode {
        Sync = "sync",
        Async = "async",
    }
}

/// The request for a verification.
pub(super) struct Request {
    pub(super) document_type: DocumentType,
    pub(super) country: Country,
    pub(super) checks: Vec<IdentityCheck>,
    pub(super) images: Images,
    pub(super) mode: Mode,
    /// The URL that receives the event at the end of the verification.
    pub(super) webhook_url: Option<String>,
    pub(super) metadata: FreeForm,
}

impl Request {
    pub(super) fn read(body: &[u8], outbound: &Outbound) -> Result<Self, Failure> {
        let body = Object::body(body)?;
        let front = body.required("document_front")?.image()?;
        let country = body.required("country")?.country()?;
        let document_type = document_type(&body.required("document_type")?)?;
        let back = body.optional("document_back").map(|field| field.image()).transpose()?;
        let selfie = body.optional("selfie").map(|field| field.image()).transpose()?;
        let checks = checks(&body)?.unwrap_or_else(|| default_checks(selfie.is_some()));
        let mode = body.optional("mode").map_or(Ok(Mode::Sync), |field| field.one_of(Mode::ALL))?;
        let webhook_url = webhook_url(&body, outbound)?;
        let metadata = metadata(&body)?;
        let images = Images { front, back, selfie };
        Ok(Self { document_type, country, checks, images, mode, webhook_url, metadata })
    }
}

/// Returns the checks that are possible without further input. Duplicates are checked only on
/// request.
fn default_checks(has_selfie: bool) -> Vec<IdentityCheck> {
    let of_face = |check: &IdentityCheck| matches!(check, IdentityCheck::FaceMatch | IdentityCheck::Liveness);
    let checks = IdentityCheck::ALL.iter().copied();
    checks.filter(|check| *check != IdentityCheck::Duplicate && (has_selfie || !of_face(check))).collect()
}

pub(crate) fn document_type(field: &Field<'_>) -> Result<DocumentType, Failure> {
    field.one_of_or(DocumentType::ALL, "unsupported_document")
}

pub(crate) fn checks(body: &Object<'_>) -> Result<Option<Vec<IdentityCheck>>, Failure> {
    body.optional("checks").map(|field| field.some_of(IdentityCheck::ALL)).transpose()
}

pub(crate) fn metadata(body: &Object<'_>) -> Result<FreeForm, Failure> {
    body.optional("metadata").map_or(Ok(FreeForm::default()), |field| field.free_form())
}

fn webhook_url(body: &Object<'_>, outbound: &Outbound) -> Result<Option<String>, Failure> {
    let Some(field) = body.optional("webhook_url") else { return Ok(None) };
    let url = field.text(MAX_URL)?;
    match outbound.check(&url) {
        Ok(_) => Ok(Some(url)),
        Err(error) => Err(field.refused(format!("cannot be called: {error}"))),
    }
}

/// A request to verify a document.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
pub(super) struct VerificationRequest {
    /// The image in base64, at most 10 MB before encoding. The same applies to the other images.
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
    /// Default: `ocr` and `fraud`, and with a selfie also `face_match` and `liveness`.
    #[schema(min_items = 1)]
    checks: Option<Vec<IdentityCheck>>,
    /// Default: `sync`.
    mode: Option<Mode>,
    /// The public https URL that receives a signed `POST` at the end of the verification, at least
    /// once.
    #[schema(max_length = 2048, example = "https://example.com/hook")]
    webhook_url: Option<String>,
    /// Free-form data of the caller, returned unchanged: at most 50 members and 4096 bytes. With a
    /// test key, `sandbox_delay_ms` is the number of milliseconds, up to 5000, that the request
    /// waits before it takes effect and is answered.
    #[schema(value_type = Option<Object>, example = json!({"user_id": "usr_abc123"}))]
    metadata: Option<Map<String, Value>>,
}
