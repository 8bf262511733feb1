//! Responses of extractors that failed, rendered by the contract.
//!
//! An extractor knows neither the contract nor why a request has no claim. It returns a generic
//! response with a [`HandlerError`] in its extensions. The layer replaces this response by one of
//! its contract.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

use crate::body::{ReplayBody, Replayable};
use crate::config::Config;
use crate::contract::Contract;
use crate::error::BoxError;
use crate::key::Key;
use crate::rejection::{Rejection, RejectionKind};
use crate::request_outcome::RequestOutcome;
use crate::trace;

/// The `Retry-After` of a 503.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// Why an extractor, or a [`CoCommitError`](crate::CoCommitError), answered instead of the handler.
#[derive(Clone)]
pub(crate) struct HandlerError {
    pub(crate) kind: RejectionKind,
    /// Whether a claim was missing. The layer knows why.
    pub(crate) needs_claim: bool,
    /// Whether no layer looked at the request.
    pub(crate) needs_layer: bool,
    pub(crate) source: Arc<dyn Error + Send + Sync>,
}

/// Why a request runs without a claim.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum NoClaim {
    /// The contract, or `Builder::when`, excludes it.
    NotConcerned,
    NoKey,
    StoreFailed,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the handler takes `Idempotency` or a `CoCommit`, but the layer passes its request through: `Contract::methods` or \
     `Builder::when` leaves it out"
)]
struct PassedThrough;

impl HandlerError {
    /// Returns a generic response. A layer, if there is one, replaces it.
    pub(crate) fn into_response(self) -> axum::response::Response {
        let contract = Contract::ietf();
        let rejection = self.rejection(&contract, self.kind);
        if !self.needs_claim {
            trace::rejected(&rejection);
        }
        let mut response = contract.answer(rejection, None).map(axum::body::Body::from);
        response.extensions_mut().insert(self);
        response
    }

    fn rejection(&self, contract: &Contract, kind: RejectionKind) -> Rejection {
        let rejection = contract.reject(kind).because(self.source.clone());
        if rejection.status().as_u16() == 503 { rejection.retry_after(RETRY_SOON) } else { rejection }
    }
}

/// The contract of a layer, and the reason why a request passes it without a claim.
pub(crate) struct Unclaimed {
    contract: Arc<dyn HasContract>,
    why: NoClaim,
}

/// The settings of a layer, without the type of its store.
trait HasContract: Send + Sync {
    fn contract(&self) -> &Contract;
}

impl<St: Send + Sync> HasContract for Config<St> {
    fn contract(&self) -> &Contract {
        &self.contract
    }
}

impl Unclaimed {
    pub(crate) fn new<St: Send + Sync + 'static>(config: &Arc<Config<St>>, why: NoClaim) -> Self {
        Self { contract: config.clone(), why }
    }

    /// Returns the response, or the contract's response if it carries a [`HandlerError`].
    pub(crate) fn answer<R: Replayable>(&self, response: Response<R>) -> Response<R> {
        let Some(error) = response.extensions().get::<HandlerError>().cloned() else { return response };
        let contract = self.contract.contract();
        let rejection = match self.why {
            NoClaim::NotConcerned if error.needs_layer => {
                contract.reject(error.kind).because(BoxError::from(PassedThrough))
            }
            NoClaim::NoKey if error.needs_claim => contract.reject(RejectionKind::KeyMissing),
            NoClaim::StoreFailed if error.needs_claim => {
                error.rejection(contract, RejectionKind::StoreUnavailable)
            }
            _ => error.rejection(contract, error.kind),
        };
        if error.needs_claim {
            trace::rejected(&rejection);
        }
        let outcome = RequestOutcome::Rejected(rejection.kind());
        let mut response = render(contract, rejection, None);
        response.extensions_mut().insert(outcome);
        if self.why == NoClaim::NotConcerned {
            // An outer layer may look at the request.
            response.extensions_mut().insert(error);
        }
        response
    }
}

/// Returns the response to a keyed request, or the contract's response if it carries a
/// [`HandlerError`].
pub(crate) fn answer<R: Replayable>(contract: &Contract, key: &Key, response: Response<R>) -> Response<R> {
    match response.extensions().get::<HandlerError>() {
        None => response,
        Some(error) => {
            let rejection = error.rejection(contract, error.kind);
            if error.needs_claim {
                trace::rejected(&rejection);
            }
            render(contract, rejection, Some(key))
        }
    }
}

fn render<R: Replayable>(contract: &Contract, rejection: Rejection, key: Option<&Key>) -> Response<R> {
    contract.answer(rejection, key).map(|bytes| R::from_replay(ReplayBody::read(bytes, None)))
}
