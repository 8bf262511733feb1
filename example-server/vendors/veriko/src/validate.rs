//! `POST /v1/validate`: queries Banxico about a payment, stores the verdict and starts the retries,
//! or leaves all of this to the [queue](super::queue).

use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderValue, header};
use jiff::Timestamp;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::api::{Api, Call};
use super::body::Raw;
use super::client_ref::ClientRef;
use super::cycles::Terms;
use super::envelope::{Context, Envelope};
use super::errors::Failure;
use super::model::RetryPolicy;
use super::payment::PaymentRequest;
use super::queue;
use super::quota::{ensure_retry_capacity, insert_charged, quota_exceeded, room_for_one};
use super::store::standing::{self, Standing};
use super::store::{quota, usage};
use super::user::User;
use super::validation::{
    Entity, KeptCep, Kind, LinkedEntity, QueuedAttributes, RetryState, Status, Validation,
    ValidationAttributes,
};
use super::validations::Poll;
use super::webhooks::announce_verdict;
use super::{described, verdict};
use crate::cep::{BanxicoStatus, CepVerdict, Payment};
use platform::clock;
use platform::db::RequestTransaction;
use platform::failpoint;

/// Validates a payment by its fields.
///
/// The response is Banxico's verdict, for which the caller waits. A verdict that may change
/// (`not_found`, `cep_unavailable`, `error`) is retried by the policy of the request, or else by
/// the account's.
///
/// With `?async=1`, the response is 202 at once, and Banxico is queried in the background. The
/// quota is charged when the validation is accepted. A validation that has no verdict by its
/// `expires_at` (by default, an hour later) ends as an `error` with the `error_code` `ttl_expired`.
#[utoipa::path(
    post, path = "/validate", operation_id = "validateDirect", tag = "Validations", request_body = described::PaymentRequest,
    params(Query),
    responses(
        (status = 200, description = "The verdict", body = Envelope<LinkedEntity<ValidationAttributes>>),
        (status = 202, description = "The validation is in the queue", body = Envelope<Entity<QueuedAttributes>, Poll>,
         headers(("ETag" = String, description = "`W/\"0-queued\"`"),
                 ("Location" = String, description = "The path of the validation"))),
        (status = 422, description = "required clave_or_ref_required invalid_date invalid_amount invalid_account_format \
            invalid_account_length invalid_clabe_checksum invalid_card_luhn invalid_bank_code intra_bank_no_cep \
            invalid_field_type invalid_receptor_participante cuentas_candidatas_not_supported \
            cuenta_y_candidatas_excluyentes invalid_client_ref retry_policy_invalid retry_pending_cap_exceeded"),
        (status = 429, description = "quota_exceeded"),
        (status = 503, description = "banxico_rate_limit_exhausted"),
    ),
)]
pub(super) async fn validate(
    Call { api, user, context }: Call,
    RawQuery(query): RawQuery,
    transaction: RequestTransaction,
    Raw(body): Raw,
) -> Response {
    let validation = async {
        let created_at = clock::timestamp();
        let PaymentRequest { payment, client_ref, retry_policy } = PaymentRequest::parse(&body, user.caps())?;
        let policy = check_quota_and_policy(&api, &user, retry_policy, created_at).await?;
        let validation = new_validation(&user, Kind::Direct, payment, client_ref, created_at);
        let mode = Mode::asked_for(query.as_deref());
        run_or_enqueue(&api, &user, &transaction, validation, policy, mode).await
    };
    answer(&context, validation.await)
}

/// Whether the caller waits for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Foreground,
    Background,
}

impl Mode {
    /// Parses `?async=`: `1`, `true` and `yes` select the background. If it is given several times,
    /// the last one counts.
    pub(super) fn asked_for(query: Option<&str>) -> Self {
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let background = parameters
            .filter(|(name, _)| name == "async")
            .last()
            .is_some_and(|(_, value)| ["1", "true", "yes"].iter().any(|yes| value.eq_ignore_ascii_case(yes)));
        if background { Self::Background } else { Self::Foreground }
    }
}

/// Queries the provider and stores the verdict, or puts the validation into the queue.
pub(super) async fn run_or_enqueue(
    api: &Api,
    user: &User,
    transaction: &RequestTransaction,
    mut validation: Validation,
    policy: RetryPolicy,
    mode: Mode,
) -> Result<Validation, Failure> {
    if mode == Mode::Background {
        queue::enqueue(api, user, transaction, &mut validation, policy).await?;
    } else {
        // No connection or lock is held during the query.
        let asked = api.ask(&validation.payment, 1).await;
        if asked.verdict == CepVerdict::RateLimited {
            let failure = Failure::banxico_rate_limit_exhausted();
            return Err(match asked.retry_after {
                Some(wait) => failure.retry_after(wait),
                None => failure,
            });
        }
        failpoint::hit("after-claim").await;
        verdict::write(&mut validation, asked);
        validation.etag_version = 1;
        keep(api, user, transaction, &mut validation, &policy).await?;
    }
    failpoint::hit("before-commit").await;
    Ok(validation)
}

/// Returns the response to a request for a validation: 200 with the verdict, or 202 if there is
/// none yet.
pub(super) fn answer(context: &Context, validation: Result<Validation, Failure>) -> Response {
    let validation = match validation {
        Ok(validation) => validation,
        Err(failure) => return context.fail(&failure),
    };
    if validation.status.is_final() {
        return context.ok(&validation.resource());
    }
    let mut response = context.accepted_with(&validation.queued(), &Poll::of(&validation));
    let location =
        HeaderValue::try_from(validation.location()).expect("a path with a UUID is a valid header value");
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::ETAG, HeaderValue::from(validation.etag()));
    response
}

/// Rejects, before the query, what would be rejected after it anyway. Returns the policy to use:
/// the request's, otherwise the account's within the present limits of its plan.
pub(super) async fn check_quota_and_policy(
    api: &Api,
    user: &User,
    asked: Option<RetryPolicy>,
    now: Timestamp,
) -> Result<RetryPolicy, Failure> {
    let (month, granted) = (quota::month(now), user.monthly_quota());
    let mut reader = api.database.read().await?;
    let Standing { quota, policy } = standing::load(reader.connection(), user.id(), &month).await?;
    if quota.used >= u64::from(granted) {
        return Err(quota_exceeded(now));
    }
    let policy = asked.unwrap_or_else(|| policy.tightened(user.caps()).0);
    if policy.is_enabled() {
        room_for_one(usage::pending(reader.connection(), user.id(), None).await?, user.caps())?;
    }
    // The first request of the month, or of a new plan.
    if quota.granted != Some(granted.into()) {
        drop(reader);
        quota::divide(&api.database, user.id(), &month, granted).await?;
    }
    Ok(policy)
}

/// Stores the charge, the cycle, the validation with its CEP, and the webhook events, in one
/// transaction.
async fn keep(
    api: &Api,
    user: &User,
    transaction: &RequestTransaction,
    validation: &mut Validation,
    policy: &RetryPolicy,
) -> Result<(), Failure> {
    transaction
        .run(async |tx| {
            if verdict::is_retried(validation, policy) {
                ensure_retry_capacity(tx.connection(), validation, user.caps()).await?;
            }
            let terms = Terms::of(user.caps());
            verdict::begin_retries(api, tx.connection(), validation, policy, terms).await?;
            // This locks a share of the quota until the commit, so it comes last.
            if insert_charged(tx.connection(), user, validation).await? {
                announce_verdict(api, tx.connection(), validation).await?;
            }
            Ok(())
        })
        .await
}

/// Creates a validation that has not been processed yet.
pub(super) fn new_validation(
    user: &User,
    kind: Kind,
    payment: Payment,
    client_ref: Option<ClientRef>,
    created_at: Timestamp,
) -> Validation {
    Validation {
        // UUIDv7 follows the order of creation, so lists use it to order validations of the same
        // millisecond.
        id: Uuid::now_v7(),
        account: user.id().to_owned(),
        kind,
        payment,
        status: Status::Queued,
        banxico_status: BanxicoStatus::Pending,
        processing_time_ms: None,
        created_at,
        completed_at: None,
        client_ref,
        error_code: None,
        error_message: None,
        cep: KeptCep::None,
        etag_version: 0,
        retry_state: RetryState::None,
        queue: None,
        ocr: None,
        image: None,
    }
}

/// The query parameters.
#[expect(dead_code, reason = "the field is read by the derive alone")]
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Whether to respond at once and validate in the background.
    #[param(inline)]
    r#async: Option<Async>,
}

#[expect(dead_code, reason = "the variants are read by the derive alone")]
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Async {
    #[schema(rename = "0")]
    Zero,
    #[schema(rename = "1")]
    One,
    True,
    False,
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_is_selected_by_1_true_and_yes() {
        for (query, background) in [
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
            assert_eq!(Mode::asked_for(Some(query)) == Mode::Background, background, "{query}");
        }
        assert_eq!(Mode::asked_for(None), Mode::Foreground);
    }
}
