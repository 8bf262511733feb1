//! The handlers of `GET /v1/account/balance` and `GET` and `PUT /v1/account/fax-settings`.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Call;
use super::errors::{Failure, FieldErrors};
use super::fax::MAX_RETRIES;
use super::faxes::default_retries;
use super::store::{balances, settings};
use platform::json::{FieldValue, Fields};

/// Returns the account's balance, and how much is held for faxes in progress.
#[utoipa::path(
    get, path = "/account/balance", operation_id = "getBalance", tag = "Account",
    responses((status = 200, description = "The balance", body = Balance)),
)]
pub(super) async fn balance(Call { api, user, context }: Call) -> Response {
    let balance = async {
        let mut reader = api.database.read().await?;
        let balance = balances::load(reader.connection(), user.owner()).await?;
        let opening = Balance { available: api.config.opening_balance_cents.into(), held: 0 };
        Ok(balance.map_or(opening, |balance| Balance { available: balance.available, held: balance.held }))
    };
    context.answer(balance.await)
}

/// Returns the default settings for faxes.
#[utoipa::path(
    get, path = "/account/fax-settings", operation_id = "getFaxSettings", tag = "Account",
    responses((status = 200, description = "The settings", body = FaxSettings)),
)]
pub(super) async fn settings(Call { api, user, context }: Call) -> Response {
    let retries = default_retries(&api, user.owner()).await;
    context.answer(retries.map(|retries| FaxSettings { retries }))
}

/// Changes the default settings for faxes.
#[utoipa::path(
    put, path = "/account/fax-settings", operation_id = "updateFaxSettings", tag = "Account",
    request_body = FaxSettings,
    responses(
        (status = 200, description = "The saved settings", body = FaxSettings),
        (status = 422, description = "validation_failed"),
    ),
)]
pub(super) async fn change_settings(
    Call { api, user, context }: Call,
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

/// The account's balance, in cents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Balance {
    /// Available for new faxes.
    #[schema(example = 4550)]
    available: i64,
    /// Held for faxes in progress.
    #[schema(example = 450)]
    held: u64,
}

/// The default settings for faxes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FaxSettings {
    /// How often a failed fax is retried, unless the request says otherwise.
    #[schema(minimum = 0, maximum = 10, example = 3)]
    retries: u8,
}

impl FaxSettings {
    fn parse(body: &[u8]) -> Result<Self, Failure> {
        let malformed = |_| Failure::bad_request("The request body is not JSON.");
        let retries = match Fields::read(body).map_err(malformed)?.get("retries").map_err(malformed)? {
            FieldValue::Number(text) => text.parse().ok().filter(|retries| *retries <= MAX_RETRIES),
            FieldValue::Missing => {
                return Err(FieldErrors::of("retries", "The retries field is required.").into());
            }
            FieldValue::Text(_) | FieldValue::Other => None,
        };
        retries.map(|retries| Self { retries }).ok_or_else(|| {
            let message = format!("The retries field must be a whole number from 0 to {MAX_RETRIES}.");
            FieldErrors::of("retries", message).into()
        })
    }
}

fn unreadable(error: &BytesRejection) -> Failure {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::file_too_large(),
        _ => Failure::unreadable(error),
    }
}
