//! Retries for HTTP clients under which a request takes effect once: one `Idempotency-Key` for all tries.
//!
//! [`Retries`] is the configuration. [`Retries::layer`] creates a Tower layer for any client that is a
//! [`Service`](tower_service::Service) of [`http::Request`]s, such as hyper's. `Retries::reqwest` builds a `reqwest` client
//! (feature `reqwest`). [`Retries::policy`] creates a [`tower::retry::Policy`] for a stack of your own.
//!
//! ```
//! use std::time::Duration;
//! use account_retry_policy::client::Retries;
//! use http::{Method, Request, Response, StatusCode};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower::BoxError> {
//! // A client that fails once, and then answers with the key it was sent.
//! let mut tries = 0;
//! let flaky = tower::service_fn(move |request: Request<String>| {
//!     tries += 1;
//!     let status = if tries == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
//!     let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
//!     std::future::ready(Ok::<_, std::io::Error>(Response::builder().status(status).body(key).unwrap()))
//! });
//! # let flaky = tower::buffer::Buffer::new(flaky, 1);
//! let retries = Retries::new().deadline(Duration::from_secs(20));
//! let mut client = ServiceBuilder::new().layer(retries.layer()).service(flaky);
//!
//! let request = Request::post("https://api.example.com/payments").body("12.50".to_owned())?;
//! let response = client.ready().await?.call(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! | outcome of a try | [`new`](Retries::new) | [`mintfax`](Retries::mintfax) | [`stripe`](Retries::stripe) | [`aws`](Retries::aws) |
//! |---|---|---|---|---|
//! | 500, 503 | yes | yes | yes | yes |
//! | 502, 504 | yes | no | yes | yes |
//! | other 5xx | no | no | yes | no |
//! | 429 | yes | with `Retry-After` | no | yes |
//! | 408, 425 | yes | no | no | yes |
//! | 409 | with `Retry-After` | with `Retry-After` | yes | no |
//! | other 4xx, 3xx, 2xx | no | no | no | no |
//! | not sent: connection refused, stream refused | yes | yes | yes | yes |
//! | no response: connection lost, timeout | yes | yes | yes | yes |
//! | permanent error: certificate, scheme, URL | no | no | no | no |
//! | `Stripe-Should-Retry: true` or `false` | – | – | as it says | – |
//!
//! A 409 with `Retry-After` is how servers say that a request with the same key is still in progress. A 409 without it is a
//! conflict that another try does not resolve. [`Retries::on_status`] changes a row.
//!
//! A method that is not idempotent by itself (RFC 9110, section 9.2.2: POST, PATCH and unknown ones) is sent again only if that
//! cannot make it take effect twice:
//!
//! | outcome of a try | with a key, or an idempotent method | POST without a key |
//! |---|---|---|
//! | a response that the table above retries | yes | no |
//! | not sent | yes | yes |
//! | no response | yes | no |
//!
//! The layer generates a key, a random UUID, where there is none. The policy cannot. [`aws`](Retries::aws) has no such header
//! and retries without: see [`Retries::without_key`].
//!
//! *Not sent* means that the error shows it: the connection was not made, a pooled connection was closed before it carried the
//! request, or an HTTP/2 server answered with `REFUSED_STREAM` or a `GOAWAY` below the stream. The feature `hyper` recognises
//! the first two in hyper's errors, `http2` the third. Without these features, only a refused connection is recognised.
//!
//! # What it promises, and where that ends
//!
//! | | promised | not promised |
//! |---|---|---|
//! | key | the same one on every try; a given one is kept as it is | that the server honours it |
//! | origin | `Retries::reqwest` never sends a key to another scheme, host or port: it returns a redirect there as the response | redirects that another client follows by itself: hyper follows none; give tower-http's `FollowRedirect` the policy `SameOrigin` |
//! | wait | that of the backoff, and never less than `Retry-After` asks, in seconds or as a date | |
//! | deadline | no wait that would end after it; an unfinished try is dropped at it | that the server stops, too |
//! | budget | one for each host, shared by all clones; no retry that it does not cover | shared between processes |
//! | body | one that can be sent only once is refused before it is sent ([`ErrorKind::NotReplayable`]); each copy is for a try | |
//! | response | the last one is returned when the retries end, as if it were the only try; an [`Error`] after it keeps it ([`Error::response`]) | more than [`MAX_KEPT_BODY_BYTES`] of its body in an error |
//!
//! Durations are measured with the monotonic clock. The wall clock is read for one purpose: to compare a `Retry-After` date
//! without a `Date` beside it.
//!
//! # Cancel safety
//!
//! Dropping the future stops trying. The request may have taken effect. To find out, send it again under the same key. A
//! process that must survive its own crash chooses the key itself, and saves it before the first try.

mod budget;
mod clock;
mod config;
mod error;
mod event;
mod failure;
mod future;
mod kept;
mod key;
mod layer;
mod message;
mod policy;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod rules;
mod session;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::backoff::{Backoff, Jitter};

pub use budget::Budget;
pub use error::{Error, ErrorKind};
pub use event::{GiveUpReason, Next, Try, TryOutcome};
pub use future::ResponseFuture;
pub use kept::MAX_KEPT_BODY_BYTES;
pub use layer::{Retry, RetryLayer};
pub use message::{ClientRequest, ClientResponse};
pub use policy::HttpPolicy;
#[cfg(feature = "reqwest")]
pub use reqwest_client::ReqwestClient;
pub use rules::RetryWhen;

#[cfg(feature = "reqwest")]
#[doc(no_inline)]
pub use reqwest;
#[doc(no_inline)]
pub use {bytes, http, http_body, tower};

use config::{Config, Shared};
use event::Observer;
use key::Key;
use rules::Rules;

/// How a client retries. Clones, and what was created from them, share their budgets.
///
/// ```
/// use std::time::Duration;
/// use account_retry_policy::client::{Retries, RetryWhen};
/// use http::StatusCode;
///
/// let retries = Retries::new()
///     .deadline(Duration::from_secs(30))
///     .try_timeout(Duration::from_secs(5))
///     .on_status(StatusCode::LOCKED, RetryWhen::Always)
///     .on_try(|event| eprintln!("try {}: {:?}, {:?}", event.number, event.outcome, event.next));
/// ```
#[derive(Clone, Debug)]
pub struct Retries {
    config: Config,
    shared: Arc<Shared>,
}

impl Default for Retries {
    fn default() -> Self {
        Self::new()
    }
}

impl Retries {
    /// Returns 5 tries within 60 s, 20 s each, with an exponential backoff from 0.5 s to 10 s with
    /// [full jitter](Jitter::Full), and a budget for each host.
    pub fn new() -> Self {
        let config = Config {
            max_tries: nonzero(5),
            deadline: Duration::from_secs(60),
            try_timeout: Duration::from_secs(20),
            backoff: Backoff::exponential(Duration::from_millis(500), Duration::from_secs(10))
                .jitter(Jitter::Full, 0),
            rules: Rules::default(),
            key: Key::Header { name: key::IDEMPOTENCY_KEY, quoted: false },
            observer: None,
        };
        // The seed is random, so that clients that begin at the same moment do not wait in step.
        Self { config, shared: Shared::new(Some(Budget::default()), key::random()) }
    }

    /// Returns what mintfax asks of its clients: 5 tries with a backoff of `min(1 s · 2^n + up to 1 s, 30 s)`, after 500, 503
    /// and network errors, and after a 429 with `Retry-After`.
    pub fn mintfax() -> Self {
        let second = Duration::from_secs(1);
        let backoff = Backoff::exponential(second, 30 * second).jitter(Jitter::Additive(second), 0);
        let mut retries = Self::new().backoff(backoff).deadline(Duration::from_secs(120));
        for status in [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::BAD_GATEWAY,
            StatusCode::GATEWAY_TIMEOUT,
        ] {
            retries = retries.on_status(status, RetryWhen::Never);
        }
        retries.on_status(StatusCode::TOO_MANY_REQUESTS, RetryWhen::RetryAfter)
    }

    /// Returns what Stripe's own clients do: 3 tries with an exponential backoff from 0.5 s to 5 s with
    /// [equal jitter](Jitter::Equal). The header `Stripe-Should-Retry` overrides the table.
    pub fn stripe() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(5));
        let mut retries = Self::new()
            .max_tries(nonzero(3))
            .backoff(backoff.jitter(Jitter::Equal, 0))
            .try_timeout(Duration::from_secs(80))
            .deadline(Duration::from_secs(300));
        retries.config.rules.set(400..=499, RetryWhen::Never);
        retries.config.rules.set(409..=409, RetryWhen::Always);
        retries.config.rules.set(500..=599, RetryWhen::Always);
        retries.config.rules.override_by(HeaderName::from_static("stripe-should-retry"));
        retries
    }

    /// Returns what the AWS SDKs do in their standard mode: 3 tries with an exponential backoff from 1 s to 20 s with full
    /// jitter. There is no key: a request carries a client token of its own, or may take effect twice.
    pub fn aws() -> Self {
        let backoff =
            Backoff::exponential(Duration::from_secs(1), Duration::from_secs(20)).jitter(Jitter::Full, 0);
        let retries = Self::new().max_tries(nonzero(3)).backoff(backoff).without_key();
        retries.on_status(StatusCode::CONFLICT, RetryWhen::Never)
    }

    /// Sets the maximum of tries, the first one included. With 1, a body that can be sent only once is sent.
    #[doc(alias = "max_attempts")]
    #[must_use]
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.config.max_tries = tries;
        self
    }

    /// Sets the maximum time from the call to the head of the response, all tries and waits included.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = deadline;
        self
    }

    /// Sets the maximum time of one try, to the head of its response. A try ends at the deadline in any case.
    #[must_use]
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.config.try_timeout = timeout;
        self
    }

    /// Sets the waits between tries. The seed of the backoff is not used: see [`seed`](Self::seed).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// Sets the seed of the first request's jitter. Each further request uses the next number. Random unless set.
    ///
    /// For tests, and to reproduce waits afterwards. Begins the budgets anew.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.shared = self.shared.with_seed(seed);
        self
    }

    /// Sets the budget of each host, and begins the budgets anew. Set it once, and clone the result for everything that calls
    /// the same hosts.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.shared = self.shared.with_budget(Some(budget));
        self
    }

    /// Removes the budgets: every request gets its retries, also while a host is down.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.shared = self.shared.with_budget(None);
        self
    }

    /// Sets which responses with this status are retried.
    #[must_use]
    pub fn on_status(mut self, status: StatusCode, when: RetryWhen) -> Self {
        self.config.rules.set(status.as_u16()..=status.as_u16(), when);
        self
    }

    /// Sets the header that carries the key, `Idempotency-Key` by default.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.config.key =
            Key::Header { name, quoted: matches!(self.config.key, Key::Header { quoted: true, .. }) };
        self
    }

    /// Writes generated keys in quotes, for servers that read the header as a structured field (RFC 9651), as the IETF's
    /// draft for the header says.
    #[must_use]
    pub fn quoted_key(mut self) -> Self {
        if let Key::Header { quoted, .. } = &mut self.config.key {
            *quoted = true;
        }
        self
    }

    /// Generates no key, and retries any request without one: for servers that recognise a repeated request by something else
    /// in it. On any other server, the request may take effect twice.
    #[must_use]
    pub fn without_key(mut self) -> Self {
        self.config.key = Key::None;
        self
    }

    /// Sets a callback for every try, called when its outcome is known. Each is also a `tracing` event of level `DEBUG`.
    ///
    /// A try that is dropped with its future is not reported.
    #[doc(alias = "notify")]
    #[must_use]
    pub fn on_try(mut self, observer: impl Fn(&Try) + Send + Sync + 'static) -> Self {
        self.config.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Creates the layer. It generates keys, keeps the deadline and the timeouts, and retries.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { config: Arc::new(self.config.clone()), shared: Arc::clone(&self.shared) }
    }

    /// Creates the policy for [`tower::retry::Retry`]: the decisions alone. It generates no keys and sets no timeouts.
    pub fn policy(&self) -> HttpPolicy {
        HttpPolicy::new(Arc::new(self.config.clone()), Arc::clone(&self.shared))
    }
}

const fn nonzero(tries: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(tries - 1)
}
