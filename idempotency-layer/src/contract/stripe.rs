//! The contract of Stripe's API v1.

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::json::Quoted;
use super::{Classifier, Contract};
use crate::key::Bind;
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// Returns the contract of Stripe's API v1. Every response of a request that began is stored,
    /// 5xx included.
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
