//! What an answer makes of a validation, whoever asked: a request, the queue or a retry.

use retry_scheduler::{Scheduled, SchedulerError};

use super::api::{Api, Asked};
use super::cycles::{self, Terms};
use super::model::RetryPolicy;
use super::validation::{KeptCep, RetryState, Status, Validation};
use platform::clock;
use platform::db::Connection;

/// Writes the answer into the validation. Its retries are not touched.
pub(super) fn write(validation: &mut Validation, asked: Asked) {
    let Asked { verdict, cep, took_ms, .. } = asked;
    validation.status = Status::from(verdict);
    validation.banxico_status = verdict.banxico_status();
    validation.processing_time_ms = Some(took_ms);
    validation.completed_at = Some(clock::timestamp());
    validation.cep = cep.map_or(KeptCep::None, |cep| KeptCep::New(Box::new(cep)));
    validation.error_code = verdict.error_code().map(Into::into);
    validation.error_message = verdict.error_message().map(Into::into);
}

/// Whether this policy has the validation asked about again, as it stands.
pub(super) fn is_retried(validation: &Validation, policy: &RetryPolicy) -> bool {
    validation.status.outcome().is_some_and(|outcome| policy.retries_on(&outcome))
}

/// Begins the retries of a validation that never had any, if its verdict is one that the policy retries. The account has
/// room for one more cycle: to see to that is the caller's.
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

/// Begins the retries of a validation that never had any, whatever its status.
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
