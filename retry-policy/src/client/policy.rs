use std::sync::Arc;

use tokio::time::{Sleep, sleep};
use tower::retry::Policy;

use super::config::{Config, Shared};
use super::event::{Next, TryOutcome};
use super::failure;
use super::message::{ClientRequest, ClientResponse};
use super::session::Session;

/// A [`tower::retry::Policy`] for HTTP requests: the decisions of [`Retries`](super::Retries) without its keys, timeouts and
/// errors. Created by [`Retries::policy`](super::Retries::policy).
///
/// It does not repeat a request that could take effect twice: one whose method is not idempotent and that carries no key,
/// unless the error shows that the server did not process it. It recognises such errors of type [`std::io::Error`],
/// [`tower::BoxError`] and, with the feature `hyper`, hyper's and hyper-util's.
///
/// Tower's `Retry` clones a request before every try, and drops the response of a try that is followed by another.
#[derive(Clone, Debug)]
pub struct HttpPolicy(Session);

impl HttpPolicy {
    pub(super) fn new(config: Arc<Config>, shared: Arc<Shared>) -> Self {
        Self(Session::new(config, shared))
    }
}

impl<Req: ClientRequest, Res: ClientResponse, E: 'static> Policy<Req, Res, E> for HttpPolicy {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Req, result: &mut Result<Res, E>) -> Option<Sleep> {
        let next = match result {
            Ok(response) => self.0.end_try(TryOutcome::Response(response.status()), Some(response.headers())),
            Err(error) => self.0.end_try(failure::classify_any(error), None),
        };
        match next {
            Next::RetryIn(wait) => Some(sleep(wait)),
            Next::Done | Next::GiveUp(_) => None,
        }
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        // Tower calls this on the policy that it then copies for the request, whose number of tries is always 0.
        self.0.begin(request);
        request.try_clone()
    }
}
