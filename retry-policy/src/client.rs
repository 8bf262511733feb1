//! Retries for HTTP clients that happen once: one `Idempotency-Key` for all tries of a request.
//!
//! [`Retries`] is the configuration. [`Retries::layer`] makes a Tower layer of it, for any client that is a
//! [`Service`](tower_service::Service) of [`http::Request`]s, and with the feature `reqwest` for `reqwest::Client` itself;
//! [`Retries::policy`] makes a [`tower::retry::Policy`] for those who build their own stack.
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
//!     let key = request.headers()["idempotency-key"].clone();
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
//! # What is tried again
//!
//! | came of a try | [`Retries::new`] | [`mintfax`](Retries::mintfax) | [`stripe`](Retries::stripe) | [`aws`](Retries::aws) |
//! |---|---|---|---|---|
//! | no answer: connection refused, cut, timed out | yes | yes | yes | yes |
//! | 500, 503 | yes | yes | yes | yes |
//! | 502, 504 | yes | no | yes | yes |
//! | other 5xx | no | no | yes | no |
//! | 429 | yes | with `Retry-After` | no | yes |
//! | 409 | with `Retry-After` | with `Retry-After` | yes | no |
//! | other 4xx, 3xx, 2xx | no | no | no | no |
//! | `Stripe-Should-Retry: true` or `false` | – | – | as it says | – |
//!
//! A 409 with `Retry-After` is how servers say that the same key still runs; one without says that the request conflicts
//! with something, which trying again does not change.
//!
//! A method that is not idempotent by itself (RFC 9110, section 9.2.2: POST, PATCH and unknown ones) is only ever sent a
//! second time under an idempotency key. The layer makes one, a random UUID, where there is none; the policy alone cannot,
//! and does not try such a request again. [`aws`](Retries::aws) knows no such header and tries without:
//! see [`Retries::without_key`].
//!
//! # What it promises, and where that ends
//!
//! | | promised | not |
//! |---|---|---|
//! | key | the same one on every try; one that was given is kept as it is | that the server honours it |
//! | wait | the backoff's, and never less than `Retry-After` asked, in either form | |
//! | deadline | nothing is waited for beyond it; a `Retry-After` that is longer than what is left fails at once ([`ErrorKind::RetryAfterTooLong`]) | that the server stops, too |
//! | budget | one for each host, shared by all clones of the layer; a retry that it does not cover is not made | shared between processes |
//! | body | one that cannot be sent twice is refused before it is sent once ([`ErrorKind::NotReplayable`]) | |
//! | answer | the last one, when the tries are used up, as if there had been one try | its body: whoever reads that may still fail |
//!
//! Durations are taken from the monotonic clock. The wall clock is read for one purpose: a `Retry-After` date without a
//! `Date` beside it to compare it with.
//!
//! # Cancel safety
//!
//! Dropping the future stops trying. The request may have taken effect: whoever wants to know sends it again under the same
//! key, which is why a process that must survive its own crash gives its key, and writes it down first.

mod budget;
mod clock;
mod error;
mod event;
mod layer;
mod message;
mod policy;
mod rules;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::backoff::{Backoff, Jitter};

pub use budget::Budget;
pub use error::{Error, ErrorKind};
pub use event::{Came, GaveUp, Next, Try};
pub use layer::{ResponseFuture, Retry, RetryLayer};
pub use message::{ClientRequest, ClientResponse};
pub use policy::HttpPolicy;
pub use rules::When;

use budget::Budgets;
use rules::Rules;

/// How a client tries again. Clones, and what was made from them, share their budgets.
#[derive(Clone, Debug)]
pub struct Retries {
    config: Config,
    shared: Arc<Shared>,
}

/// What does not change.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    max_tries: NonZeroU32,
    deadline: Duration,
    try_timeout: Duration,
    backoff: Backoff,
    rules: Rules,
    key: Key,
    observer: Option<event::Observer>,
}

/// What clones have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    budgets: Option<Budgets>,
    /// The seed of the next request's delays.
    seed: AtomicU64,
}

/// How a request is known to be the same one.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Header {
        name: HeaderName,
        quoted: bool,
    },
    /// By something within it, or not at all.
    None,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Default for Retries {
    fn default() -> Self {
        Self::new()
    }
}

impl Retries {
    /// 5 tries within 60 s, 20 s each, 0.5 s doubled up to 10 s between them with [full jitter](Jitter::Full), and a budget
    /// for each host.
    pub fn new() -> Self {
        let config = Config {
            max_tries: nonzero(5),
            deadline: Duration::from_mins(1),
            try_timeout: Duration::from_secs(20),
            backoff: Backoff::exponential(Duration::from_millis(500), Duration::from_secs(10))
                .jitter(Jitter::Full, 0),
            rules: Rules::default(),
            key: Key::Header { name: IDEMPOTENCY_KEY, quoted: false },
            observer: None,
        };
        Self { config, shared: Arc::new(Shared::new(Some(Budget::default()), random_seed())) }
    }

    /// As mintfax asks of its clients: `min(1 s · 2^n + up to 1 s, 30 s)` between 5 tries, after 500, 503 and network errors;
    /// after 429 when its `Retry-After` says so.
    pub fn mintfax() -> Self {
        let second = Duration::from_secs(1);
        let backoff = Backoff::exponential(second, 30 * second).jitter(Jitter::Additive(second), 0);
        let mut retries = Self::new().backoff(backoff).deadline(Duration::from_mins(2));
        for status in [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT] {
            retries = retries.on_status(status, When::Never);
        }
        retries.on_status(StatusCode::TOO_MANY_REQUESTS, When::RetryAfter)
    }

    /// As Stripe's own clients do it: 3 tries, 0.5 s doubled up to 5 s between them, half of it chance; and
    /// `Stripe-Should-Retry` over all rules.
    pub fn stripe() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(5));
        let mut retries = Self::new()
            .max_tries(nonzero(3))
            .backoff(backoff.jitter(Jitter::Equal, 0))
            .try_timeout(Duration::from_secs(80));
        retries.config.deadline = Duration::from_mins(5);
        retries.config.rules.set(500..=599, When::Always);
        retries.config.rules.set(429..=429, When::Never);
        retries.config.rules.set(409..=409, When::Always);
        retries.config.rules.obey(HeaderName::from_static("stripe-should-retry"));
        retries
    }

    /// As the AWS SDKs do it in their standard mode: 3 tries, 1 s doubled up to 20 s between them with full jitter. There is
    /// no key: a request carries its own client token, or may happen twice.
    pub fn aws() -> Self {
        let backoff =
            Backoff::exponential(Duration::from_secs(1), Duration::from_secs(20)).jitter(Jitter::Full, 0);
        let retries = Self::new().max_tries(nonzero(3)).backoff(backoff).without_key();
        retries.on_status(StatusCode::CONFLICT, When::Never)
    }

    /// Sets how often a request is sent, the first time included.
    #[must_use]
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.config.max_tries = tries;
        self
    }

    /// Sets how long it may all take, waits included, from the call to the head of the answer.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = deadline;
        self
    }

    /// Sets how long one try may take, to the head of its answer. No longer than the deadline leaves, in any case.
    #[must_use]
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.config.try_timeout = timeout;
        self
    }

    /// Sets the waits. The seed of the backoff is not used: see [`seed`](Self::seed).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// Sets the seed of the first request's jitter; the one after takes the next number. Random unless set.
    ///
    /// For tests, and for telling afterwards why it waited as it did. Begins a new budget.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        let budget = self.shared.budgets.as_ref().map(Budgets::each);
        self.shared = Arc::new(Shared::new(budget, seed));
        self
    }

    /// Sets what each host's retries may amount to; begins it anew. Made once, and cloned to all who talk to the same hosts.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.shared = Arc::new(Shared::new(Some(budget), self.shared.seed.load(Ordering::Relaxed)));
        self
    }

    /// Retries whatever that does to a host that is down.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.shared = Arc::new(Shared::new(None, self.shared.seed.load(Ordering::Relaxed)));
        self
    }

    /// Sets when an answer with this status is worth another try.
    #[must_use]
    pub fn on_status(mut self, status: StatusCode, when: When) -> Self {
        self.config.rules.set(status.as_u16()..=status.as_u16(), when);
        self
    }

    /// Sets the header that carries the key: `Idempotency-Key` unless set.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.config.key =
            Key::Header { name, quoted: matches!(self.config.key, Key::Header { quoted: true, .. }) };
        self
    }

    /// Writes keys that it makes in quotes, as servers want them that read the header as a structured field (RFC 9651; the
    /// IETF's draft for the header does).
    #[must_use]
    pub fn quoted_key(mut self) -> Self {
        if let Key::Header { quoted, .. } = &mut self.config.key {
            *quoted = true;
        }
        self
    }

    /// Makes no key, and tries any request again without one: for servers that know a repeated request by something else
    /// in it. To any other, it happens twice.
    #[must_use]
    pub fn without_key(mut self) -> Self {
        self.config.key = Key::None;
        self
    }

    /// Tells this of every try, when its outcome is known. There is an event in the log for each as well, at level `DEBUG`.
    #[must_use]
    pub fn on_try(mut self, observer: impl Fn(&Try) + Send + Sync + 'static) -> Self {
        self.config.observer = Some(event::Observer(Arc::new(observer)));
        self
    }

    /// The layer: makes keys, keeps deadlines and time-outs, and tries again.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { config: Arc::new(self.config.clone()), shared: Arc::clone(&self.shared) }
    }

    /// The decisions alone, for [`tower::retry::Retry`]. It makes no keys, and leaves time-outs to who calls; a
    /// `Retry-After` that is too long ends the tries with the answer that has it.
    pub fn policy(&self) -> HttpPolicy {
        HttpPolicy::new(Arc::new(self.config.clone()), Arc::clone(&self.shared))
    }
}

impl Shared {
    fn new(budget: Option<Budget>, seed: u64) -> Self {
        Self { budgets: budget.map(Budgets::new), seed: AtomicU64::new(seed) }
    }

    fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Ordering::Relaxed)
    }
}

const fn nonzero(tries: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(tries - 1)
}

/// Clients that begin at the same moment are not to wait in step.
fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}
