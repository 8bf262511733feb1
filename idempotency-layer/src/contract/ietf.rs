//! draft-ietf-httpapi-idempotency-key-header-07, with the problem details of its section 2.7.

use bytes::Bytes;
use http::{Method, Response};

use super::Contract;
use super::json::Quoted;
use crate::key::KeySyntax;
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// Returns the contract of the IETF draft (draft-ietf-httpapi-idempotency-key-header-07): the
    /// key is a structured-field String, and rejections are problem details.
    ///
    /// The draft leaves some decisions to the server. This contract follows common practice in
    /// them. Publish them for your clients, and link to that page with
    /// [`documentation`](Self::documentation).
    ///
    /// Most clients send the key without quotes. Use
    /// `.key(KeySyntax::structured(1..=255).or_bare())` to accept both.
    pub fn ietf() -> Self {
        Self::base().key(KeySyntax::structured(1..=255)).methods(&[Method::POST, Method::PATCH])
    }
}

pub(super) fn problem(rejection: &Rejection) -> Response<Bytes> {
    let key = rejection.header_name();
    let title = match rejection.kind() {
        RejectionKind::KeyMissing => format!("{key} is missing"),
        RejectionKind::KeyInvalid(_) => format!("{key} is not valid"),
        RejectionKind::KeyReused => format!("{key} is already used"),
        RejectionKind::InProgress => format!("A request is outstanding for this {key}"),
        _ => rejection.status().canonical_reason().unwrap_or("Error").to_owned(),
    };
    let status = rejection.status().as_u16();
    let kind = rejection.documentation().map_or("about:blank".to_owned(), ToString::to_string);
    let (kind, title, detail) = (Quoted(kind), Quoted(title), Quoted(rejection));
    let body = format!(r#"{{"type":{kind},"title":{title},"status":{status},"detail":{detail}}}"#);
    rejection.render(body, "application/problem+json")
}
