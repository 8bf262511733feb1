//! A retry attempt in the history of a validation.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Status;
use crate::cep::BanxicoStatus;
use platform::utc::Utc;

/// A finished attempt of a retry cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The number of the attempt within the validation, starting at 1.
    pub number: u32,
    /// When it was handed to a worker.
    pub dispatched_at: Timestamp,
    /// When the worker began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Banxico's status before.
    pub prev_banxico_status: BanxicoStatus,
    /// Banxico's status after; `None` if there was no answer.
    pub new_banxico_status: Option<BanxicoStatus>,
    /// The validation's status before.
    pub prev_status: Status,
    /// The validation's status after; `None` if the attempt changed nothing, as when it was
    /// cancelled meanwhile.
    pub new_status: Option<Status>,
    /// The duration of the query in milliseconds; `None` if it did not end.
    pub processing_time_ms: Option<u64>,
    /// The code of the error.
    pub error_code: Option<String>,
}

/// Serialises the item for the `data` of `GET /v1/validations/{id}/retry-attempts`: the bare
/// attributes, not a resource.
impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = Shown {
            attempt_number: self.number,
            dispatched_at: Utc(self.dispatched_at),
            started_at: Utc(self.started_at),
            finished_at: Utc(self.finished_at),
            prev_banxico_status: self.prev_banxico_status,
            new_banxico_status: self.new_banxico_status,
            prev_status: self.prev_status,
            new_status: self.new_status,
            processing_time_ms: self.processing_time_ms,
            error_code: self.error_code.as_deref(),
            proxy_pool_member: None,
        };
        shown.serialize(serializer)
    }
}

/// A retry attempt.
#[derive(Serialize, ToSchema)]
#[schema(as = RetryAttempt)]
pub(crate) struct Shown<'a> {
    /// The number of the attempt, starting at 1.
    #[schema(minimum = 1, example = 1)]
    attempt_number: u32,
    dispatched_at: Utc,
    started_at: Utc,
    finished_at: Utc,
    prev_banxico_status: BanxicoStatus,
    #[schema(required)]
    new_banxico_status: Option<BanxicoStatus>,
    prev_status: Status,
    #[schema(required)]
    new_status: Option<Status>,
    #[schema(required, example = 1320)]
    processing_time_ms: Option<u64>,
    #[schema(required, example = json!(null))]
    error_code: Option<&'a str>,
    /// `null`: the server does not use a proxy pool.
    #[schema(required, example = json!(null))]
    proxy_pool_member: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attempt_shows_the_status_before_and_after() {
        let attempt = Attempt {
            number: 2,
            dispatched_at: "2025-03-17T08:20:00.1Z".parse().unwrap(),
            started_at: "2025-03-17T08:20:01.2Z".parse().unwrap(),
            finished_at: "2025-03-17T08:20:02.9Z".parse().unwrap(),
            prev_banxico_status: BanxicoStatus::NotFound,
            new_banxico_status: Some(BanxicoStatus::Valid),
            prev_status: Status::NotFound,
            new_status: Some(Status::Valid),
            processing_time_ms: Some(1250),
            error_code: None,
        };
        let expected = json!({
            "attempt_number": 2, "dispatched_at": "2025-03-17T08:20:00Z", "started_at": "2025-03-17T08:20:01Z",
            "finished_at": "2025-03-17T08:20:02Z", "prev_banxico_status": "not_found",
            "new_banxico_status": "valid", "prev_status": "not_found", "new_status": "valid",
            "processing_time_ms": 1250, "error_code": null, "proxy_pool_member": null,
        });
        assert_eq!(serde_json::to_value(&attempt).unwrap(), expected);

        let unanswered = Attempt {
            new_banxico_status: None,
            new_status: None,
            processing_time_ms: None,
            error_code: Some("network".into()),
            ..attempt
        };
        let shown = serde_json::to_value(&unanswered).unwrap();
        for field in ["new_banxico_status", "new_status", "processing_time_ms"] {
            assert_eq!(shown[field], json!(null), "{field}");
        }
        assert_eq!(shown["error_code"], "network");
    }
}
