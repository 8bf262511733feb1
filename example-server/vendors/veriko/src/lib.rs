//! The Veriko API, under `/v1`: verifies SPEI payments by their CEPs.

// This crate is not published, so only items whose names do not explain them are documented.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod api;
mod banks;
mod banxico_status;
mod body;
pub mod cep;
mod ceps;
mod client_ref;
mod config;
mod cycles;
mod definition;
mod described;
mod envelope;
mod errors;
mod etag;
pub mod filter;
mod images;
mod model;
pub mod ocr;
pub mod payment;
mod profile;
mod query;
mod queue;
mod quota;
mod reference;
mod rejection;
mod retries;
mod retry_policy;
mod retrying;
mod store;
mod usage;
mod user;
mod validate;
mod validate_ocr;
pub mod validation;
mod validations;
mod verdict;
mod webhooks;

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

pub use api::Api;
pub use client_ref::ClientRef;
pub use definition::API;
pub use errors::{Failure, FieldError, FieldForm, Text};
pub use etag::ETag;
pub use filter::Filter;
pub use model::{Caps, Outcome, RetryPolicy, UnknownOutcome};
pub use payment::PaymentRequest;
pub use user::Veriko;
pub use validation::Validation;

use self::user::{
    CREATE_WEBHOOKS, DELETE_WEBHOOKS, READ_WEBHOOKS, UPDATE, UPDATE_WEBHOOKS, VALIDATE, VALIDATE_OCR,
};
use platform::route::Access::{Key, Permission, Public};
use platform::route::{Access, Route};

/// Returns the routes of the whole API, relative to `/v1`.
pub fn routes() -> Vec<Route<Arc<Api>>> {
    let non_idempotent =
        |operation: UtoipaMethodRouter<Arc<Api>>, access: Access| Route::of(operation, access, false);
    let idempotent =
        |operation: UtoipaMethodRouter<Arc<Api>>, access: Access| Route::of(operation, access, true);
    vec![
        non_idempotent(routes!(profile::read), Key),
        non_idempotent(routes!(retry_policy::read), Key),
        idempotent(routes!(retry_policy::replace), Key).in_transaction(),
        idempotent(routes!(validate::validate), Permission(VALIDATE)),
        idempotent(routes!(validate_ocr::validate), Permission(VALIDATE_OCR)).with_large_bodies(),
        non_idempotent(routes!(validations::list), Key),
        non_idempotent(routes!(validations::one), Key),
        non_idempotent(routes!(validations::retry_attempts), Key),
        non_idempotent(routes!(ceps::download), Key),
        non_idempotent(routes!(images::download), Key),
        idempotent(routes!(retries::change), Permission(UPDATE)).in_transaction(),
        idempotent(routes!(retries::cancel), Permission(UPDATE)).in_transaction(),
        non_idempotent(routes!(usage::summary), Key),
        non_idempotent(routes!(usage::limits), Key),
        non_idempotent(routes!(banxico_status::read), Key),
        non_idempotent(routes!(banks::list), Public),
        non_idempotent(routes!(webhooks::endpoints::list), Permission(READ_WEBHOOKS)),
        non_idempotent(routes!(webhooks::endpoints::create), Permission(CREATE_WEBHOOKS)),
        non_idempotent(routes!(webhooks::endpoints::update), Permission(UPDATE_WEBHOOKS)),
        non_idempotent(routes!(webhooks::endpoints::delete), Permission(DELETE_WEBHOOKS)),
        non_idempotent(routes!(webhooks::endpoints::test), Permission(UPDATE_WEBHOOKS)),
        non_idempotent(routes!(webhooks::endpoints::regenerate_secret), Permission(UPDATE_WEBHOOKS)),
        non_idempotent(routes!(webhooks::deliveries::all), Permission(READ_WEBHOOKS)),
        non_idempotent(routes!(webhooks::deliveries::of_one), Permission(READ_WEBHOOKS)),
    ]
}
