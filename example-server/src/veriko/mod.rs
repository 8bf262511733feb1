//! The Veriko API, under `/v1`.

mod api;
mod body;
mod client_ref;
mod cycles;
mod envelope;
mod errors;
mod etag;
pub mod filter;
mod model;
pub mod payment;
mod rejection;
mod retries;
mod retry_policy;
mod retrying;
mod store;
mod time;
mod validate;
pub mod validation;
mod validations;

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post, put};

pub(crate) use api::Api;
pub(crate) use body::bound as bound_body;
pub use client_ref::ClientRef;
pub(crate) use envelope::{Context, envelop, method_not_allowed, not_found};
pub use errors::{Failure, Fault, FieldForm, Text};
pub use etag::ETag;
pub use filter::Filter;
pub use model::{Caps, Outcome, RetryPolicy, UnknownOutcome};
pub use payment::PaymentRequest;
pub(crate) use retrying::worker;
pub use validation::Validation;

use crate::accounts::Permission;

/// One row of the API: where, what, and what stands before it.
#[derive(Debug)]
pub(crate) struct Route {
    /// Below `/v1`.
    pub(crate) path: &'static str,
    pub(crate) handler: MethodRouter,
    /// `None`: any account may call.
    pub(crate) needs: Option<Permission>,
    /// Whether an `Idempotency-Key` means something here. It does on routes that change something and on no other.
    pub(crate) idempotent: bool,
}

/// The whole API.
pub(crate) fn routes(api: &Arc<Api>) -> Vec<Route> {
    use Permission::{Update, Validate};

    let route = |path, handler: MethodRouter<Arc<Api>>, needs, idempotent| {
        let handler = handler.with_state(Arc::clone(api));
        Route { path, handler, needs, idempotent }
    };
    vec![
        route("/users/me/retry-policy", get(retry_policy::read), None, false),
        route("/users/me/retry-policy", put(retry_policy::replace), None, true),
        route("/validate", post(validate::validate), Some(Validate), true),
        route("/validations", get(validations::list), None, false),
        route("/validations/{id}", get(validations::one), None, false),
        route("/validations/{id}/retry-attempts", get(validations::retry_attempts), None, false),
        route("/validations/{id}/retry-policy", put(retries::change), Some(Update), true),
        route("/validations/{id}/cancel-retries", post(retries::cancel), Some(Update), true),
    ]
}
