//! The attempts that the scheduler recorded without updating the validation.
//!
//! An attempt and its validation are normally updated in the same transaction, whatever the result
//! ([`TransactionalAdapter`](platform::worker::TransactionalAdapter)). There is one exception: if
//! recording an attempt panicked, timed out or crashed its processes, the worker records the
//! attempt alone. If that ends the cycle, the hook updates the validation in the same transaction.
//! Otherwise the validation lacks the attempt until the next one is recorded or its retries are
//! changed.

use retry_scheduler::{AttemptRecord, Cycle, SchedulerError};

use crate::api::Api;
use crate::cycles;
use crate::store::{attempts, validations};
use crate::validation::{Attempt, RetryState, Validation};
use crate::webhooks::announce_retry;
use platform::BoxError;
use platform::db::Connection;

/// Brings a locked validation in line with its cycle, and announces the change to its webhooks. The
/// cycle changed in the same transaction.
pub(super) async fn follow(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &mut Validation,
    cycle: &Cycle,
) -> Result<(), BoxError> {
    complete::<BoxError>(api, connection.reborrow(), validation, cycle.attempts).await?;
    let before = &validation.retry_state;
    let Some(policy) = before.policy() else { return Ok(()) };
    validation.retry_state = cycles::state(cycle, policy, before);
    validations::update(connection.reborrow(), validation).await?;
    Ok(announce_retry(api, connection, validation).await?)
}

/// Adds the attempts up to number `last` that are missing in the history of a locked validation, so
/// that the history has no gaps.
pub(crate) async fn complete<E: From<SchedulerError> + From<sqlx::Error>>(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &Validation,
    last: u32,
) -> Result<(), E> {
    let recorded_attempts = recorded_attempts(validation);
    if recorded_attempts >= last {
        return Ok(());
    }
    let records =
        api.cycles.attempts_in(connection.reborrow(), &cycles::key(validation.id), recorded_attempts).await?;
    for record in records.iter().filter(|record| record.number <= last) {
        attempts::append(connection.reborrow(), validation.id, &without_outcome(validation, record)).await?;
    }
    Ok(())
}

/// Returns the number of attempts in the validation's history.
fn recorded_attempts(validation: &Validation) -> u32 {
    match validation.retry_state {
        RetryState::Active { attempts_completed, .. } | RetryState::Ended { attempts_completed, .. } => {
            attempts_completed
        }
        RetryState::None | RetryState::Intended { .. } => 0,
    }
}

/// Returns an attempt that got no answer and did not change the validation.
fn without_outcome(validation: &Validation, record: &AttemptRecord) -> Attempt {
    Attempt {
        number: record.number,
        dispatched_at: cycles::timestamp(record.started_at),
        started_at: cycles::timestamp(record.started_at),
        finished_at: cycles::timestamp(record.finished_at),
        prev_banxico_status: validation.banxico_status,
        new_banxico_status: None,
        prev_status: validation.status,
        new_status: None,
        processing_time_ms: None,
        error_code: Some("internal".to_owned()),
    }
}
