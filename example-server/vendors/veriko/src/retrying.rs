//! The handler that makes the retry attempts of validations.

mod history;

pub(super) use history::complete as complete_history;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use retry_scheduler::{Cycle, Done, EndReason, Finished, Report, Verdict};
use uuid::Uuid;

use super::api::{Api, Asked};
use super::cycles::{self, NAMESPACE, Terms};
use super::store::usage;
use super::store::{attempts, validations};
use super::validation::{Attempt, RetryState, Status, Validation};
use super::verdict;
use super::webhooks::announce_retry;
use platform::BoxError;
use platform::db::Connection;
use platform::worker::{Handlers, TransactionalHandler};
use platform::{clock, failpoint, retry_after};

/// Registers the handler of retry attempts.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    handlers.add_transactional(
        NAMESPACE,
        RetryHandler(Arc::clone(api)),
        api.cep_timeout.saturating_add(RECORD_TIME),
    );
}

/// The time an attempt may take to load its validation and record the result, in addition to the
/// query.
const RECORD_TIME: Duration = Duration::from_secs(30);

/// Makes an attempt: it queries the provider and writes the result to the validation, in the
/// transaction that advances the cycle.
///
/// Between two attempts a validation shows when the next one is due, even if it waits for the
/// account's daily allowance. The exception is an attempt that could not be recorded, or that
/// stopped together with its worker: the validation keeps showing the time at which that one was
/// due.
#[derive(Debug)]
struct RetryHandler(Arc<Api>);

#[async_trait]
impl TransactionalHandler for RetryHandler {
    async fn make(&self, attempt: &retry_scheduler::Attempt) -> Result<Done, BoxError> {
        let key = &attempt.cycle().key;
        let started_at = clock::timestamp();
        let Some(validation) = self.load(&key.subject).await? else {
            return Ok(Done::Report(Report::permanent().detail("no such validation")));
        };
        if let Some(wait) = self.wait_for_allowance(attempt, &validation, started_at).await? {
            return Ok(Done::Deferred { retry_in: wait });
        }
        // The first query was made by the request itself.
        let asking = self.0.ask(&validation.payment, attempt.number().saturating_add(1));
        let Some(asked) = attempt.token().run_until_cancelled(asking).await else {
            return Ok(Done::Deferred { retry_in: Duration::ZERO });
        };
        failpoint::hit("attempt-running").await;
        self.record(attempt, validation.id, asked, started_at).await?;
        failpoint::hit("attempt-committed").await;
        Ok(Done::AlreadyRecorded)
    }

    async fn record_without_outcome(
        &self,
        attempt: &retry_scheduler::Attempt,
        report: Report,
    ) -> Result<Done, BoxError> {
        let Ok(id) = Uuid::try_parse(&attempt.cycle().key.subject) else { return Ok(Done::Report(report)) };
        let mut transaction = self.0.database.begin().await?;
        let Some(mut validation) = validations::lock(transaction.connection(), None, id).await? else {
            return Ok(Done::Report(report));
        };
        let finished = self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        if let Finished::Recorded(cycle) = finished {
            history::follow(&self.0, transaction.connection(), &mut validation, &cycle).await?;
            transaction.commit().await?;
        }
        Ok(Done::AlreadyRecorded)
    }

    /// Follows the end of a cycle without an attempt: the worker exhausted it (it is too late for
    /// another attempt, or the worker recorded the last one alone), or an operator cancelled it.
    async fn ended(
        &self,
        mut connection: Connection<'_>,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        let Ok(id) = Uuid::try_parse(&cycle.key.subject) else { return Ok(()) };
        // This transaction has locked the cycle. Another one may have locked the validation and be
        // waiting for the cycle, so waiting for the validation could deadlock.
        validations::refuse_locked(connection.reborrow(), id).await?;
        let Some(mut validation) = validations::lock(connection.reborrow(), None, id).await? else {
            return Ok(());
        };
        history::follow(&self.0, connection, &mut validation, cycle).await?;
        tracing::info!(validation = %id, %reason, "retries ended without an attempt");
        Ok(())
    }
}

impl RetryHandler {
    async fn load(&self, subject: &str) -> Result<Option<Validation>, BoxError> {
        let Ok(id) = Uuid::try_parse(subject) else { return Ok(None) };
        let mut reader = self.0.database.read().await?;
        Ok(validations::load(reader.connection(), None, id).await?)
    }

    /// Takes one of the account's retries of today. If none is left, returns how long to wait for
    /// the next.
    ///
    /// An attempt that is repeated after a crash takes another one, because it also makes another
    /// query.
    async fn wait_for_allowance(
        &self,
        attempt: &retry_scheduler::Attempt,
        validation: &Validation,
        now: Timestamp,
    ) -> Result<Option<Duration>, BoxError> {
        let Some(terms) = Terms::from_payload(attempt.payload()) else { return Ok(None) };
        let mut transaction = self.0.database.begin().await?;
        let (account, granted) = (&validation.account, terms.retries_a_day);
        let charged = usage::charge_retry(transaction.connection(), account, now, granted).await?;
        transaction.commit().await?;
        if charged {
            return Ok(None);
        }
        let end_of_day = usage::end_of_day(now);
        self.postpone(attempt, validation.id, end_of_day).await?;
        Ok(Some(end_of_day.duration_since(now).unsigned_abs()))
    }

    /// Shows a later due time. The worker defers the attempt after that. If the process dies in
    /// between, the cycle is claimed again when its lease ends, and deferred to the same time.
    async fn postpone(
        &self,
        attempt: &retry_scheduler::Attempt,
        id: Uuid,
        until: Timestamp,
    ) -> Result<(), BoxError> {
        let mut transaction = self.0.database.begin().await?;
        let validation = validations::lock(transaction.connection(), None, id).await?;
        let cycle = self.0.cycles.get_in(transaction.connection(), &attempt.cycle().key).await?;
        let is_held = cycle.is_some_and(|cycle| cycle.fence() == attempt.claimed().fence());
        let Some(mut validation) = validation.filter(|_| is_held) else { return Ok(()) };
        if let RetryState::Active { next_attempt_at, .. } = &mut validation.retry_state
            && *next_attempt_at < until
        {
            *next_attempt_at = until;
            validations::update(transaction.connection(), &mut validation).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Records the result of an attempt.
    ///
    /// Nothing is written if another worker has the cycle by now, or if it was changed or ended
    /// meanwhile: such a verdict comes too late.
    async fn record(
        &self,
        attempt: &retry_scheduler::Attempt,
        id: Uuid,
        asked: Asked,
        started_at: Timestamp,
    ) -> Result<(), BoxError> {
        let mut transaction = self.0.database.begin().await?;
        let Some(mut validation) = validations::lock(transaction.connection(), None, id).await? else {
            return Err("the validation is gone".into());
        };
        let report = match judge(&asked, &validation.retry_state) {
            Verdict::Failure => retry_after::failure(attempt.cycle(), asked.retry_after),
            verdict => Report::new(verdict),
        };
        let finished = self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let Finished::Recorded(cycle) = finished else { return Ok(()) };
        let before = cycle.attempts.saturating_sub(1);
        complete_history::<BoxError>(&self.0, transaction.connection(), &validation, before).await?;
        let made = apply(&mut validation, &cycle, asked, (attempt.claimed().claimed_at, started_at));
        validations::update(transaction.connection(), &mut validation).await?;
        attempts::append(transaction.connection(), id, &made).await?;
        announce_retry(&self.0, transaction.connection(), &validation).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Returns what an answer means for the cycle. A verdict that the policy does not retry ends it.
fn judge(asked: &Asked, retry_state: &RetryState) -> Verdict {
    let status = Status::from(asked.verdict);
    let retried = status
        .outcome()
        .is_some_and(|outcome| retry_state.policy().is_some_and(|policy| policy.retries_on(&outcome)));
    match status {
        Status::Valid => Verdict::Success,
        _ if retried => Verdict::Failure,
        _ => Verdict::Permanent,
    }
}

/// Writes the answer to the validation, and returns the attempt for its history.
fn apply(
    validation: &mut Validation,
    cycle: &Cycle,
    asked: Asked,
    (dispatched_at, started_at): (SystemTime, Timestamp),
) -> Attempt {
    let Asked { verdict, took_ms, .. } = asked;
    let finished_at = clock::timestamp();
    let (status, banxico_status) = (Status::from(verdict), verdict.banxico_status());
    let made = Attempt {
        number: cycle.attempts,
        dispatched_at: cycles::timestamp(dispatched_at),
        started_at,
        finished_at,
        prev_banxico_status: validation.banxico_status,
        new_banxico_status: Some(banxico_status),
        prev_status: validation.status,
        new_status: Some(status),
        processing_time_ms: Some(took_ms),
        error_code: verdict.error_code().map(Into::into),
    };
    verdict::write(validation, asked);
    if let Some(policy) = validation.retry_state.policy() {
        validation.retry_state = cycles::state(cycle, policy, &validation.retry_state);
    }
    made
}

#[cfg(test)]
pub(super) mod tests;
