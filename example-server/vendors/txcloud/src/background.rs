//! Verifications in the background: they are accepted now, and judged by the worker.
//!
//! One that was accepted is its row, with the status `pending`, and a cycle of the scheduler, both written in the transaction
//! of the request. Whoever writes the judgement ends the cycle in the same transaction, under the fence of its claim: so it
//! is judged, whatever dies meanwhile, and shows one judgement.

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

/// What the scheduler calls this kind of work.
const NAMESPACE: &str = "txcloud-verification";
/// For one judgement, and its record.
const ATTEMPT: Duration = Duration::from_mins(1);
/// When it is not tried again any more.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(1);
/// What becomes of one whose judgement panicked, was too slow, or took the process down again and again: these.
const DELAYS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_mins(1)];

/// Takes a verification in.
pub(super) async fn accept(
    api: &Api,
    transaction: &RequestTransaction,
    verification: &Verification,
    tell: Option<String>,
) -> Result<(), Failure> {
    transaction
        .run(async |tx| {
            // Here, and not when it is judged: what is accepted first came first.
            documents::claim(tx.connection(), verification).await?;
            verifications::insert(tx.connection(), verification).await?;
            api.cycles.schedule_in(tx.connection(), cycle(verification, tell)).await?;
            Ok(())
        })
        .await
}

/// Adds what judges them.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    handlers.add_transactional(NAMESPACE, VerificationHandler(Arc::clone(api)), ATTEMPT);
}

/// It has no end: the attempt that finds a verification too old ends it. What it carries is the URL that is told then, if there
/// is one.
fn cycle(verification: &Verification, tell: Option<String>) -> NewCycle {
    let plan = Plan::delays(DELAYS, u32::MAX).expect("a few seconds and a minute are delays");
    NewCycle::new(CycleKey::new(NAMESPACE, &verification.id), plan.max_deferrals(u32::MAX))
        .tenant(&verification.account)
        .payload(tell.unwrap_or_default())
}

/// Judges one, and writes what came of it.
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
            let detail = Bytes::from_static(b"no such verification, or none that waits");
            return Ok(Done::Report(Report::permanent().detail(detail)));
        };
        let judging = async {
            let seen_before = seen_before(&self.0, &verification).await?;
            judge(&self.0, &verification, seen_before).await
        };
        let Some(judged) = attempt.token().run_until_cancelled(judging).await else {
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

    /// Writes the end. Nothing is written if somebody else has the claim by now: of two ends, the first one counts.
    async fn record(&self, attempt: &Attempt, verification: &Verification) -> Result<(), Failure> {
        let mut transaction = self.0.database.begin().await?;
        let decided = verifications::decide(transaction.connection(), verification).await?;
        let report = Report::success();
        let finished = self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let tell = std::str::from_utf8(attempt.payload()).unwrap_or_default();
        if !tell.is_empty() {
            events::announce(&self.0.callbacks, transaction.connection(), verification, tell).await?;
        }
        if decided && matches!(finished, Finished::Recorded(_)) {
            transaction.commit().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
