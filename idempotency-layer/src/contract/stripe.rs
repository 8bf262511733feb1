//! Stripe, API version 1: whatever a key began with is what it answers.

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::json::Quoted;
use super::{Bind, Classifier, Contract};
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// The contract of Stripe's API v1: once a request began, its answer is stored, a 500 too.
    pub fn stripe() -> Self {
        Self::base()
            .methods(&[Method::POST])
            .bind(Bind::Principal)
            .reused(StatusCode::BAD_REQUEST)
            .stores(Classifier::everything())
            .rejection(error)
    }
}

fn error(rejection: &Rejection) -> Response<Bytes> {
    let (kind, code) = match rejection.kind() {
        RejectionKind::InProgress => ("idempotency_error", r#""code":"idempotency_key_in_use","#),
        RejectionKind::KeyReused | RejectionKind::Tombstone(_) => ("idempotency_error", ""),
        RejectionKind::KeyMissing
        | RejectionKind::KeyInvalid(_)
        | RejectionKind::BodyTooLarge { .. }
        | RejectionKind::BodyUnreadable => ("invalid_request_error", ""),
        _ => ("api_error", ""),
    };
    let message = Quoted(rejection);
    let body = format!(r#"{{"error":{{"type":"{kind}",{code}"message":{message}}}}}"#);
    rejection.render(body, "application/json")
}
