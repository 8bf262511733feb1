//! Changing the retries of a validation: `PUT /v1/validations/{id}/retry-policy` and
//! `POST …/cancel-retries`.

use account_retry_policy::RetryPolicyInput;
use axum::extract::Path;
use axum::response::Response;
use retry_scheduler::{Cancelled, Rescheduled, SchedulerError};
use uuid::Uuid;

use super::api::{Api, Call};
use super::body::Json;
use super::cycles::{self, Terms};
use super::envelope::{Context, Envelope};
use super::errors::Failure;
use super::model::{Caps, RetryPolicy};
use super::quota::ensure_retry_capacity;
use super::retry_policy::{input, refusal};
use super::retrying::complete_history;
use super::store::validations;
use super::user::User;
use super::validation::{Ending, Entity, RetryState, RetryStateAttributes, Validation};
use super::webhooks::announce_retry;
use super::{described, verdict};
use platform::db::{Connection, RequestTransaction};
use platform::{clock, failpoint};

/// Starts, changes, disables or reactivates the retries of one validation.
#[utoipa::path(
    put, path = "/validations/{id}/retry-policy", operation_id = "updateValidationRetryPolicy", tag = "Validations",
    request_body = described::RetryPolicyRequest,
    responses(
        (status = 200, description = "The new state of the retries", body = Envelope<Entity<RetryStateAttributes>>),
        (status = 422, description = "retry_policy_invalid retry_not_applicable retry_already_resolved retry_age_exceeded \
            retry_pending_cap_exceeded reactivation_cap_exceeded"),
    ),
)]
pub(super) async fn change(
    Call { api, user, context }: Call,
    Path(id): Path<String>,
    transaction: RequestTransaction,
    Json(body): Json,
) -> Response {
    let changed = async {
        let id = Validation::parse_id(&id)?;
        let policy: RetryPolicyInput = input(&body);
        let policy = policy.parse(user.caps()).map_err(refusal)?;
        transaction
            .run(async |tx| {
                let mut validation = lock_validation(tx.connection(), &user, id).await?;
                if policy.is_enabled() {
                    enable(&api, tx.connection(), &mut validation, &policy, user.caps()).await?;
                } else {
                    disable(&api, tx.connection(), &mut validation).await?;
                }
                Ok(validation)
            })
            .await
    };
    answer(&context, changed.await).await
}

/// Cancels the retries of one validation.
///
/// A 200 is final: an attempt that is running at that moment no longer changes anything.
#[utoipa::path(
    post, path = "/validations/{id}/cancel-retries", operation_id = "cancelValidationRetries", tag = "Validations",
    responses(
        (status = 200, description = "The new state of the retries", body = Envelope<Entity<RetryStateAttributes>>),
        (status = 422, description = "retry_not_active"),
    ),
)]
pub(super) async fn cancel(
    Call { api, user, context }: Call,
    Path(id): Path<String>,
    transaction: RequestTransaction,
) -> Response {
    let cancelled = async {
        let id = Validation::parse_id(&id)?;
        transaction
            .run(async |tx| {
                let mut validation = lock_validation(tx.connection(), &user, id).await?;
                if !cancel_cycle(&api, tx.connection(), &mut validation).await? {
                    return Err(Failure::retry_not_active());
                }
                Ok(validation)
            })
            .await
    };
    answer(&context, cancelled.await).await
}

async fn answer(context: &Context, changed: Result<Validation, Failure>) -> Response {
    match changed {
        Ok(validation) => {
            failpoint::hit("before-commit").await;
            context.ok(&validation.retry_state_resource())
        }
        Err(failure) => context.fail(&failure),
    }
}

async fn lock_validation(connection: Connection<'_>, user: &User, id: Uuid) -> Result<Validation, Failure> {
    validations::lock(connection, Some(user.id()), id).await?.ok_or_else(Failure::not_found)
}

pub(super) async fn enable(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &mut Validation,
    policy: &RetryPolicy,
    caps: &Caps,
) -> Result<(), Failure> {
    let Validation { id, created_at, .. } = *validation;
    if let RetryState::Ended { ending: Ending::Resolved, .. } = validation.retry_state {
        return Err(Failure::retry_already_resolved());
    }
    if validation.status.outcome().is_none() {
        return Err(Failure::retry_not_applicable());
    }
    // If even the first attempt would be too late, refuse: the cycle would end as soon as it began.
    if clock::timestamp() + policy.interval() > cycles::end_of_life(created_at, Terms::of(caps)) {
        return Err(Failure::retry_age_exceeded(caps.max_age_seconds().into()));
    }
    let Some(change) = cycles::change(created_at, policy, caps) else { return Ok(()) };
    let mut started = true;
    validation.retry_state =
        match api.cycles.reschedule_in(connection.reborrow(), &cycles::key(id), change).await? {
            Rescheduled::Changed(cycle) => {
                started = false;
                complete_history::<Failure>(api, connection.reborrow(), validation, cycle.attempts).await?;
                cycles::state(&cycle, policy, &RetryState::None)
            }
            Rescheduled::Reactivated(cycle) => {
                if cycle.reactivations > caps.max_reactivations() {
                    return Err(Failure::reactivation_cap_exceeded(caps.max_reactivations()));
                }
                ensure_retry_capacity(connection.reborrow(), validation, caps).await?;
                cycles::state(&cycle, policy, &RetryState::None)
            }
            Rescheduled::Ended(_) => return Err(Failure::retry_already_resolved()),
            Rescheduled::Unknown => {
                ensure_retry_capacity(connection.reborrow(), validation, caps).await?;
                verdict::begin(api, connection.reborrow(), validation, policy, Terms::of(caps)).await?
            }
        };
    validations::update(connection.reborrow(), validation).await?;
    // A changed policy is no event for an active cycle, unless it leaves no attempts and so ends
    // the cycle.
    if started || matches!(validation.retry_state, RetryState::Ended { .. }) {
        announce_retry(api, connection, validation).await?;
    }
    Ok(())
}

/// Disables the retries. There is nothing to do if there is no cycle or if it has ended. A cycle
/// that is intended to start with the first verdict is dropped.
async fn disable(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &mut Validation,
) -> Result<(), Failure> {
    if cancel_cycle(api, connection.reborrow(), validation).await? {
        return Ok(());
    }
    if let RetryState::Intended { .. } = validation.retry_state {
        validation.retry_state = RetryState::None;
        return Ok(validations::update(connection, validation).await?);
    }
    Ok(())
}

/// Cancels the cycle. Returns whether there was an active one.
pub(super) async fn cancel_cycle(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &mut Validation,
) -> Result<bool, Failure> {
    let Cancelled::Cancelled(cycle) =
        api.cycles.cancel_in(connection.reborrow(), &cycles::key(validation.id)).await?
    else {
        return Ok(false);
    };
    complete_history::<Failure>(api, connection.reborrow(), validation, cycle.attempts).await?;
    let before = &validation.retry_state;
    let policy =
        before.policy().ok_or_else(|| SchedulerError::invalid("a cycle of a validation without a policy"))?;
    validation.retry_state = cycles::state(&cycle, policy, before);
    validations::update(connection, validation).await?;
    Ok(true)
}
