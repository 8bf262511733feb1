//! The handler that sends deliveries.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use retry_scheduler::{Activity, Attempt, Cycle, Done, EndReason, Finished, Report, State, Verdict};

use super::store::{deliveries, endpoints};
use super::{DeliveryId, DeliveryStatus, Message, ReceiverAnswer, Webhooks};
use crate::BoxError;
use crate::db::Connection;
use crate::worker::TransactionalHandler;
use crate::{clock, failpoint, retry_after};

/// Retry delay when the account has no free delivery place.
const BUSY: Duration = Duration::from_secs(1);
/// Retry delay while the signing secret cannot be opened; needs operator action.
const SEALED: Duration = Duration::from_mins(1);

/// The error of a delivery whose endpoint was disabled before it was sent.
const DISABLED: &str = "the endpoint is disabled";
/// The error of a delivery whose cycle ended without an outcome.
const UNSENT: &str = "the delivery could not be sent";

/// The handler that makes one attempt, and records its outcome in the transaction that updates the
/// cycle.
#[derive(Debug)]
pub(super) struct DeliveryHandler(pub(super) Arc<Webhooks>);

#[async_trait]
impl TransactionalHandler for DeliveryHandler {
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError> {
        let Some(id) = attempt.cycle().key.subject.parse().ok().map(DeliveryId) else {
            return Ok(Done::Report(report(Verdict::Permanent)));
        };
        // By account: with a limit for each endpoint, accounts with more endpoints would get more
        // places.
        let Some(_place) = self.0.places.enter(&attempt.cycle().tenant) else {
            return Ok(Done::Deferred { retry_in: BUSY });
        };
        let mut reader = self.0.database.read().await?;
        let due = deliveries::due(reader.connection(), id).await?;
        drop(reader);
        // The endpoint was deleted or disabled, or the delivery has ended.
        let Some(due) = due else { return self.give_up(attempt, id).await };
        let secret = match self.0.secret(&due.endpoint, &due.secret) {
            Ok(secret) => secret,
            Err(error) => {
                tracing::error!(endpoint = due.endpoint, %error, "could not sign a webhook; retrying later");
                return Ok(Done::Deferred { retry_in: SEALED });
            }
        };
        let message = Message { id, event: &due.event, body: &due.payload };
        let posting = self.0.send(&due.url, &secret, &message);
        let Some(answer) = attempt.token().run_until_cancelled(posting).await else {
            return Ok(Done::Deferred { retry_in: Duration::ZERO });
        };
        failpoint::hit("webhook-sent").await;
        self.record(attempt, id, &due.endpoint, &answer).await?;
        Ok(Done::AlreadyRecorded)
    }

    /// Fails the delivery of a cycle that ended without `make`: its last attempt had no
    /// outcome, or an operator cancelled the cycle.
    ///
    /// The worker records attempts without an outcome, because the receiver did not cause them. The
    /// delivery shows the next attempt.
    async fn ended(&self, connection: Connection<'_>, cycle: &Cycle, _: EndReason) -> Result<(), BoxError> {
        let Some(id) = cycle.key.subject.parse().ok().map(DeliveryId) else { return Ok(()) };
        Ok(deliveries::give_up(connection, id, UNSENT).await?)
    }
}

impl DeliveryHandler {
    /// Records the outcome of an attempt. To avoid deadlocks, lock the endpoint before its
    /// deliveries.
    async fn record(
        &self,
        attempt: &Attempt,
        id: DeliveryId,
        endpoint: &str,
        answer: &ReceiverAnswer,
    ) -> Result<(), BoxError> {
        let webhooks = &self.0;
        let report = if answer.is_success() {
            Report::success()
        } else {
            retry_after::failure(attempt.cycle(), answer.retry_after)
        };
        let mut transaction = webhooks.database.begin().await?;
        let finished = webhooks.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let Finished::Recorded(cycle) = finished else { return Ok(()) };
        let status = status(&cycle);
        if answer.is_success() {
            let now = clock::epoch_millis();
            endpoints::succeeded(transaction.connection(), endpoint, now).await?;
        } else {
            let failures = endpoints::failed(transaction.connection(), endpoint).await?;
            // Only when a delivery has failed for good, so that its receiver gets all retries
            // first.
            if status == DeliveryStatus::Failed && failures >= webhooks.auto_disable_after {
                disable(&mut transaction, endpoint).await?;
            }
        }
        let next = next_attempt(&cycle).filter(|_| status == DeliveryStatus::Retrying);
        deliveries::record(transaction.connection(), id, cycle.attempts, status, next, answer).await?;
        Ok(transaction.commit().await?)
    }

    async fn give_up(&self, attempt: &Attempt, id: DeliveryId) -> Result<Done, BoxError> {
        let mut transaction = self.0.database.begin().await?;
        let finished =
            self.0.cycles.finish_in(transaction.connection(), attempt.claimed(), report(Verdict::Permanent));
        if let Finished::Recorded(_) = finished.await? {
            deliveries::give_up(transaction.connection(), id, DISABLED).await?;
            transaction.commit().await?;
        }
        Ok(Done::AlreadyRecorded)
    }
}

/// Disables an endpoint and fails its deliveries, including those that wait for a retry.
async fn disable(transaction: &mut crate::db::Transaction, endpoint: &str) -> sqlx::Result<()> {
    if endpoints::auto_disable(transaction.connection(), endpoint).await? {
        tracing::warn!(endpoint, "disabled a webhook endpoint after too many failures");
        deliveries::give_up_all(transaction.connection(), endpoint).await?;
    }
    Ok(())
}

fn report(verdict: Verdict) -> Report {
    Report::new(verdict)
}

fn status(cycle: &Cycle) -> DeliveryStatus {
    match cycle.state {
        State::Pending(_) => DeliveryStatus::Retrying,
        State::Ended { ending: retry_scheduler::Ending::Resolved, .. } => DeliveryStatus::Success,
        State::Ended { .. } => DeliveryStatus::Failed,
    }
}

fn next_attempt(cycle: &Cycle) -> Option<i64> {
    let State::Pending(Activity::Idle { due }) = cycle.state else { return None };
    jiff::Timestamp::try_from(due).ok().map(jiff::Timestamp::as_millisecond)
}
