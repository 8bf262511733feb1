//! The API's representation of a fax.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Fax, Status};
use platform::utc::Utc;

/// An accepted fax.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    #[schema(example = "fax_01KB2T7Q3NF8S9W4X5Y6Z7A8BC")]
    id: String,
    #[schema(example = "queued")]
    status: Status,
    /// The recipient's number.
    #[schema(example = "+12015550100")]
    to: String,
    /// The maximum number of retries.
    #[schema(example = 3)]
    retries: u8,
    created_at: Utc,
}

/// A fax and its status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FaxResource {
    #[schema(example = "fax_01KB2T7Q3NF8S9W4X5Y6Z7A8BC")]
    id: String,
    #[schema(example = "delivered")]
    status: Status,
    /// The recipient's number.
    #[schema(example = "+12015550100")]
    to: String,
    /// The number of retries left.
    #[schema(example = 3)]
    retries_remaining: u32,
    created_at: Utc,
    updated_at: Utc,
    /// The number of pages delivered; `null` until then.
    #[schema(required, example = 1)]
    pages: Option<u32>,
    /// The error code of the last attempt, for programs; `null` if it did not fail.
    #[schema(required, example = "busy")]
    error_code: Option<String>,
    /// The error message of the last attempt, for people.
    #[schema(required, example = "The line was busy.")]
    error_message: Option<String>,
    /// The URL that receives webhook events about the fax.
    #[schema(required, example = "https://example.com/faxes")]
    webhook_url: Option<String>,
    /// The idempotency key that the fax was sent with.
    #[schema(required, example = "550e8400-e29b-41d4-a716-446655440000")]
    idempotency_key: Option<String>,
    /// When the fax was handed to the carrier.
    #[schema(required)]
    submitted_at: Option<Utc>,
    /// When the fax was delivered or failed.
    #[schema(required)]
    completed_at: Option<Utc>,
}

impl Fax {
    pub(crate) fn submitted(&self) -> Submitted {
        Submitted {
            id: self.id.to_string(),
            status: self.status,
            to: self.to.clone(),
            retries: self.retries,
            created_at: Utc(self.created_at),
        }
    }

    pub(crate) fn resource(&self) -> FaxResource {
        FaxResource {
            id: self.id.to_string(),
            status: self.status,
            to: self.to.clone(),
            retries_remaining: self.retries_remaining(),
            created_at: Utc(self.created_at),
            updated_at: Utc(self.updated_at),
            pages: self.pages,
            error_code: self.error_code.clone(),
            error_message: self.error_message.clone(),
            webhook_url: self.webhook_url.clone(),
            idempotency_key: self.idempotency_key.clone(),
            submitted_at: self.submitted_at.map(Utc),
            completed_at: self.completed_at.map(Utc),
        }
    }
}
