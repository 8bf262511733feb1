use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;
use tower::retry::Policy;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::timeout::error::Elapsed;

use super::event::{Came, GaveUp, Next, Try};
use super::message::{ClientRequest, ClientResponse};
use super::{Config, Key, Shared, clock};
use crate::retry_after::RetryAfter;

/// A [`tower::retry::Policy`] for HTTP requests: the decisions of [`Retries`](super::Retries), without its keys, time-outs
/// and errors.
///
/// It does not try a request again that could happen twice: one whose method is not idempotent, and that carries no key.
#[derive(Clone, Debug)]
pub struct HttpPolicy(Session);

impl HttpPolicy {
    pub(super) fn new(config: Arc<Config>, shared: Arc<Shared>) -> Self {
        Self(Session::new(config, shared))
    }
}

impl<Req: ClientRequest, Res: ClientResponse, E> Policy<Req, Res, E> for HttpPolicy {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, E>) -> Option<Sleep> {
        let outcome = match result {
            Ok(response) => Outcome::of(response),
            Err(_) => Outcome::without_answer(Came::Failure),
        };
        match self.0.next(request, &outcome) {
            Next::RetryIn(wait) => Some(sleep(wait)),
            Next::Done | Next::GiveUp(_) => None,
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        self.0.begin(request);
        request.try_clone()
    }
}

/// The tries of one request.
#[derive(Clone, Debug)]
pub(super) struct Session {
    config: Arc<Config>,
    shared: Arc<Shared>,
    /// Those that have ended.
    tries: u32,
    /// The rest is of the request, and set when it begins.
    began: Instant,
    seed: u64,
    budget: Option<Arc<TpsBudget>>,
}

/// What came of a try, as far as it matters.
struct Outcome<'a> {
    came: Came,
    headers: Option<&'a HeaderMap>,
}

impl Session {
    pub(super) fn new(config: Arc<Config>, shared: Arc<Shared>) -> Self {
        Self { config, shared, tries: 0, began: clock::now(), seed: 0, budget: None }
    }

    /// Before each try. Only the first of a request begins it: this may be the policy that all requests are cloned from,
    /// which counts none.
    fn begin<Req: ClientRequest>(&mut self, request: &Req) {
        if self.tries > 0 {
            return;
        }
        self.began = clock::now();
        self.seed = self.shared.next_seed();
        self.budget =
            self.shared.budgets.as_ref().map(|budgets| budgets.of(&request.host().unwrap_or_default()));
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    /// After each try: what is done about it. Whoever is to be told is told.
    fn next<Req: ClientRequest>(&mut self, request: &Req, outcome: &Outcome<'_>) -> Next {
        self.tries = self.tries.saturating_add(1);
        let elapsed = clock::now().duration_since(self.began);
        let next = self.decide(request, outcome, elapsed);
        let host = request.host().unwrap_or_default().into_owned();
        tracing::debug!(host, number = self.tries, ?elapsed, came = ?outcome.came, ?next, "try");
        if let Some(observer) = &self.config.observer {
            (observer.0)(&Try { host, number: self.tries, elapsed, came: outcome.came, next });
        }
        next
    }

    fn decide<Req: ClientRequest>(&self, request: &Req, outcome: &Outcome<'_>, elapsed: Duration) -> Next {
        let asked = outcome.retry_after();
        let worth_another = match outcome.came {
            Came::Answer(status) => outcome
                .headers
                .is_some_and(|headers| self.config.rules.worth_another(status, headers, asked.is_some())),
            Came::Failure | Came::Timeout => true,
            Came::Unsendable => false,
        };
        if !worth_another {
            return Next::Done;
        }
        if !self.may_be_repeated(request) {
            return Next::GiveUp(GaveUp::Unkeyed);
        }
        if self.tries >= self.config.max_tries.get() {
            return Next::GiveUp(GaveUp::Tries);
        }
        let left = self.config.deadline.saturating_sub(elapsed);
        if let Some(wait) = asked.filter(|wait| *wait >= left) {
            return Next::GiveUp(GaveUp::RetryAfterTooLong { wait, left });
        }
        let backoff = self.config.backoff.seed(self.seed).delay(self.tries - 1);
        let wait = backoff.max(asked.unwrap_or_default());
        if wait >= left {
            return Next::GiveUp(GaveUp::Deadline);
        }
        // Last, so that only a retry that is made is paid for.
        if self.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return Next::GiveUp(GaveUp::Budget);
        }
        Next::RetryIn(wait)
    }

    fn may_be_repeated<Req: ClientRequest>(&self, request: &Req) -> bool {
        match &self.config.key {
            Key::None => true,
            Key::Header { name, .. } => {
                request.method().is_idempotent() || request.headers().contains_key(name)
            }
        }
    }
}

/// Within the layer, where errors are boxed and a wait that is too long is one.
impl<Req: ClientRequest, Res: ClientResponse> Policy<Req, Res, BoxError> for Session {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, BoxError>) -> Option<Sleep> {
        let outcome = match result {
            Ok(response) => Outcome::of(response),
            Err(error) if error.is::<Elapsed>() => Outcome::without_answer(Came::Timeout),
            Err(error) if is_unsendable(error) => Outcome::without_answer(Came::Unsendable),
            Err(_) => Outcome::without_answer(Came::Failure),
        };
        match self.next(request, &outcome) {
            Next::RetryIn(wait) => Some(sleep(wait)),
            Next::GiveUp(GaveUp::RetryAfterTooLong { wait, left }) => {
                *result =
                    Err(Box::new(super::Error::new(super::ErrorKind::RetryAfterTooLong { wait, left })));
                None
            }
            Next::Done | Next::GiveUp(_) => None,
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        self.begin(request);
        request.try_clone()
    }
}

impl<'a> Outcome<'a> {
    fn of(response: &'a impl ClientResponse) -> Self {
        Self { came: Came::Answer(response.status()), headers: Some(response.headers()) }
    }

    fn without_answer(came: Came) -> Self {
        Self { came, headers: None }
    }

    /// How long the server asks to wait; `None` if it does not, or in words that cannot be read.
    fn retry_after(&self) -> Option<Duration> {
        let headers = self.headers?;
        let asked: RetryAfter = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        // A date is one of the server's clock, so that is what it is compared with.
        let now = headers.get(DATE).and_then(date).unwrap_or_else(clock::today);
        Some(asked.delay(now))
    }
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Whether it is the request that is at fault, and not the way to the server.
fn is_unsendable(error: &BoxError) -> bool {
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return error.is_builder() || error.is_redirect();
    }
    let _ = error;
    false
}
