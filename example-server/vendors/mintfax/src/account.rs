//! `GET /v1/account/balance`, `GET` and `PUT /v1/account/fax-settings`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Api;
use super::envelope::Context;
use super::errors::{Failure, FieldFaults};
use super::fax::MAX_RETRIES;
use super::faxes::default_retries;
use super::store::{balances, settings};
use super::user::User;
use platform::json::{FieldValue, Fields};

/// Reads what the account has, and what of it is held for faxes that are under way.
#[utoipa::path(
    get, path = "/account/balance", operation_id = "getBalance", tag = "Account",
    responses((status = 200, description = "The balance", body = Balance)),
)]
pub(super) async fn balance(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let balance = async {
        let mut reader = api.database.read().await?;
        let balance = balances::load(reader.connection(), user.owner()).await?;
        let opening = Balance { available: api.config.opening_balance_cents.into(), held: 0 };
        Ok(balance.map_or(opening, |balance| Balance { available: balance.available, held: balance.held }))
    };
    context.answer(balance.await)
}

/// Reads what holds for every fax that does not say otherwise.
#[utoipa::path(
    get, path = "/account/fax-settings", operation_id = "getFaxSettings", tag = "Account",
    responses((status = 200, description = "The settings", body = FaxSettings)),
)]
pub(super) async fn settings(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let retries = default_retries(&api, user.owner()).await;
    context.answer(retries.map(|retries| FaxSettings { retries }))
}

/// Saves what holds for every fax that does not say otherwise.
#[utoipa::path(
    put, path = "/account/fax-settings", operation_id = "updateFaxSettings", tag = "Account",
    request_body = FaxSettings,
    responses(
        (status = 200, description = "The settings as they are saved", body = FaxSettings),
        (status = 422, description = "validation_failed"),
    ),
)]
pub(super) async fn change_settings(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let saved = async {
        let settings = FaxSettings::parse(&body.map_err(|error| unreadable(&error))?)?;
        let mut transaction = api.database.begin().await?;
        settings::set_retries(transaction.connection(), user.owner(), settings.retries).await?;
        transaction.commit().await?;
        Ok(settings)
    };
    context.answer(saved.await)
}

/// In cents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Balance {
    /// For more faxes.
    #[schema(example = 4550)]
    available: i64,
    /// For faxes that are under way.
    #[schema(example = 450)]
    held: u64,
}

/// What holds for every fax that does not say otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FaxSettings {
    /// How often a fax is tried again.
    #[schema(minimum = 0, maximum = 10, example = 3)]
    retries: u8,
}

impl FaxSettings {
    fn parse(body: &[u8]) -> Result<Self, Failure> {
        let malformed = |_| Failure::bad_request("The request body is not JSON.");
        let retries = match Fields::read(body).map_err(malformed)?.get("retries").map_err(malformed)? {
            FieldValue::Number(text) => text.parse().ok().filter(|retries| *retries <= MAX_RETRIES),
            FieldValue::Missing => {
                return Err(FieldFaults::of("retries", "The retries field is required.").into());
            }
            FieldValue::Text(_) | FieldValue::Other => None,
        };
        retries.map(|retries| Self { retries }).ok_or_else(|| {
            let message = format!("The retries field must be a whole number from 0 to {MAX_RETRIES}.");
            FieldFaults::of("retries", message).into()
        })
    }
}

fn unreadable(error: &BytesRejection) -> Failure {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::file_too_large(),
        _ => Failure::unreadable(error),
    }
}
