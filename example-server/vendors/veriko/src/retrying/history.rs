//! What the scheduler recorded of a validation's attempts without it.
//!
//! Where an attempt ends, its validation says so in the same transaction, whatever became of the attempt
//! ([`TransactionalAdapter`](platform::worker::TransactionalAdapter)). There is one exception: an attempt whose record itself panicked, took too long
//! or crashed its processes is recorded by the worker alone. If that ends the cycle, the hook updates the validation in
//! the same transaction. If not, the validation lacks the attempt until the next one is recorded or its retries are changed.

use retry_scheduler::{AttemptRecord, Cycle, SchedulerError};

use crate::api::Api;
use crate::cycles;
use crate::store::{attempts, validations};
use crate::validation::{Attempt, RetryState, Validation};
use crate::webhooks::tell_retry;
use platform::BoxError;
use platform::db::Connection;

/// Brings a validation that is locked in line with its cycle, and tells its webhooks. The cycle moved on in the same
/// transaction.
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
    Ok(tell_retry(api, connection, validation).await?)
}

/// Adds to the history of a validation that is locked what it misses of the attempts up to this number: a history has no
/// gaps.
pub(crate) async fn complete<E: From<SchedulerError> + From<sqlx::Error>>(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &Validation,
    last: u32,
) -> Result<(), E> {
    let known = known(validation);
    if known >= last {
        return Ok(());
    }
    let records = api.cycles.attempts_in(connection.reborrow(), &cycles::key(validation.id), known).await?;
    for record in records.iter().filter(|record| record.number <= last) {
        attempts::append(connection.reborrow(), validation.id, &without_outcome(validation, record)).await?;
    }
    Ok(())
}

/// How many attempts the validation knows of.
fn known(validation: &Validation) -> u32 {
    match validation.retry_state {
        RetryState::Active { attempts_completed, .. } | RetryState::Ended { attempts_completed, .. } => {
            attempts_completed
        }
        RetryState::None | RetryState::Intended { .. } => 0,
    }
}

/// It came to no answer, and changed nothing of the validation.
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
