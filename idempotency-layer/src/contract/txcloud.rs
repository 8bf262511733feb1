//! The contract of `TXCloud`.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::Contract;
use super::json::Quoted;
use crate::key::KeySyntax;
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// Returns the contract of `TXCloud`: keys of 10 to 255 characters, bound to the endpoint; a
    /// reused key is 409.
    ///
    /// The colon is allowed because the vendor's own example of a key has one. Use
    /// `key(KeySyntax::token(10..=255))` to exclude it.
    pub fn txcloud() -> Self {
        Self::base()
            .key(KeySyntax::bytes(10..=255, |byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte)))
            .reused(StatusCode::CONFLICT)
            .rejection(error)
    }
}

fn error(rejection: &Rejection) -> Response<Bytes> {
    let (code, kind) = match rejection.kind() {
        RejectionKind::KeyReused => ("idempotency_key_conflict", "idempotency_error"),
        RejectionKind::InProgress | RejectionKind::Tombstone(_) => (rejection.code(), "idempotency_error"),
        RejectionKind::KeyInvalid(_)
        | RejectionKind::KeyMissing
        | RejectionKind::BodyTooLarge { .. }
        | RejectionKind::BodyUnreadable => (rejection.code(), "validation_error"),
        _ => (rejection.code(), "api_error"),
    };
    let message = Quoted(rejection);
    let body = format!(r#"{{"error":{{"code":"{code}","message":{message},"type":"{kind}"}}}}"#);
    rejection.render(body, "application/json")
}
