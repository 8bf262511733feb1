//! The `TXCloud` API, at the root and under `/v1`: identity, transaction, lending, business and
//! watchlist checks.
//!
//! The following is ours, because the vendor's pages do not specify it:
//!
//! - the format of `/kyb/verify`
//! - the codes `idempotency_key_conflict` and `idempotency_key_in_progress`
//! - which fields of a nested object are required, and the maximum lengths of texts
//! - the document types other than `cin` and `national_id`
//! - the event that `webhook_url` receives at the end of a verification, and its signature
//! - the names in `context`
//! - statuses that the vendor does not list, such as 503
//! - all rules of the sandbox (`sandbox.rs`)

// This crate is not published, so only items whose name does not say it all have a doc comment.
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

/// Returns the routes of the API, relative to the root and to `/v1`.
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
        // Not in the claim's transaction: with a test key it may wait, and SQLite has a single
        // writer.
        checks(routes!(sessions::create), IDENTITY_WRITE),
        reads(routes!(sessions::one), IDENTITY_READ),
        checks(routes!(transactions::score), TRANSACTIONS_WRITE),
        checks(routes!(lending::assess), LENDING_WRITE),
        checks(routes!(kyb::verify), KYB_WRITE),
        checks(routes!(watchlist::screen), WATCHLIST_WRITE),
    ]
}
