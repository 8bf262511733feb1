//! The `TXCloud` API, at the root and under `/v1`: checks of identities, transactions, borrowers, businesses and names.
//!
//! Where the vendor's pages are silent, this is ours: the shape of `/kyb/verify`; the codes `idempotency_key_conflict` and
//! `idempotency_key_in_progress`; which fields of a nested object are required, and how long texts may be; the types of
//! documents beside `cin` and `national_id`; that `webhook_url` is told of the end of a verification, and how that is signed;
//! the names in `context`; statuses and 503 that the vendor does not list; and all
//! rules of the sandbox (`sandbox.rs`).

// Not published: a doc comment stands where a name does not say it all.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod api;
mod background;
mod config;
mod country;
mod definition;
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
mod session;
mod sessions;
mod store;
mod transactions;
mod user;
mod verification;
mod watchlist;

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use platform::account::Permission;
use platform::route::{Access, Route};
use user::{IDENTITY_READ, IDENTITY_WRITE, KYB_WRITE, LENDING_WRITE, TRANSACTIONS_WRITE, WATCHLIST_WRITE};

pub use api::Api;
pub use definition::API;
pub use user::Txcloud;

/// The whole API, below the root and below `/v1`.
pub fn routes() -> Vec<Route<Arc<Api>>> {
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
        // Not in the claim's transaction: with a test key it may wait, and SQLite has one writer.
        checks(routes!(sessions::create), IDENTITY_WRITE),
        reads(routes!(sessions::one), IDENTITY_READ),
        checks(routes!(transactions::score), TRANSACTIONS_WRITE),
        checks(routes!(lending::assess), LENDING_WRITE),
        checks(routes!(kyb::verify), KYB_WRITE),
        checks(routes!(watchlist::screen), WATCHLIST_WRITE),
    ]
}
