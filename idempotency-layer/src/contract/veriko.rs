//! The contract of Veriko.

use bytes::Bytes;
use http::Response;

use super::json::Quoted;
use super::{Contract, IDEMPOTENT_REPLAYED, ReplayMark};
use crate::key::KeySyntax;
use crate::rejection::Rejection;

impl Contract {
    /// Returns the contract of Veriko: strict keys, bound to the endpoint; bodies are compared;
    /// every final answer is stored; every response carries the replay mark; errors are JSON:API
    /// documents.
    pub fn veriko() -> Self {
        Self::base()
            .key(KeySyntax::token(1..=255))
            .mark(ReplayMark::new(IDEMPOTENT_REPLAYED).or_false())
            .rejection(errors)
    }
}

fn errors(rejection: &Rejection) -> Response<Bytes> {
    let (status, code) = (rejection.status().as_u16(), rejection.code());
    let detail = Quoted(rejection);
    let body = format!(r#"{{"errors":[{{"status":"{status}","code":"{code}","detail":{detail}}}]}}"#);
    rejection.render(body, "application/json")
}
