//! The mintfax API, under `/v1`: fax sending and billing.

// This crate is not published, so only items whose name does not say it all have a doc comment.
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

/// Returns the routes of the API, relative to `/v1`.
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
