//! `POST /v1/validate`: asks about a payment, keeps what came of it, and begins its retries.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;
use retry_scheduler::Scheduled;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::api::{Api, Asked, refuse, waking};
use super::body::Raw;
use super::envelope::{Context, Document};
use super::errors::Failure;
use super::model::{Caps, RetryPolicy};
use super::payment::PaymentRequest;
use super::store::usage::{self, Allowance};
use super::store::{policies, validations};
use super::validation::{Entity, Kind, RetryState, Status, Validation, ValidationAttributes};
use super::{cycles, described};
use crate::accounts::User;
use crate::cep::Verdict;
use crate::clock;
use crate::db::{Connection, Work};
use crate::fault;

/// Validates a payment by its fields.
///
/// Banxico is asked while the caller waits, and the answer is its verdict. One that may change (`not_found`,
/// `cep_unavailable`, `error`) is asked for again by the retry policy, the request's or else the account's.
#[utoipa::path(
    post, path = "/validate", operation_id = "validateDirect", tag = "Validations", request_body = described::PaymentRequest,
    params(Mode),
    responses(
        (status = 200, description = "The verdict", body = Document<Entity<ValidationAttributes>>),
        (status = 422, description = "required clave_or_ref_required invalid_date invalid_amount invalid_account_format \
            invalid_account_length invalid_clabe_checksum invalid_card_luhn invalid_bank_code intra_bank_no_cep \
            invalid_field_type invalid_client_ref retry_policy_invalid retry_pending_cap_exceeded async_not_supported"),
        (status = 429, description = "quota_exceeded"),
        (status = 503, description = "banxico_rate_limit_exhausted"),
    ),
)]
pub(super) async fn validate(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    RawQuery(query): RawQuery,
    work: Work,
    Raw(body): Raw,
) -> Response {
    let validation = async {
        if wants_async(query.as_deref().unwrap_or_default()) {
            return Err(Failure::async_not_supported());
        }
        carry_out(&api, &user, &work, PaymentRequest::parse(&body, user.caps())?).await
    };
    match validation.await {
        Ok(validation) => waking(&api, context.ok(&validation.resource())),
        Err(failure) => refuse(&context, &work, &failure).await,
    }
}

async fn carry_out(
    api: &Api,
    user: &User,
    work: &Work,
    request: PaymentRequest,
) -> Result<Validation, Failure> {
    let created_at = clock::timestamp();
    let policy = look_first(api, user, request.retry_policy.as_ref(), created_at).await?;
    // Nothing is held meanwhile: no connection, no lock.
    let asked = api.ask(&request.payment, 1).await;
    if asked.verdict == Verdict::RateLimited {
        return Err(Failure::banxico_rate_limit_exhausted());
    }
    fault::point("after-claim").await;
    let mut validation = of(user, request, asked, created_at);
    keep(api, user, work, &mut validation, &policy).await?;
    fault::point("before-commit").await;
    Ok(validation)
}

/// Refuses what would be refused afterwards too, before anybody is asked, and finds out which policy there is to be: the
/// request's, else the account's as far as the plan allows that today.
async fn look_first(
    api: &Api,
    user: &User,
    asked: Option<&RetryPolicy>,
    now: Timestamp,
) -> Result<RetryPolicy, Failure> {
    let mut reader = api.database.read().await?;
    let spent = usage::used(reader.connection(), user.id(), Allowance::Validations, now).await?;
    if spent >= u64::from(user.monthly_quota()) {
        return Err(Failure::quota_exceeded());
    }
    let policy = match asked {
        Some(policy) => policy.clone(),
        None => policies::load(reader.connection(), user.id()).await?.tightened(user.caps()).0,
    };
    if policy.is_enabled() {
        room_for_one(usage::pending(reader.connection(), user.id(), None).await?, user.caps())?;
    }
    Ok(policy)
}

/// Writes it all: the charge, the cycle and the validation.
async fn keep(
    api: &Api,
    user: &User,
    work: &Work,
    validation: &mut Validation,
    policy: &RetryPolicy,
) -> Result<(), Failure> {
    let mut transaction = work.begin().await?;
    let (granted, now) = (user.monthly_quota(), clock::timestamp());
    if !usage::charge(transaction.connection(), user.id(), Allowance::Validations, now, granted).await? {
        return Err(Failure::quota_exceeded());
    }
    if validation.status.outcome().is_some_and(|outcome| policy.retries_on(&outcome)) {
        let Validation { id, account, created_at, .. } = &*validation;
        validation.retry_state =
            begin(api, transaction.connection(), (*id, account), *created_at, policy, user.caps()).await?;
    }
    Ok(validations::insert(transaction.connection(), validation).await?)
}

/// Begins the retries of a validation that never had any, if the account has room for one more cycle.
pub(super) async fn begin(
    api: &Api,
    mut connection: Connection<'_>,
    (id, account): (Uuid, &str),
    created_at: Timestamp,
    policy: &RetryPolicy,
    caps: &Caps,
) -> Result<RetryState, Failure> {
    let Some(new) = cycles::new(id, account, created_at, policy, caps) else { return Ok(RetryState::None) };
    room_for_one(usage::pending_alone(connection.again(), account, id).await?, caps)?;
    let (Scheduled::New(cycle) | Scheduled::Exists(cycle)) = api.cycles.schedule_in(connection, new).await?;
    Ok(cycles::state(&cycle, policy, &RetryState::None))
}

/// Whether one more cycle can be pending beside so many.
pub(super) fn room_for_one(pending: u64, caps: &Caps) -> Result<(), Failure> {
    if pending < u64::from(caps.max_pending_per_user()) {
        Ok(())
    } else {
        Err(Failure::retry_pending_cap_exceeded())
    }
}

fn of(user: &User, request: PaymentRequest, asked: Asked, created_at: Timestamp) -> Validation {
    let Asked { verdict, took_ms } = asked;
    Validation {
        // In the order of creation: among those of one millisecond, lists go by it.
        id: Uuid::now_v7(),
        account: user.id().to_owned(),
        kind: Kind::Direct,
        payment: request.payment,
        status: Status::from(verdict),
        banxico_status: verdict.banxico_status(),
        processing_time_ms: Some(took_ms),
        created_at,
        completed_at: Some(clock::timestamp()),
        client_ref: request.client_ref,
        error_code: verdict.error_code().map(Into::into),
        error_message: verdict.error_message().map(Into::into),
        etag_version: 1,
        retry_state: RetryState::None,
    }
}

/// How to validate.
#[expect(dead_code, reason = "the field is read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Mode {
    /// Whether to answer at once, and to validate in the background.
    #[param(inline)]
    r#async: Option<Async>,
}

#[expect(dead_code, reason = "the variants are read by the derive alone")]
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Async {
    #[schema(rename = "0")]
    Zero,
    #[schema(rename = "1")]
    One,
    True,
    False,
    Yes,
}

/// `?async=1`, `true` or `yes`; the last one counts.
fn wants_async(query: &str) -> bool {
    let values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "async");
    values
        .last()
        .is_some_and(|(_, value)| ["1", "true", "yes"].iter().any(|yes| value.eq_ignore_ascii_case(yes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_is_asked_for_by_1_true_and_yes() {
        for (query, wanted) in [
            ("async=1", true),
            ("async=true", true),
            ("async=YES", true),
            ("x=1&async=1", true),
            ("async=0&async=1", true),
            ("async=1&async=0", false),
            ("async=0", false),
            ("async=", false),
            ("async", false),
            ("asynchronous=1", false),
            ("", false),
        ] {
            assert_eq!(wants_async(query), wanted, "{query}");
        }
    }
}
