//! What sends deliveries.

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

/// When one is made whose account has its hands full.
const BUSY: Duration = Duration::from_secs(1);
/// When one is made whose secret cannot be opened, which takes somebody to mend.
const SEALED: Duration = Duration::from_mins(1);

/// What is said of one that is given up before it is sent.
const DISABLED: &str = "the endpoint is disabled";
/// The error of a delivery whose cycle ended without an outcome.
const UNSENT: &str = "it could not be sent";

/// Makes one try, and writes what came of it in the transaction that moves its cycle on.
#[derive(Debug)]
pub(super) struct DeliveryHandler(pub(super) Arc<Webhooks>);

#[async_trait]
impl TransactionalHandler for DeliveryHandler {
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError> {
        let Some(id) = attempt.cycle().key.subject.parse().ok().map(DeliveryId) else {
            return Ok(Done::Report(report(Verdict::Permanent)));
        };
        // The tenant is the account: by endpoint, whoever has many of them would get more.
        let Some(_place) = self.0.places.enter(&attempt.cycle().tenant) else {
            return Ok(Done::Deferred { retry_in: BUSY });
        };
        let mut reader = self.0.database.read().await?;
        let due = deliveries::due(reader.connection(), id).await?;
        drop(reader);
        // Gone with its endpoint, or not to be sent any more.
        let Some(due) = due else { return self.give_up(attempt, id).await };
        let secret = match self.0.secret(&due.endpoint, &due.secret) {
            Ok(secret) => secret,
            Err(error) => {
                tracing::error!(endpoint = due.endpoint, %error, "a webhook cannot be signed, and waits");
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

    /// A try without an outcome is nothing that the receiver did, so the worker records it, and the delivery shows the next
    /// one. Where it was the last, or an operator cancelled the cycle, nothing sends the delivery any more.
    async fn ended(&self, connection: Connection<'_>, cycle: &Cycle, _: EndReason) -> Result<(), BoxError> {
        let Some(id) = cycle.key.subject.parse().ok().map(DeliveryId) else { return Ok(()) };
        Ok(deliveries::give_up(connection, id, UNSENT).await?)
    }
}

impl DeliveryHandler {
    /// Whoever locks an endpoint and its deliveries locks the endpoint first.
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
            // While one is tried again, it has its whole time to be taken.
            if status == DeliveryStatus::Failed && failures >= webhooks.auto_disable_after {
                disable(&mut transaction, endpoint).await?;
            }
        }
        let next = next_try(&cycle).filter(|_| status == DeliveryStatus::Retrying);
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

/// Nothing is sent to it any more, what waits to be sent again included.
async fn disable(transaction: &mut crate::db::Transaction, endpoint: &str) -> sqlx::Result<()> {
    if endpoints::auto_disable(transaction.connection(), endpoint).await? {
        tracing::warn!(endpoint, "a webhook endpoint failed for too long and is disabled");
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

fn next_try(cycle: &Cycle) -> Option<i64> {
    let State::Pending(Activity::Idle { due }) = cycle.state else { return None };
    jiff::Timestamp::try_from(due).ok().map(jiff::Timestamp::as_millisecond)
}
