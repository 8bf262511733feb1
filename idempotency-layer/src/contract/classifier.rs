//! Rules over responses.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header, response};
use http_body::Body;

use crate::grpc;

/// Whether a response is stored.
///
/// A handler can override the contract for one response. It puts a `Disposition` into the
/// extensions of the response. For example, a handler that fails after its effects took place can
/// store its 500, so that no retry repeats them.
///
/// ```
/// use http::{Response, StatusCode};
/// use idempotency_layer::Disposition;
///
/// let mut response = Response::new("charged, but the receipt could not be printed");
/// *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
/// response.extensions_mut().insert(Disposition::Store); // retries get this response
/// ```
///
/// A disposition decides about the response only. [`Builder::commits`](crate::Builder::commits)
/// decides whether rows written through `CoCommit` are committed with it. An interim response (1xx)
/// is never stored and leaves no tombstone, whatever its disposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// The response is stored and replayed to every retry.
    Store,
    /// The response is not stored. A retry runs the handler again.
    Release,
    /// The response is not stored, and a retry does not run the handler again.
    Tombstone,
}

/// A rule that selects responses: those that are stored
/// ([`Contract::stores`](crate::Contract::stores)), or those that commit the handler's rows
/// ([`Builder::commits`](crate::Builder::commits)).
///
/// For a gRPC call, a rule sees the HTTP status that corresponds to the `grpc-status`, by the table
/// of [`Contract::grpc`](crate::Contract::grpc).
///
/// ```
/// use http::StatusCode;
/// use idempotency_layer::{Classifier, Disposition};
///
/// let rule = Classifier::custom(|response| match response.status {
///     StatusCode::ACCEPTED => Disposition::Release, // not final yet
///     status if status.is_server_error() => Disposition::Release,
///     _ => Disposition::Store,
/// });
/// ```
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
    /// Selects final answers: every status below 500 except 401, 408, 425 and 429, which a retry
    /// can change.
    pub const fn final_answers() -> Self {
        Self(Rule::Final)
    }

    /// Selects 2xx.
    pub const fn success() -> Self {
        Self(Rule::Success)
    }

    /// Selects 2xx and 3xx.
    pub const fn success_or_redirect() -> Self {
        Self(Rule::SuccessOrRedirect)
    }

    /// Selects every response, 5xx included.
    pub const fn everything() -> Self {
        Self(Rule::Everything)
    }

    /// Selects responses by a function of status, headers and extensions.
    ///
    /// The function runs before the body is read. The layer reads a response to its end before it
    /// stores and sends it. So return [`Disposition::Tombstone`] or [`Disposition::Release`] for a
    /// stream that does not end.
    ///
    /// A gRPC response has been read by then. Its `grpc-status` is among the headers, even if it
    /// came in the trailers.
    pub fn custom(rule: impl Fn(&response::Parts) -> Disposition + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(rule)))
    }

    /// Decides what to store, by the disposition in the extensions of the response, or else by the
    /// rule. A body that may never end leaves a tombstone. A 1xx belongs to one connection and is
    /// never stored.
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

    /// Decides what to store of a gRPC response that was read to its end. A response without a
    /// status is not stored.
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

    /// Returns whether the rule selects this response, regardless of its extensions and its body.
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

/// Media types of streams that often have no end. If the length is known, the response is stored.
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
