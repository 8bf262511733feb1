//! The representations of a validation in responses.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::retry_state::Shown as ShownRetryState;
use super::{AccountConflict, KeptCep, Kind, RetryState, Status, Validation};
use crate::cep::{Account, Amount, BanxicoStatus, Payment, Reference, TrackingKey};
use crate::client_ref::ClientRef;
use platform::utc::Utc;

impl Validation {
    /// Returns the `data` of `POST /v1/validate` and of `GET /v1/validations/{id}`.
    pub fn resource(&self) -> impl Serialize + '_ {
        let attributes = ValidationAttributes {
            validation_type: self.kind,
            is_playground: false,
            status: self.status,
            banxico_status: self.banxico_status,
            processing_time_ms: self.processing_time_ms,
            request_data: &self.payment,
            client_ref: self.client_ref.as_ref(),
            created_at: Utc(self.created_at),
            completed_at: self.completed_at.map(Utc),
            enqueued_at: self.queue.map(|_| Utc(self.created_at)),
            processing_started_at: self.queue.and_then(|queue| queue.processing_started_at).map(Utc),
            expires_at: self.queue.filter(|_| !self.status.is_final()).map(|queue| Utc(queue.expires_at)),
            etag_version: self.queue.map(|_| self.etag_version),
            image_path: self.image_path(),
            image_retained: self.image.as_ref().map(|image| image.format().is_some()),
            ocr_result: self.ocr.as_ref().map(|ocr| &ocr.result),
            ocr_confidence: self.ocr.as_ref().map(|ocr| f64::from(ocr.confidence_percent) / 100.0),
            account_conflict: self.ocr.as_ref().and_then(|ocr| ocr.account_conflict.as_ref()),
            error_code: self.error_code.as_deref(),
            error_message: self.error_message.as_deref(),
            retry_state: &self.retry_state,
        };
        LinkedEntity { entity: self.entity(attributes), links: self.links() }
    }

    /// Returns the `data` of the 202 for a queued validation.
    pub fn queued(&self) -> impl Serialize + '_ {
        let attributes = QueuedAttributes {
            validation_id: self.id,
            status: self.status,
            etag_version: self.etag_version,
            enqueued_at: Utc(self.created_at),
            expires_at: self.queue.map(|queue| Utc(queue.expires_at)),
            retry_state: &self.retry_state,
        };
        self.entity(attributes)
    }

    /// Returns the item for the `data` of `GET /v1/validations`. By the contract, a value that the
    /// payment lacks is an empty string there, not `null`.
    pub fn item(&self) -> impl Serialize + '_ {
        let payment = &self.payment;
        let counterparty = payment.receiving_bank().or_else(|| payment.sending_bank());
        let attributes = Item {
            bank_name: counterparty.map_or("Unidentified bank", |bank| bank.name),
            beneficiary_label: None,
            amount: payment.monto(),
            tracking_key: payment.clave_rastreo().map_or("", TrackingKey::as_str),
            referencia_numerica: payment.referencia_numerica().map_or("", Reference::as_str),
            beneficiary_account: payment.cuenta_beneficiaria().map_or("", Account::digits),
            status: self.status,
            banxico_status: self.banxico_status,
            validation_type: self.kind,
            is_playground: false,
            created_at: Utc(self.created_at),
            deleted_at: None,
            retry_state: &self.retry_state,
            client_ref: self.client_ref.as_ref(),
        };
        self.entity(attributes)
    }

    fn image_path(&self) -> Option<String> {
        let format = self.image.as_ref()?.format()?;
        Some(format!("comprobantes/{}.{}", self.id, format.extension()))
    }

    /// Returns the `data` of the operations that change its retries: `PUT …/retry-policy` and
    /// `POST …/cancel-retries`.
    pub fn retry_state_resource(&self) -> impl Serialize + '_ {
        self.entity(RetryStateAttributes { retry_state: &self.retry_state })
    }

    fn entity<Attributes>(&self, attributes: Attributes) -> Entity<Attributes> {
        Entity { id: self.id, r#type: "validation", attributes }
    }

    fn links(&self) -> Links {
        let this = self.location();
        let cep = |format| (self.cep != KeptCep::None).then(|| format!("{this}/cep?format={format}"));
        Links { cep_xml: cep("xml"), cep_pdf: cep("pdf"), this }
    }
}

/// A validation.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "validation_type": "direct",
    "is_playground": false,
    "status": "not_found",
    "banxico_status": "not_found",
    "processing_time_ms": 1320,
    "request_data": {
        "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": "MXBA20250315001234", "emisor": "BANAMEX",
        "receptor": "BBVA MEXICO", "cuenta_beneficiaria": "012180004412345678",
    },
    "client_ref": "orden-4812",
    "created_at": "2025-03-15T14:22:10Z",
    "completed_at": "2025-03-15T14:22:11Z",
    "retry_state": {
        "enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["not_found"],
        "attempts_completed": 1, "next_attempt_at": "2025-03-15T14:42:11Z", "resolved_at": null,
        "exhausted_at": null, "cancelled_at": null, "terminal_state": "pending",
    },
}))]
pub(crate) struct ValidationAttributes<'a> {
    validation_type: Kind,
    is_playground: bool,
    status: Status,
    banxico_status: BanxicoStatus,
    /// The duration of the last query in milliseconds.
    #[schema(required, example = 1320)]
    processing_time_ms: Option<u64>,
    request_data: &'a Payment,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_ref: Option<&'a ClientRef>,
    created_at: Utc,
    #[schema(required)]
    completed_at: Option<Utc>,
    /// Background validations: when it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    enqueued_at: Option<Utc>,
    /// Background validations: when processing began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    processing_started_at: Option<Utc>,
    /// Background validations without a verdict: when it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Utc>,
    /// Background validations: the number in its `ETag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    etag_version: Option<u32>,
    /// Receipts: the file name of the picture, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "comprobantes/018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f.png")]
    image_path: Option<String>,
    /// Receipts: whether the picture is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = true)]
    image_retained: Option<bool>,
    /// Receipts: the fields that were read, by the names of `POST /v1/validate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object, example = json!({"clave_rastreo": "MXBA20250315001234"}))]
    ocr_result: Option<&'a Map<String, Value>>,
    /// Receipts: the confidence of the recognition, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 0.94)]
    ocr_confidence: Option<f64>,
    /// The account that was sent differs from the one on the receipt. The one that was sent is
    /// used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    account_conflict: Option<&'a AccountConflict>,
    /// Why there is no answer from Banxico.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "network")]
    error_code: Option<&'a str>,
    /// The error in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Banxico gave no readable answer.")]
    error_message: Option<&'a str>,
    #[schema(value_type = ShownRetryState)]
    retry_state: &'a RetryState,
}

/// An accepted validation.
#[derive(Serialize, ToSchema)]
#[schema(as = QueuedValidation)]
pub(crate) struct QueuedAttributes<'a> {
    validation_id: Uuid,
    #[schema(example = "queued")]
    status: Status,
    #[schema(example = 0)]
    etag_version: u32,
    enqueued_at: Utc,
    /// When it expires, if it has no verdict by then.
    #[schema(required, nullable = false)]
    expires_at: Option<Utc>,
    #[schema(value_type = ShownRetryState)]
    retry_state: &'a RetryState,
}

/// A validation in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = ValidationItem)]
pub(crate) struct Item<'a> {
    #[schema(example = "BBVA MEXICO")]
    bank_name: &'static str,
    #[schema(required, example = json!(null))]
    beneficiary_label: Option<&'a str>,
    #[schema(value_type = f64, example = 15000.5)]
    amount: Amount,
    #[schema(example = "MXBA20250315001234")]
    tracking_key: &'a str,
    #[schema(example = "1234567")]
    referencia_numerica: &'a str,
    #[schema(example = "012180004412345678")]
    beneficiary_account: &'a str,
    status: Status,
    banxico_status: BanxicoStatus,
    validation_type: Kind,
    is_playground: bool,
    created_at: Utc,
    #[schema(required, example = json!(null))]
    deleted_at: Option<Utc>,
    #[schema(value_type = ShownRetryState)]
    retry_state: &'a RetryState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_ref: Option<&'a ClientRef>,
}

/// The retries of a validation.
#[derive(Serialize, ToSchema)]
pub(crate) struct RetryStateAttributes<'a> {
    #[schema(value_type = ShownRetryState)]
    retry_state: &'a RetryState,
}

/// A resource in a collection.
#[derive(Serialize, ToSchema)]
pub(crate) struct Entity<Attributes> {
    id: Uuid,
    #[schema(example = "validation")]
    r#type: &'static str,
    attributes: Attributes,
}

/// A resource with links.
#[derive(Serialize, ToSchema)]
pub(crate) struct LinkedEntity<Attributes> {
    #[serde(flatten)]
    entity: Entity<Attributes>,
    links: Links,
}

impl<Attributes> Entity<Attributes> {
    pub(crate) fn of(id: Uuid, r#type: &'static str, attributes: Attributes) -> Self {
        Self { id, r#type, attributes }
    }
}

/// Related resources.
#[derive(Serialize, ToSchema)]
#[schema(as = ValidationLinks)]
struct Links {
    #[serde(rename = "self")]
    #[schema(example = "/v1/validations/018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f")]
    this: String,
    /// Present once the CEP can be downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        example = "/v1/validations/018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f/cep?format=xml"
    )]
    cep_xml: Option<String>,
    /// Present once the CEP can be downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        example = "/v1/validations/018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f/cep?format=pdf"
    )]
    cep_pdf: Option<String>,
}
