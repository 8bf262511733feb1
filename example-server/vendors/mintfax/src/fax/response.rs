//! A fax, as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Fax, Status};
use platform::utc::Utc;

/// A fax that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    #[schema(example = "fax_01KB2T7Q3NF8S9W4X5Y6Z7A8BC")]
    id: String,
    #[schema(example = "queued")]
    status: Status,
    /// The number it goes to.
    #[schema(example = "+12015550100")]
    to: String,
    /// How often it is tried again.
    #[schema(example = 3)]
    retries: u8,
    created_at: Utc,
}

/// A fax, with what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FaxResource {
    #[schema(example = "fax_01KB2T7Q3NF8S9W4X5Y6Z7A8BC")]
    id: String,
    #[schema(example = "delivered")]
    status: Status,
    /// The number it goes to.
    #[schema(example = "+12015550100")]
    to: String,
    /// How many of its retries are left.
    #[schema(example = 3)]
    retries_remaining: u32,
    created_at: Utc,
    updated_at: Utc,
    /// How many pages arrived; `null` before.
    #[schema(required, example = 1)]
    pages: Option<u32>,
    /// What went wrong, for programs: of the last attempt, if it did not succeed.
    #[schema(required, example = "busy")]
    error_code: Option<String>,
    /// The same for people.
    #[schema(required, example = "The line was busy.")]
    error_message: Option<String>,
    /// Who is told what becomes of it.
    #[schema(required, example = "https://example.com/faxes")]
    webhook_url: Option<String>,
    /// The key it was sent with.
    #[schema(required, example = "550e8400-e29b-41d4-a716-446655440000")]
    idempotency_key: Option<String>,
    /// When it was handed to the carrier.
    #[schema(required)]
    submitted_at: Option<Utc>,
    /// When it was delivered, or failed.
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
