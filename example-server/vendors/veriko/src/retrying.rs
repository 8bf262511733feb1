//! What makes the retries of validations.

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
use super::store::usage::{self, Allowance};
use super::store::{attempts, validations};
use super::validation::{Attempt, RetryState, Status, Validation};
use super::verdict;
use super::webhooks::tell_retry;
use platform::BoxError;
use platform::db::Connection;
use platform::worker::{Handlers, TransactionalHandler};
use platform::{clock, failpoint, retry_after};

/// Adds what makes the retries.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    handlers.add_transactional(
        NAMESPACE,
        RetryHandler(Arc::clone(api)),
        api.cep_timeout.saturating_add(TO_RECORD),
    );
}

/// How long it may take an attempt to find out what it is about and to record what came of it, beside the asking.
const TO_RECORD: Duration = Duration::from_secs(30);

/// Makes one attempt: asks, and writes what came of it into the validation, in the transaction that moves its cycle on.
///
/// Between two attempts a validation shows the time at which the next one is due, also of one that waits for its account's
/// allowance. Only where an attempt could not be written, or was stopped with its worker, does it stay due when it was.
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
        // The first asking was the request's own.
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

    /// Exhausted by the worker (too late for another attempt, or a last one that it recorded alone), or cancelled by an
    /// operator.
    async fn ended(
        &self,
        mut connection: Connection<'_>,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        let Ok(id) = Uuid::try_parse(&cycle.key.subject) else { return Ok(()) };
        // This transaction has locked the cycle. One that has locked the validation may be waiting for the cycle: a deadlock.
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

    /// Takes one of the retries that the account has today; where none is left, how long until there is.
    ///
    /// An attempt that is made again after a crash takes another: it asks again, too.
    async fn wait_for_allowance(
        &self,
        attempt: &retry_scheduler::Attempt,
        validation: &Validation,
        now: Timestamp,
    ) -> Result<Option<Duration>, BoxError> {
        let Some(terms) = Terms::from_payload(attempt.payload()) else { return Ok(None) };
        let mut transaction = self.0.database.begin().await?;
        let (account, granted) = (&validation.account, terms.retries_a_day);
        let charged =
            usage::charge(transaction.connection(), account, Allowance::Retries, now, granted).await?;
        transaction.commit().await?;
        if charged {
            return Ok(None);
        }
        let end_of_day = usage::end_of_day(now);
        self.postpone(attempt, validation.id, end_of_day).await?;
        Ok(Some(end_of_day.duration_since(now).unsigned_abs()))
    }

    /// Shows that the attempt is due later. The worker defers it after that. Where the process dies in between, the cycle
    /// is claimed again when its lease ends, and deferred to the same moment.
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

    /// Nothing is written if somebody else has the cycle by now, has changed it or ended it: a verdict that comes after
    /// that has come too late.
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
        tell_retry(&self.0, transaction.connection(), &validation).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// What the answer means for the cycle: one that its policy does not retry ends it.
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

/// What the answer makes of the validation; and the attempt, as its history shows it.
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
