//! The Veriko API, under `/v1`.

mod body;
mod envelope;
mod errors;
mod model;
mod rejection;
mod retry_policy;

use std::sync::Arc;

use axum::routing::{MethodRouter, get, put};

pub(crate) use body::bound as bound_body;
pub(crate) use envelope::{Context, envelop, method_not_allowed, not_found};
pub(crate) use errors::Failure;
pub(crate) use model::{Caps, Outcome};

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
pub(crate) fn routes() -> Vec<Route> {
    let policies = Arc::new(model::RetryPolicies::default());
    let retry_policy = "/users/me/retry-policy";
    vec![
        Route {
            path: retry_policy,
            handler: get(retry_policy::read).with_state(Arc::clone(&policies)),
            needs: None,
            idempotent: false,
        },
        Route {
            path: retry_policy,
            handler: put(retry_policy::replace).with_state(policies),
            needs: None,
            idempotent: true,
        },
    ]
}
