//! Background validations: the request accepts them, and the worker queries the provider later.
//!
//! A queued validation consists of its row, with the status `queued`, and a cycle of the scheduler.
//! The request writes both in its transaction. The verdict and the end of the cycle are also
//! written in one transaction, under the fence of the claim. So the provider is queried at least
//! once for each accepted validation, whatever crashes meanwhile, and each gets exactly one
//! verdict.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::SignedDuration;
use retry_scheduler::{Attempt, CycleKey, Done, Finished, NewCycle, Plan, Report};
use uuid::Uuid;

use super::api::Api;
use super::cycles::Terms;
use super::errors::Failure;
use super::model::RetryPolicy;
use super::quota::{ensure_retry_capacity, insert_charged};
use super::store::validations;
use super::user::User;
use super::validation::{self, RetryState, Status, Validation};
use super::verdict;
use super::webhooks::announce_verdict;
use crate::cep;
use platform::BoxError;
use platform::db::RequestTransaction;
use platform::worker::{Handlers, TransactionalHandler};
use platform::{clock, failpoint};

/// The scheduler's namespace for this kind of work.
const NAMESPACE: &str = "queue";
/// The `error_code` of validations that got no answer in time.
const EXPIRED: &str = "ttl_expired";
/// The time an attempt may take in addition to the query.
const RECORD_TIME: Duration = Duration::from_secs(30);
/// The delays before an attempt that panicked, timed out or crashed the process is repeated.
const DELAYS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30), Duration::from_mins(2)];
/// The minimum and the maximum pause after Banxico refused for too many queries. The pause grows
/// with the time that the validation has waited.
const PAUSE: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(5), SignedDuration::from_mins(2));

/// Puts a validation into the queue, with the policy for its retries.
pub(super) async fn enqueue(
    api: &Api,
    user: &User,
    transaction: &RequestTransaction,
    validation: &mut Validation,
    policy: RetryPolicy,
) -> Result<(), Failure> {
    let expires_at = validation.created_at + api.queue_expiry;
    validation.queue = Some(validation::Queue { expires_at, processing_started_at: None });
    transaction
        .run(async |tx| {
            if policy.is_enabled() {
                ensure_retry_capacity(tx.connection(), validation, user.caps()).await?;
                validation.retry_state = RetryState::Intended { policy };
            }
            let new = cycle(validation, Terms::of(user.caps()));
            api.cycles.schedule_in(tx.connection(), new).await?;
            // Last, because a share of the quota is locked from here to the commit.
            insert_charged(tx.connection(), user, validation).await?;
            Ok(())
        })
        .await
}

/// Registers the handler of queued validations.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    handlers.add_transactional(
        NAMESPACE,
        QueueHandler(Arc::clone(api)),
        api.cep_timeout.saturating_add(RECORD_TIME),
    );
}

/// Creates the cycle of a validation. It has no deadline: the attempt that finds the validation
/// expired ends it.
fn cycle(validation: &Validation, terms: Terms) -> NewCycle {
    let plan = Plan::delays(DELAYS, u32::MAX).expect("a few seconds and minutes are delays");
    NewCycle::new(CycleKey::new(NAMESPACE, validation.id.to_string()), plan.max_deferrals(u32::MAX))
        .tenant(&validation.account)
        .payload(terms.to_payload())
}

/// Queries the provider about a queued validation and records the verdict.
#[derive(Debug)]
struct QueueHandler(Arc<Api>);

#[async_trait]
impl TransactionalHandler for QueueHandler {
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError> {
        let Some(validation) = self.begin(attempt).await? else {
            let detail = Bytes::from_static(b"no such validation, or it is not waiting");
            return Ok(Done::Report(Report::permanent().detail(detail)));
        };
        let now = clock::timestamp();
        let left =
            validation.queue.map_or(SignedDuration::ZERO, |queue| queue.expires_at.duration_since(now));
        if left <= SignedDuration::ZERO {
            self.record(attempt, validation.id, expire).await?;
            return Ok(Done::AlreadyRecorded);
        }
        let query = self.0.ask(&validation.payment, 1);
        let Some(asked) = attempt.token().run_until_cancelled(query).await else {
            return Ok(Done::Deferred { retry_in: Duration::ZERO });
        };
        failpoint::hit("queue-asked").await;
        if asked.verdict == cep::CepVerdict::RateLimited {
            // The limit applies to this whole server, so other validations must not query either.
            let waited = now.duration_since(validation.created_at);
            return Ok(Done::Unavailable { retry_in: pause(waited, left, asked.retry_after) });
        }
        self.record(attempt, validation.id, |validation| verdict::write(validation, asked)).await?;
        failpoint::hit("queue-committed").await;
        Ok(Done::AlreadyRecorded)
    }
}

impl QueueHandler {
    /// Marks the validation as `processing`. Returns `None` if there is nothing to process.
    async fn begin(&self, attempt: &Attempt) -> Result<Option<Validation>, BoxError> {
        let Ok(id) = Uuid::try_parse(&attempt.cycle().key.subject) else { return Ok(None) };
        let mut transaction = self.0.database.begin().await?;
        let Some(mut validation) = validations::lock(transaction.connection(), None, id).await? else {
            return Ok(None);
        };
        match validation.status {
            Status::Queued => {
                validation.status = Status::Processing;
                if let Some(queue) = &mut validation.queue {
                    queue.processing_started_at = Some(clock::timestamp());
                }
                validations::update(transaction.connection(), &mut validation).await?;
                transaction.commit().await?;
                Ok(Some(validation))
            }
            // An earlier attempt began, but its process died or Banxico did not answer.
            Status::Processing => Ok(Some(validation)),
            _ => Ok(None),
        }
    }

    /// Records the end and starts the retries. Nothing is written if another worker has the claim
    /// by now: the first end counts.
    async fn record(
        &self,
        attempt: &Attempt,
        id: Uuid,
        end: impl FnOnce(&mut Validation) + Send,
    ) -> Result<(), BoxError> {
        let terms = Terms::from_payload(attempt.payload()).ok_or("a payload of another version")?;
        let mut transaction = self.0.database.begin().await?;
        let Some(mut validation) = validations::lock(transaction.connection(), None, id).await? else {
            return Err("the validation is gone".into());
        };
        let report = Report::success();
        let finished = self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let (Finished::Recorded(_), false) = (finished, validation.status.is_final()) else { return Ok(()) };
        end(&mut validation);
        if let RetryState::Intended { policy } = validation.retry_state.clone() {
            verdict::begin_retries(&self.0, transaction.connection(), &mut validation, &policy, terms)
                .await?;
        }
        validations::update(transaction.connection(), &mut validation).await?;
        announce_verdict(&self.0, transaction.connection(), &validation).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Ends the validation with an error of this server, not of Banxico.
fn expire(validation: &mut Validation) {
    validation.status = Status::Error;
    validation.completed_at = Some(clock::timestamp());
    validation.error_code = Some(EXPIRED.to_owned());
    validation.error_message = Some("Banxico could not be queried in time.".to_owned());
}

/// Returns how long to pause: half the time that the validation has waited, within bounds, at least
/// as long as Banxico asked for, and at most until it expires. This needs no stored count of
/// attempts.
fn pause(waited: SignedDuration, left: SignedDuration, asked: Option<Duration>) -> Duration {
    let (shortest, longest) = PAUSE;
    let own = (waited / 2).clamp(shortest, longest).unsigned_abs();
    own.max(asked.unwrap_or_default()).min(left.unsigned_abs())
}

#[cfg(test)]
mod tests;
