//! The `TXCloud` API, at the root and under `/v1`: checks of identities, transactions, borrowers, businesses and names.
//!
//! Where the vendor's pages are silent, this is ours: the shape of `/kyb/verify`; the codes `idempotency_key_conflict` and
//! `idempotency_key_in_progress`; which fields of a nested object are required, and how long texts may be; the types of
//! documents beside `cin` and `national_id`; that `webhook_url` is told of the end of a verification, and how that is signed; the names in `context`; statuses and 503 that the vendor does not list; and all
//! rules of the [`sandbox`].

mod api;
mod background;
mod config;
mod country;
pub(crate) mod engines;
mod envelope;
mod errors;
mod events;
mod free_form;
mod identity;
mod ids;
mod kyb;
mod lending;
mod money;
mod reading;
mod reference;
mod sandbox;
mod sessions;
mod store;
mod transactions;
mod user;
mod verification;
mod watchlist;

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::accounts::Permission;
use crate::route::{Access, Route};
use crate::worker::Handlers;
use user::{IDENTITY_READ, IDENTITY_WRITE, KYB_WRITE, LENDING_WRITE, TRANSACTIONS_WRITE, WATCHLIST_WRITE};

pub(crate) use api::Api;
pub(crate) use config::Config;
pub(crate) use user::Txcloud;

/// Adds what makes the attempts of this API's cycles.
pub(crate) fn attempts(api: &Arc<Api>, handlers: &mut Handlers) {
    background::attempts(api, handlers);
    api.letters.attempts(handlers);
}

/// The whole API, below the root and below `/v1`.
pub(crate) fn routes() -> Vec<Route<Arc<Api>>> {
    let reads = |operation: UtoipaMethodRouter<Arc<Api>>, permission: Permission| {
        Route::of(operation, Access::Permission(permission), false)
    };
    let checks = |operation: UtoipaMethodRouter<Arc<Api>>, permission: Permission| {
        Route::of(operation, Access::Permission(permission), true)
    };
    vec![
        checks(routes!(identity::verify), IDENTITY_WRITE).with_large_bodies(),
        reads(routes!(identity::one), IDENTITY_READ),
        reads(routes!(identity::list), IDENTITY_READ),
        reads(routes!(identity::one_listed), IDENTITY_READ),
        checks(routes!(sessions::create), IDENTITY_WRITE),
        reads(routes!(sessions::one), IDENTITY_READ),
        checks(routes!(transactions::score), TRANSACTIONS_WRITE),
        checks(routes!(lending::assess), LENDING_WRITE),
        checks(routes!(kyb::verify), KYB_WRITE),
        checks(routes!(watchlist::screen), WATCHLIST_WRITE),
    ]
}
