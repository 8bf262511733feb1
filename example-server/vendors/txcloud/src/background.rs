//! Background verifications: accepted by the request, judged by the worker.
//!
//! An accepted verification is a row with the status `pending` and a cycle of the scheduler. The
//! request's transaction writes both. Another transaction, under the fence of the claim, writes the
//! judgement and ends the cycle. So every accepted verification is decided exactly once, even if
//! processes die in between.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use retry_scheduler::{Attempt, CycleKey, Done, Finished, NewCycle, Plan, Report};

use super::api::Api;
use super::errors::Failure;
use super::events;
use super::identity::judgement::{judge, seen_before};
use super::store::{documents, verifications};
use super::verification::{Outcome, Verification};
use platform::BoxError;
use platform::db::RequestTransaction;
use platform::worker::{Handlers, TransactionalHandler};
use platform::{clock, failpoint};

/// The scheduler namespace of background verifications.
const NAMESPACE: &str = "txcloud-verification";
/// The time-out of a judgement and its recording.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);
/// The age at which a verification whose judgement keeps failing is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(1);
/// The delays before another attempt, when a judgement panicked, timed out or crashed the process.
const DELAYS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_mins(1)];

/// Accepts a verification for judgement by the worker.
pub(super) async fn accept(
    api: &Api,
    transaction: &RequestTransaction,
    verification: &Verification,
    webhook_url: Option<String>,
) -> Result<(), Failure> {
    transaction
        .run(async |tx| {
            // Claim the document now, not at the judgement, so that the order of acceptance counts.
            documents::claim(tx.connection(), verification).await?;
            verifications::insert(tx.connection(), verification).await?;
            api.cycles.schedule_in(tx.connection(), cycle(verification, webhook_url)).await?;
            Ok(())
        })
        .await
}

/// Registers the handler for verifications.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    handlers.add_transactional(NAMESPACE, VerificationHandler(Arc::clone(api)), ATTEMPT_TIMEOUT);
}

/// Returns the cycle of a verification. Its plan does not limit the attempts: the attempt that
/// finds the verification too old ends it. Its payload is the webhook URL, if there is one.
fn cycle(verification: &Verification, webhook_url: Option<String>) -> NewCycle {
    let plan = Plan::delays(DELAYS, u32::MAX).expect("a few seconds and a minute are delays");
    NewCycle::new(CycleKey::new(NAMESPACE, &verification.id), plan.max_deferrals(u32::MAX))
        .tenant(&verification.account)
        .payload(webhook_url.unwrap_or_default())
}

/// The handler that judges a verification and records the result.
#[derive(Debug)]
struct VerificationHandler(Arc<Api>);

#[async_trait]
impl TransactionalHandler for VerificationHandler {
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError> {
        self.judge(attempt).await.map_err(|failure| failure.message.into())
    }
}

impl VerificationHandler {
    async fn judge(&self, attempt: &Attempt) -> Result<Done, Failure> {
        let verification = {
            let mut reader = self.0.database.read().await?;
            verifications::load_any(reader.connection(), &attempt.cycle().key.subject).await?
        };
        let pending = verification.filter(|verification| verification.outcome == Outcome::Pending);
        let Some(mut verification) = pending else {
            let detail = Bytes::from_static(b"there is no pending verification with this id");
            return Ok(Done::Report(Report::permanent().detail(detail)));
        };
        let judgement = async {
            let seen_before = seen_before(&self.0, &verification).await?;
            judge(&self.0, &verification, seen_before).await
        };
        let Some(judged) = attempt.token().run_until_cancelled(judgement).await else {
            return Ok(Done::Deferred { retry_in: Duration::ZERO });
        };
        let now = clock::timestamp();
        verification.outcome = match judged {
            Ok(findings) => Outcome::Judged(Box::new(findings)),
            Err(_) if now.duration_since(verification.created_at).unsigned_abs() >= GIVEN_UP_AFTER => {
                Outcome::GivenUp
            }
            Err(failure) => return Err(failure),
        };
        verification.updated_at = now;
        failpoint::hit("txcloud-judged").await;
        self.record(attempt, &verification).await?;
        Ok(Done::AlreadyRecorded)
    }

    /// Records the judgement. Writes nothing if the claim is stale: the first recorded judgement
    /// wins.
    async fn record(&self, attempt: &Attempt, verification: &Verification) -> Result<(), Failure> {
        let mut transaction = self.0.database.begin().await?;
        let decided = verifications::decide(transaction.connection(), verification).await?;
        let report = Report::success();
        let finished = self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let webhook_url = std::str::from_utf8(attempt.payload()).unwrap_or_default();
        if !webhook_url.is_empty() {
            events::announce(&self.0.callbacks, transaction.connection(), verification, webhook_url).await?;
        }
        if decided && matches!(finished, Finished::Recorded(_)) {
            transaction.commit().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
