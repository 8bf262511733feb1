//! The contract of mintfax.

use bytes::Bytes;
use http::{HeaderName, Method, Response, StatusCode};

use super::json::Quoted;
use super::{Classifier, Contract, ReplayMark};
use crate::fingerprint::FingerprintMode;
use crate::key::Bind;
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// Returns the contract of mintfax: any key, on POST, bound to the principal. Requests are not
    /// compared: after the first success, every later request with the key gets that response. The
    /// key is echoed.
    pub fn mintfax() -> Self {
        Self::base()
            .methods(&[Method::POST])
            .bind(Bind::Principal)
            .fingerprint(FingerprintMode::None)
            .invalid(StatusCode::UNPROCESSABLE_ENTITY)
            .stores(Classifier::success())
            .mark(ReplayMark::new(HeaderName::from_static("idempotency-replayed")))
            .echo(HeaderName::from_static("x-idempotency-key"))
            .rejection(error)
    }
}

fn error(rejection: &Rejection) -> Response<Bytes> {
    let (code, action) = match rejection.kind() {
        RejectionKind::KeyInvalid(_) | RejectionKind::KeyMissing => ("validation_failed", "fix_request"),
        RejectionKind::BodyTooLarge { .. } => ("file_too_large", "fix_request"),
        RejectionKind::BodyUnreadable => ("bad_request", "fix_request"),
        RejectionKind::InProgress => (rejection.code(), "wait_and_retry"),
        RejectionKind::StoreUnavailable | RejectionKind::NotRecorded | RejectionKind::RolledBack => {
            ("service_unavailable", "wait_and_retry")
        }
        _ => (rejection.code(), "contact_support"),
    };
    let message = Quoted(rejection);
    let body = format!(r#"{{"error":"{code}","message":{message},"action":"{action}"}}"#);
    rejection.render(body, "application/json")
}
