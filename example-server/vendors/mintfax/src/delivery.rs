//! Fax delivery.
//!
//! Every accepted fax has a cycle of the scheduler, inserted in the same transaction. Each attempt
//! calls the carrier. The transaction that advances the cycle also records the outcome and settles
//! the balance, so each fax ends exactly once. If the process dies between the call and that
//! transaction, the carrier is called again with the same key.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use retry_scheduler::{
    Activity, Attempt, Cycle, CycleKey, Done, EndReason, Finished, NewCycle, Report, SchedulerError, State,
    Verdict,
};

use super::api::Api;
use super::carrier::{Job, Sent};
use super::events::{self, Event};
use super::fax::{Fax, FaxId, Status};
use super::send_failure::{CANCELLED, NO_CARRIER, NO_DOCUMENT};
use super::store::{balances, faxes};
use platform::BoxError;
use platform::api_key::Environment;
use platform::db::{Connection, Transaction};
use platform::worker::{Handlers, TransactionalHandler};
use platform::{clock, failpoint, retry_after};

/// The scheduler namespace of fax deliveries.
const NAMESPACE: &str = "mintfax-delivery";
/// The time allowed for recording an outcome, in addition to the call itself.
const RECORDING_TIME: Duration = Duration::from_secs(30);
/// The delay before a deferred attempt: there is no carrier, or the document cannot be read.
const DEFERRAL: Duration = Duration::from_secs(30);
/// The maximum number of deferrals of an attempt before the fax fails: with [`DEFERRAL`] between
/// them, a day.
const MAX_DEFERRALS: u32 = 24 * 60 * 2;

/// Schedules the delivery of a fax.
pub(super) async fn schedule(api: &Api, connection: Connection<'_>, fax: &Fax) -> Result<(), SchedulerError> {
    // The plan does not limit the attempts. The fax counts them, and does not count an attempt that
    // was lost with its process.
    let plan = api.config.plan().max_deferrals(MAX_DEFERRALS);
    let new = NewCycle::new(CycleKey::new(NAMESPACE, fax.id.as_str()), plan).tenant(&fax.owner.account);
    api.cycles.schedule_in(connection, new).await.map(drop)
}

/// Registers the handler for delivery attempts.
pub(super) fn register_handlers(api: &Arc<Api>, handlers: &mut Handlers) {
    let timeout = api.config.carrier_timeout_seconds.saturating_add(RECORDING_TIME);
    handlers.add_transactional(NAMESPACE, DeliveryHandler(Arc::clone(api)), timeout);
}

/// The handler for delivery attempts.
#[derive(Debug)]
struct DeliveryHandler(Arc<Api>);

#[async_trait]
impl TransactionalHandler for DeliveryHandler {
    async fn make(&self, attempt: &Attempt) -> Result<Done, BoxError> {
        let api = &self.0;
        let Some(mut fax) = self.begin(attempt).await? else {
            return Ok(Done::Report(report(Verdict::Permanent)));
        };
        let Some(carrier) = api.carrier(fax.owner.environment) else {
            tracing::warn!(fax = fax.id.as_str(), "no carrier for live faxes; deferring the attempt");
            return Ok(Done::Deferred { retry_in: DEFERRAL });
        };
        self.show_in_progress(&mut fax).await?;
        failpoint::hit("fax-sending").await;
        let job = Job { key: fax.carrier_key(), document: &api.uploads.path(&fax.id), fax: &fax };
        let Some(sent) = attempt.token().run_until_cancelled(carrier.send(&job)).await else {
            return Ok(Done::Deferred { retry_in: Duration::ZERO });
        };
        count(fax.owner.environment, &sent);
        failpoint::hit("fax-sent").await;
        match &sent {
            Sent::Unreadable => {
                tracing::error!(
                    fax = fax.id.as_str(),
                    "could not read the document of a fax; deferring the attempt"
                );
                return Ok(Done::Deferred { retry_in: DEFERRAL });
            }
            Sent::Failed(error) if error.code == NO_DOCUMENT.code => {
                tracing::error!(fax = fax.id.as_str(), "the document of a fax is missing");
            }
            _ => {}
        }
        self.record(attempt, &fax.id, sent).await?;
        failpoint::hit("fax-recorded").await;
        Ok(Done::AlreadyRecorded)
    }

    /// Fails the fax, because nothing will send it any more: it was deferred too often, or an
    /// operator cancelled its cycle. Its document is deleted by
    /// [`Uploads::sweep`](super::uploads::Uploads::sweep).
    async fn ended(
        &self,
        mut connection: Connection<'_>,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        let Some(id) = FaxId::parse(&cycle.key.subject) else { return Ok(()) };
        let fax = faxes::lock(connection.reborrow(), &id).await?;
        let Some(mut fax) = fax.filter(|fax| !fax.status.is_final()) else { return Ok(()) };
        tracing::error!(fax = id.as_str(), %reason, "delivery of a fax ended without an outcome");
        let error = if reason == EndReason::Cancelled { CANCELLED } else { NO_CARRIER };
        fax.fail(&error, clock::timestamp());
        faxes::update(connection.reborrow(), &fax).await?;
        events::announce(&self.0.callbacks, connection.reborrow(), &fax, Event::Failed, None).await?;
        balances::settle(connection, &fax.owner, fax.held_cents, fax.charged_cents).await?;
        Ok(())
    }
}

impl DeliveryHandler {
    /// Marks the fax as being attempted. Returns `None` if there is nothing to attempt.
    async fn begin(&self, attempt: &Attempt) -> Result<Option<Fax>, BoxError> {
        let Some(id) = FaxId::parse(&attempt.cycle().key.subject) else { return Ok(None) };
        let mut transaction = self.0.database.begin().await?;
        let fax = faxes::lock(transaction.connection(), &id).await?;
        let Some(mut fax) = fax.filter(|fax| !fax.status.is_final()) else { return Ok(None) };
        if fax.begin(clock::timestamp()) {
            faxes::update(transaction.connection(), &fax).await?;
            if fax.status == Status::InProgress {
                events::announce(&self.0.callbacks, transaction.connection(), &fax, Event::Sending, None)
                    .await?;
            }
            transaction.commit().await?;
        }
        Ok(Some(fax))
    }

    async fn show_in_progress(&self, fax: &mut Fax) -> Result<(), BoxError> {
        if fax.status == Status::Submitted {
            let mut transaction = self.0.database.begin().await?;
            fax.status = Status::InProgress;
            fax.updated_at = clock::timestamp();
            if faxes::show_in_progress(transaction.connection(), &fax.id, fax.updated_at).await? {
                events::announce(&self.0.callbacks, transaction.connection(), fax, Event::Sending, None)
                    .await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Records the outcome of an attempt. Writes nothing if the claim is stale: the first recorded
    /// outcome wins.
    async fn record(&self, attempt: &Attempt, id: &FaxId, sent: Sent) -> Result<(), BoxError> {
        let api = &self.0;
        let mut transaction = api.database.begin().await?;
        let Some(mut fax) = faxes::lock(transaction.connection(), id).await? else {
            return Err("the fax no longer exists".into());
        };
        let requested_delay = sent.retry_after();
        let report = match apply(&mut fax, sent, api.config.price_cents, clock::timestamp()) {
            Verdict::Failure => retry_after::failure(attempt.cycle(), requested_delay),
            verdict => report(verdict),
        };
        let finished = api.cycles.finish_in(transaction.connection(), attempt.claimed(), report).await?;
        let Finished::Recorded(cycle) = finished else { return Ok(()) };
        faxes::update(transaction.connection(), &fax).await?;
        let (event, next) = event(&fax, &cycle);
        events::announce(&api.callbacks, transaction.connection(), &fax, event, next).await?;
        settle(&mut transaction, &fax).await?;
        transaction.commit().await?;
        if fax.status.is_final() {
            api.uploads.delete(id).await;
        }
        Ok(())
    }
}

/// Applies the outcome of an attempt to the fax, and returns the verdict for its cycle.
fn apply(fax: &mut Fax, sent: Sent, price_cents: u32, now: Timestamp) -> Verdict {
    match sent {
        Sent::Delivered { pages } => {
            fax.deliver(pages, now);
            fax.charged_cents = u64::from(price_cents) * u64::from(pages);
            Verdict::Success
        }
        Sent::Failed(error) if fax.fail(&error, now) => Verdict::Failure,
        Sent::Failed(_) | Sent::Unreadable => Verdict::Permanent,
    }
}

/// Returns the event for a finished attempt, and when the next attempt is due.
fn event(fax: &Fax, cycle: &Cycle) -> (Event, Option<Timestamp>) {
    match (fax.status, cycle.state) {
        (Status::Delivered, _) => (Event::Delivered, None),
        (Status::Failed, _) => (Event::Failed, None),
        (_, State::Pending(Activity::Idle { due })) => (Event::RetryScheduled, Timestamp::try_from(due).ok()),
        _ => (Event::RetryScheduled, None),
    }
}

async fn settle(transaction: &mut Transaction, fax: &Fax) -> sqlx::Result<()> {
    if fax.status.is_final() {
        balances::settle(transaction.connection(), &fax.owner, fax.held_cents, fax.charged_cents).await?;
    }
    Ok(())
}

fn count(environment: Environment, sent: &Sent) {
    let outcome = match sent {
        Sent::Delivered { .. } => "delivered",
        Sent::Failed(_) => "failed",
        Sent::Unreadable => "unreadable",
    };
    let labels = [("environment", environment.as_str()), ("outcome", outcome)];
    metrics::counter!("mintfax_attempts_total", &labels).increment(1);
}

fn report(verdict: Verdict) -> Report {
    Report::new(verdict)
}

#[cfg(test)]
mod tests;
