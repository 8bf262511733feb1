use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// One try of a request, when its outcome is known. It carries no key, path or body.
#[derive(Clone, Debug)]
#[doc(alias = "attempt")]
#[non_exhaustive]
pub struct Try {
    /// The host, with the port if the request names one; empty if it names no host.
    pub host: String,
    /// The number of the try, from 1.
    pub number: u32,
    /// The time since the request began, all tries and waits included.
    pub elapsed: Duration,
    /// The outcome of the try.
    pub outcome: TryOutcome,
    /// The decision that follows.
    pub next: Next,
}

/// The outcome of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TryOutcome {
    /// A response.
    Response(StatusCode),
    /// An error that shows that the server did not process the request: the connection was refused, a pooled connection was
    /// closed before it was used, or an HTTP/2 server refused the stream.
    NotSent,
    /// An error after which the server may have processed the request: the connection was lost, mostly.
    Failed,
    /// An error that would recur: an invalid URL, a scheme that the client does not support, a certificate that is not
    /// accepted.
    Permanent,
    /// No response within the timeout of a try or before the deadline.
    Timeout,
}

/// The decision after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Next {
    /// The outcome is final.
    Done,
    /// The next try begins after this time.
    RetryIn(Duration),
    /// The outcome is worth another try, and there is none.
    GiveUp(GiveUpReason),
}

/// Why there is no other try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// The maximum of tries was reached.
    MaxTries,
    /// The request has no key, its method is not idempotent, and the server may have processed it.
    NoKey,
    /// The next try would begin after the deadline, or the deadline passed.
    Deadline,
    /// The server asks for a longer wait than the deadline leaves.
    RetryAfterTooLong {
        /// The wait that the server asks for.
        wait: Duration,
        /// The time until the deadline.
        left: Duration,
    },
    /// The budget of the host is used up.
    Budget,
}

/// The callback of [`Retries::on_try`](super::Retries::on_try).
#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<dyn Fn(&Try) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(..)")
    }
}
