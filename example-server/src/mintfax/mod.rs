//! The mintfax API, under `/v1`: faxes, and the money they cost.

mod account;
mod api;
mod carrier;
mod config;
mod delivery;
mod document;
mod errors;
mod events;
mod fax;
mod faxes;
mod frame;
mod reference;
mod store;
mod submission;
mod uploads;
mod user;

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

pub(crate) use api::Api;
pub(crate) use config::Config;
pub(crate) use uploads::Uploads;
pub(crate) use user::Mintfax;

use crate::route::Access::Key;
use crate::route::Route;
use crate::worker::Handlers;

/// Adds what makes the attempts of this API's cycles.
pub(crate) fn attempts(api: &Arc<Api>, handlers: &mut Handlers) {
    delivery::attempts(api, handlers);
    api.letters.attempts(handlers);
}

/// The whole API, below `/v1`.
pub(crate) fn routes() -> Vec<Route<Arc<Api>>> {
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
