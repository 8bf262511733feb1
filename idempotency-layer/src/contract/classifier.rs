//! Which responses are stored.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header, response};
use http_body::Body;

use crate::grpc;

/// Whether a response is stored.
///
/// A handler that knows better than the contract puts one of these into the response's extensions. That is how
/// a handler whose effects were committed before it failed keeps its 500 from being run again.
///
/// An interim response (1xx) is never stored and leaves no tombstone, whatever is said here.
///
/// It decides about the response alone. Whether rows written through `CoCommit` are committed with it is decided by
/// [`Builder::commits`](crate::Builder::commits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// It is stored, and replayed to every retry.
    Store,
    /// It is not stored: a retry runs the handler again.
    Release,
    /// It is not stored, and a retry does not run the handler again either.
    Tombstone,
}

/// A rule over responses: which ones are stored ([`Contract::stores`](crate::Contract::stores)), and with which ones a
/// handler's rows are committed ([`Builder::commits`](crate::Builder::commits)).
///
/// Of a gRPC call, a rule sees the HTTP status that stands for its `grpc-status`, by the table of
/// [`Contract::grpc`](crate::Contract::grpc).
#[derive(Clone)]
pub struct Classifier(Rule);

#[derive(Clone)]
enum Rule {
    Final,
    Success,
    SuccessOrRedirect,
    Everything,
    Custom(Arc<dyn Fn(&response::Parts) -> Disposition + Send + Sync>),
}

impl Classifier {
    /// Every final answer: below 500, but for 401, 408, 425 and 429, which a retry is meant to change.
    pub const fn final_answers() -> Self {
        Self(Rule::Final)
    }

    /// 2xx only.
    pub const fn success() -> Self {
        Self(Rule::Success)
    }

    /// 2xx and 3xx.
    pub const fn success_or_redirect() -> Self {
        Self(Rule::SuccessOrRedirect)
    }

    /// Whatever the handler answered, 5xx included.
    pub const fn everything() -> Self {
        Self(Rule::Everything)
    }

    /// As the function says. It sees status, headers and extensions; the body is not read yet. A response that it stores is
    /// read to its end before it is sent, so return [`Disposition::Tombstone`] or [`Disposition::Release`] for a stream that
    /// does not end.
    ///
    /// The response of a gRPC call was read already: its `grpc-status` is among the headers, also where it came in the
    /// trailers.
    pub fn custom(rule: impl Fn(&response::Parts) -> Disposition + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(rule)))
    }

    /// Decides what to store: by the extension of the response, else by the rule, with a tombstone for a body that may
    /// never end. An interim or switching response (1xx) belongs to one connection and is never stored.
    pub(crate) fn classify(&self, response: &response::Parts, body: &impl Body) -> Disposition {
        if response.status.is_informational() {
            return Disposition::Release;
        }
        if let Some(disposition) = response.extensions.get::<Disposition>() {
            return *disposition;
        }
        match self.apply(response) {
            Disposition::Store if !self.is_custom() && is_unbounded(&response.headers, body) => {
                Disposition::Tombstone
            }
            disposition => disposition,
        }
    }

    /// Decides what to store of a gRPC call that was read to its end. One that ended without an outcome is not stored.
    pub(crate) fn classify_call(
        &self,
        response: &mut response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> Disposition {
        if let Some(disposition) = response.extensions.get::<Disposition>() {
            return *disposition;
        }
        grpc::judge(response, trailers, |parts| self.apply(parts)).unwrap_or(Disposition::Release)
    }

    /// Returns whether the rule takes this response, whatever its extensions and its body are.
    pub(crate) fn takes(&self, response: &response::Parts) -> bool {
        self.apply(response) != Disposition::Release
    }

    fn apply(&self, response: &response::Parts) -> Disposition {
        let status = response.status;
        let takes = match &self.0 {
            Rule::Custom(rule) => return rule(response),
            Rule::Final => !status.is_server_error() && ![401, 408, 425, 429].contains(&status.as_u16()),
            Rule::Success => status.is_success(),
            Rule::SuccessOrRedirect => status.is_success() || status.is_redirection(),
            Rule::Everything => true,
        };
        if takes { Disposition::Store } else { Disposition::Release }
    }

    fn is_custom(&self) -> bool {
        matches!(self.0, Rule::Custom(_))
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Final => "final_answers",
            Rule::Success => "success",
            Rule::SuccessOrRedirect => "success_or_redirect",
            Rule::Everything => "everything",
            Rule::Custom(_) => "custom",
        })
    }
}

/// Media types of streams that commonly have no end, unless their length is known.
const STREAMS: [&str; 6] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/json-seq",
    "application/stream+json",
    "multipart/x-mixed-replace",
];

fn is_unbounded(headers: &HeaderMap, body: &impl Body) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"text/event-stream")
        || body.size_hint().exact().is_none()
            && STREAMS.iter().any(|stream| essence.eq_ignore_ascii_case(stream.as_bytes()))
}
