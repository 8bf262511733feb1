//! `GET` and `PUT /v1/users/me/retry-policy`: the account's default retry policy.

use account_retry_policy::{Field, Reason, RetryPolicyInput, Violation, Violations};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::api::Call;
use super::body::Json;
use super::described;
use super::envelope::{Envelope, Resource};
use super::errors::{Failure, FieldError, Text};
use super::model::{Caps, RetryPolicy};
use super::store::policies;
use platform::clock;
use platform::db::RequestTransaction;

/// Reads the account's retry policy and the limits of its plan.
#[utoipa::path(
    get, path = "/users/me/retry-policy", operation_id = "getMyRetryPolicy", tag = "Users",
    responses((status = 200, description = "The policy", body = Envelope<Resource<described::RetryPolicy>, WithCaps>)),
)]
pub(super) async fn read(Call { api, user, context }: Call) -> Response {
    let saved = async {
        let mut reader = api.database.read().await?;
        policies::load(reader.connection(), user.id()).await
    };
    match saved.await {
        Ok(policy) => context.ok_with(&resource(policy), &WithCaps { caps: user.caps() }),
        Err(error) => context.fail(&Failure::unavailable(&error)),
    }
}

/// Replaces the account's retry policy.
///
/// It applies to every validation that has no policy of its own. Values are not clamped: if the
/// policy exceeds the plan's limits, it is rejected with all its violations.
#[utoipa::path(
    put, path = "/users/me/retry-policy", operation_id = "updateMyRetryPolicy", tag = "Users",
    request_body = described::RetryPolicyRequest,
    responses(
        (status = 200, description = "The saved policy", body = Envelope<Resource<described::RetryPolicy>>),
        (status = 422, description = "retry_policy_invalid"),
    ),
)]
pub(super) async fn replace(
    Call { user, context, .. }: Call,
    transaction: RequestTransaction,
    Json(body): Json,
) -> Response {
    let policy = match input(&body).parse(user.caps()) {
        Ok(policy) => policy,
        Err(violations) => return context.fail(&refusal(violations)),
    };
    match save(&transaction, user.id(), &policy).await {
        Ok(()) => {
            metrics::counter!("veriko_retry_policies_saved_total").increment(1);
            context.ok(&resource(policy))
        }
        Err(failure) => context.fail(&failure),
    }
}

/// The limits of the plan.
#[derive(Serialize, ToSchema)]
struct WithCaps<'a> {
    #[schema(value_type = described::Caps)]
    caps: &'a Caps,
}

async fn save(transaction: &RequestTransaction, account: &str, policy: &RetryPolicy) -> Result<(), Failure> {
    let now = clock::epoch_millis();
    transaction.run(async |tx| Ok(policies::save(tx.connection(), account, policy, now).await?)).await
}

fn resource(policy: RetryPolicy) -> Resource<RetryPolicy> {
    Resource { r#type: "retry_policy", attributes: policy }
}

/// Returns the policy in the field `retry_policy`. A missing field is taken as `null`, which is
/// rejected as not being an object.
pub(super) fn input(body: &Value) -> RetryPolicyInput {
    let asked = body.get("retry_policy").unwrap_or(&Value::Null);
    RetryPolicyInput::deserialize(asked).expect("any JSON value deserialises into the input")
}

/// Creates the failure for an invalid policy, with its violations in both forms.
pub(super) fn refusal(violations: Violations) -> Failure {
    let errors = violations.iter().map(|violation| FieldError {
        code: "retry_policy_invalid",
        detail: Text { english: violation.to_string().into(), spanish: in_spanish(violation).into() },
        pointer: Some(match violation.field() {
            Field::Policy => "/data/attributes/retry_policy".to_owned(),
            field => format!("/data/attributes/retry_policy/{field}"),
        }),
    });
    let failure = Failure::unprocessable(errors.collect());
    Failure { violations: Some(violations), ..failure }
}

/// Returns the violation in Spanish, as its `Display` says it in English.
fn in_spanish(violation: &Violation) -> String {
    let name = violation.field();
    let place = violation.index().map(|index| format!("[{index}]")).unwrap_or_default();
    let wanted = wanted_in_spanish(violation);
    match violation.reason() {
        Reason::Required => format!("{name}{place} es obligatorio: {wanted}"),
        Reason::Duplicate => format!("{name}{place} repite un resultado: cada uno se puede dar una vez"),
        Reason::PlanAllowsNone => format!("{name}{place} no se puede fijar: el plan no permite reintentos"),
        Reason::TooMany => {
            format!(
                "{name}{place} tiene demasiados elementos: como máximo {}",
                violation.max().unwrap_or_default()
            )
        }
        _ => format!("{name}{place} debe ser {wanted}"),
    }
}

fn wanted_in_spanish(violation: &Violation) -> String {
    let allowed = || violation.allowed().unwrap_or_default().join(", ");
    match (violation.field(), violation.min(), violation.max(), violation.index()) {
        (Field::Policy, ..) => "un objeto".to_owned(),
        (Field::Enabled, ..) => "true o false".to_owned(),
        (Field::Outcomes, .., Some(_)) => format!("uno de {}", allowed()),
        (Field::Outcomes, ..) => format!("una lista no vacía de {}", allowed()),
        (_, Some(min), Some(max), _) => format!("un entero de {min} a {max}"),
        _ => "un entero".to_owned(),
    }
}
