use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::clock;
use super::config::{Config, Shared};
use super::event::{GiveUpReason, Next, Try, TryOutcome};
use super::message::ClientRequest;
use crate::retry_after::RetryAfter;

/// The tries of one request, and the decision after each.
#[derive(Clone, Debug)]
pub(super) struct Session {
    config: Arc<Config>,
    shared: Arc<Shared>,
    /// The number of tries that have ended.
    tries: u32,
    request: Option<RequestFacts>,
}

/// What the decisions need to know of the request, so that the last try can take the request itself.
#[derive(Clone, Debug)]
struct RequestFacts {
    host: String,
    is_repeatable: bool,
    began: Instant,
    seed: u64,
    budget: Option<Arc<TpsBudget>>,
}

impl Session {
    pub(super) fn new(config: Arc<Config>, shared: Arc<Shared>) -> Self {
        Self { config, shared, tries: 0, request: None }
    }

    /// Begins the request, before its first try. Has no effect before the others.
    pub(super) fn begin<Req: ClientRequest>(&mut self, request: &Req) {
        if self.tries > 0 {
            return;
        }
        let host = request.host().unwrap_or_default().into_owned();
        let budget = self.shared.budgets.as_ref().map(|budgets| budgets.of(&host));
        if let Some(budget) = &budget {
            budget.deposit();
        }
        self.request = Some(RequestFacts {
            host,
            is_repeatable: self.config.key.makes_repeatable(request),
            began: clock::now(),
            seed: self.shared.next_seed(),
            budget,
        });
    }

    /// Whether no other try follows the one that is about to begin.
    pub(super) fn is_last_try(&self) -> bool {
        self.tries + 1 >= self.config.max_tries.get()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Decides what follows a try, and reports the try.
    pub(super) fn end_try(&mut self, outcome: TryOutcome, headers: Option<&HeaderMap>) -> Next {
        self.report(outcome, |session, request, elapsed| session.decide(request, outcome, headers, elapsed))
    }

    /// Reports a try that the deadline ended.
    pub(super) fn end_at_deadline(&mut self) {
        self.report(TryOutcome::Timeout, |_, _, _| Next::GiveUp(GiveUpReason::Deadline));
    }

    fn report(
        &mut self,
        outcome: TryOutcome,
        decide: impl FnOnce(&Self, &RequestFacts, Duration) -> Next,
    ) -> Next {
        self.tries = self.tries.saturating_add(1);
        let Some(request) = &self.request else { return Next::Done };
        let elapsed = clock::now().duration_since(request.began);
        let next = decide(self, request, elapsed);
        let (host, number) = (&request.host, self.tries);
        tracing::debug!(host, number, ?elapsed, ?outcome, ?next, "try");
        if let Some(observer) = &self.config.observer {
            (observer.0)(&Try { host: host.clone(), number, elapsed, outcome, next });
        }
        next
    }

    fn decide(
        &self,
        request: &RequestFacts,
        outcome: TryOutcome,
        headers: Option<&HeaderMap>,
        elapsed: Duration,
    ) -> Next {
        let asked = headers.and_then(retry_after);
        let is_retryable = match outcome {
            TryOutcome::Response(status) => {
                headers.is_some_and(|headers| self.config.rules.retries(status, headers, asked.is_some()))
            }
            TryOutcome::NotSent | TryOutcome::Failed | TryOutcome::Timeout => true,
            TryOutcome::Permanent => false,
        };
        if !is_retryable {
            return Next::Done;
        }
        if !request.is_repeatable && outcome != TryOutcome::NotSent {
            return Next::GiveUp(GiveUpReason::NoKey);
        }
        if self.tries >= self.config.max_tries.get() {
            return Next::GiveUp(GiveUpReason::MaxTries);
        }
        let left = self.config.deadline.saturating_sub(elapsed);
        if let Some(wait) = asked.filter(|wait| *wait >= left) {
            return Next::GiveUp(GiveUpReason::RetryAfterTooLong { wait, left });
        }
        let backoff = self.config.backoff.seed(request.seed).delay(self.tries - 1);
        let wait = backoff.max(asked.unwrap_or_default());
        if wait >= left {
            return Next::GiveUp(GiveUpReason::Deadline);
        }
        // Last, so that only a retry that is made is paid for.
        if request.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return Next::GiveUp(GiveUpReason::Budget);
        }
        Next::RetryIn(wait)
    }
}

/// The wait that the server asks for, the longest if it asks for several; `None` if it asks for none in a readable form.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get_all(RETRY_AFTER).iter();
    let asked = asked.filter_map(|value| value.to_str().ok()?.parse::<RetryAfter>().ok());
    // A date is one of the server's clock, so it is compared with the server's clock if the response tells that.
    let now = || headers.get(DATE).and_then(date).unwrap_or_else(clock::today);
    asked.map(|asked| asked.delay(now())).max()
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}
