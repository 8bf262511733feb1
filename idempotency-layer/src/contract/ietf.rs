//! draft-ietf-httpapi-idempotency-key-header-07, with the problem details of its section 2.7.

use bytes::Bytes;
use http::{Method, Response, Uri};

use super::Contract;
use crate::key::KeySyntax;
use crate::rejection::{Rejection, RejectionKind};

impl Contract {
    /// The IETF draft: a structured-field String, problem details. What the draft leaves to the server is set as
    /// most APIs have it; publish it with [`documentation`](Self::documentation).
    ///
    /// Most clients send the key without the quotes: `.key(KeySyntax::structured(1..=255).or_bare())` takes both.
    pub fn ietf() -> Self {
        Self::base().key(KeySyntax::structured(1..=255)).methods(&[Method::POST, Method::PATCH])
    }
}

pub(super) fn problem(rejection: &Rejection) -> Response<Bytes> {
    let title = match rejection.kind() {
        RejectionKind::KeyMissing => "Idempotency-Key is missing",
        RejectionKind::KeyInvalid(_) => "Idempotency-Key is not valid",
        RejectionKind::KeyReused => "Idempotency-Key is already used",
        RejectionKind::InProgress => "A request is outstanding for this Idempotency-Key",
        _ => rejection.status().canonical_reason().unwrap_or("Error"),
    };
    let status = rejection.status().as_u16();
    // The two characters of a `Uri` that JSON escapes.
    let escaped = |uri: &Uri| uri.to_string().replace('"', "%22").replace('\\', "%5C");
    let kind = rejection.documentation().map_or("about:blank".to_owned(), escaped);
    let body = format!(r#"{{"type":"{kind}","title":"{title}","status":{status},"detail":"{rejection}"}}"#);
    rejection.render(body, "application/problem+json")
}
