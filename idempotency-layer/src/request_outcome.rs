//! What the layer did with a request, for middleware outside it.

use std::time::Duration;

use http::Response;

use crate::rejection::RejectionKind;

/// What the layer did with a request: an extension of its response, for logs, metrics and
/// middleware outside the layer.
///
/// A request without a key, or one that the contract does not concern, passes without an
/// allocation, so its response carries no such extension. [`RequestOutcome::of`] returns
/// [`Unkeyed`](Self::Unkeyed) then.
///
/// ```
/// use http::Response;
/// use idempotency_layer::RequestOutcome;
///
/// fn label<B>(response: &Response<B>) -> &'static str {
///     match RequestOutcome::of(response) {
///         RequestOutcome::Ran { attempt: 1, .. } => "first",
///         RequestOutcome::Ran { .. } => "again",
///         RequestOutcome::Replayed { .. } => "replayed",
///         RequestOutcome::Rejected(_) => "rejected",
///         _ => "unkeyed",
///     }
/// }
/// # assert_eq!(label(&Response::new(())), "unkeyed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The request held the claim. The response is the handler's, or the one that
    /// [`OnOrphan`](crate::OnOrphan) found.
    Ran {
        /// How many times the record was claimed, this time included; see
        /// [`Idempotency::attempt`](crate::Idempotency::attempt).
        attempt: u32,
        /// Whether the record was an orphan: an earlier run had ended without an outcome.
        orphan: bool,
    },
    /// The response is the stored one.
    Replayed {
        /// The time since the key was first accepted. `None` if it is unknown, because the
        /// contract's time to live was longer at that time.
        age: Option<Duration>,
    },
    /// The layer answered in place of the handler. The response also carries a
    /// [`Rejection`](crate::Rejection).
    Rejected(RejectionKind),
    /// The request ran as without the layer: it had no key, the contract does not concern it, it
    /// was a streaming gRPC request, or the store was not reached under
    /// [`OnStoreFailure::PassThrough`](crate::OnStoreFailure::PassThrough).
    Unkeyed,
}

impl RequestOutcome {
    /// Returns what the layer did with the request of this response.
    pub fn of<B>(response: &Response<B>) -> Self {
        response.extensions().get().copied().unwrap_or(Self::Unkeyed)
    }
}
