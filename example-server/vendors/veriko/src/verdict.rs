//! Applying a provider's answer to a validation, for requests, the queue and retries alike.

use retry_scheduler::{Scheduled, SchedulerError};

use super::api::{Api, Asked};
use super::cycles::{self, Terms};
use super::model::RetryPolicy;
use super::validation::{KeptCep, RetryState, Status, Validation};
use platform::clock;
use platform::db::Connection;

/// Writes the result of a query to the validation. Its retry state does not change.
pub(super) fn write(validation: &mut Validation, asked: Asked) {
    let Asked { verdict, cep, took_ms } = asked;
    validation.status = Status::from(verdict);
    validation.banxico_status = verdict.banxico_status();
    validation.processing_time_ms = Some(took_ms);
    validation.completed_at = Some(clock::timestamp());
    validation.cep = cep.map_or(KeptCep::None, |cep| KeptCep::New(Box::new(cep)));
    validation.error_code = verdict.error_code().map(Into::into);
    validation.error_message = verdict.error_message().map(Into::into);
}

/// Returns whether the policy retries the validation in its present status.
pub(super) fn is_retried(validation: &Validation, policy: &RetryPolicy) -> bool {
    validation.status.outcome().is_some_and(|outcome| policy.retries_on(&outcome))
}

/// Starts the retries of a validation that never had any, if the policy retries its status.
///
/// The caller must check that the account has capacity for one more cycle.
pub(super) async fn begin_retries(
    api: &Api,
    connection: Connection<'_>,
    validation: &mut Validation,
    policy: &RetryPolicy,
    terms: Terms,
) -> Result<(), SchedulerError> {
    validation.retry_state = RetryState::None;
    if is_retried(validation, policy) {
        validation.retry_state = begin(api, connection, validation, policy, terms).await?;
    }
    Ok(())
}

/// Starts the retries of a validation that never had any, whatever its status.
pub(super) async fn begin(
    api: &Api,
    connection: Connection<'_>,
    validation: &Validation,
    policy: &RetryPolicy,
    terms: Terms,
) -> Result<RetryState, SchedulerError> {
    let Validation { id, account, created_at, .. } = validation;
    let Some(new) = cycles::new(*id, account, *created_at, policy, terms) else {
        return Ok(RetryState::None);
    };
    let (Scheduled::New(cycle) | Scheduled::Exists(cycle)) = api.cycles.schedule_in(connection, new).await?;
    Ok(cycles::state(&cycle, policy, &RetryState::None))
}
