use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// One try of a request, when its outcome is known. It tells no key, path or body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Try {
    /// The host it went to, with the port where the request names one; empty if it names no host.
    pub host: String,
    /// From 1.
    pub number: u32,
    /// How long the request has taken so far, all tries and waits.
    pub elapsed: Duration,
    /// What came of it.
    pub came: Came,
    /// What is done about it.
    pub next: Next,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Came {
    /// An answer.
    Answer(StatusCode),
    /// An error of the client: the connection, mostly. The request may have arrived.
    Failure,
    /// An error of the client that would come again: the request itself is at fault, and was not sent.
    Unsendable,
    /// Nothing, in the time a try has.
    Timeout,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// It is the answer.
    Done,
    /// It is tried again after this time.
    RetryIn(Duration),
    /// It would be tried again, but is not.
    GiveUp(GaveUp),
}

/// Why there is no other try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveUp {
    /// There were enough.
    Tries,
    /// The request has no key, and its method is not idempotent: it could happen twice.
    Unkeyed,
    /// The next one would begin after the deadline.
    Deadline,
    /// The server asks for more time than is left until the deadline.
    RetryAfterTooLong {
        /// What it asks for.
        wait: Duration,
        /// What is left.
        left: Duration,
    },
    /// The host has had its share of retries.
    Budget,
}

/// Who is told.
#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<dyn Fn(&Try) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(..)")
    }
}
