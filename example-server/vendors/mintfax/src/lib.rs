//! The mintfax API, under `/v1`: faxes, and the money they cost.

// Not published: a doc comment stands where a name does not say it all.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod account;
mod api;
mod carrier;
mod config;
mod definition;
mod delivery;
mod document;
mod envelope;
mod errors;
mod events;
mod fax;
mod faxes;
mod reference;
mod send_failure;
mod store;
mod submission;
mod uploads;
mod user;

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

pub use api::Api;
pub use definition::API;
pub use user::Mintfax;

use platform::route::Access::Key;
use platform::route::Route;

/// The whole API, below `/v1`.
pub fn routes() -> Vec<Route<Arc<Api>>> {
    let plain = |operation: UtoipaMethodRouter<Arc<Api>>| Route::of(operation, Key, false);
    let idempotent = |operation: UtoipaMethodRouter<Arc<Api>>| Route::of(operation, Key, true);
    vec![
        idempotent(routes!(faxes::send)).streaming(submission::MAX_BYTES),
        plain(routes!(faxes::list)),
        plain(routes!(faxes::one)),
        plain(routes!(faxes::alias)),
        plain(routes!(account::balance)),
        plain(routes!(account::settings)),
        plain(routes!(account::change_settings)),
    ]
}
