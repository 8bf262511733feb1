//! Webhook subscriptions and delivery.
//!
//! [`Webhooks::announce`] records an event in the transaction of the change that it reports. It
//! writes one delivery for each subscribed endpoint, and schedules a cycle that sends the delivery
//! until the receiver accepts it. So a crash loses no event of a committed change. If the process
//! dies after the receiver accepted a delivery and before that is recorded, the delivery is sent
//! again. Delivery is at least once: each delivery has an id, which receivers can use to detect
//! duplicates.

mod callbacks;
mod delivery;
mod delivery_handler;
mod endpoint;
mod post;
mod secrets;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use retry_scheduler::{CycleKey, NewCycle, Plan, SchedulerError};
use secrecy::SecretString;

pub use self::callbacks::{CallbackConfig, CallbackSender};
pub use self::delivery::{Delivery, DeliveryId, DeliveryStatus};
use self::delivery_handler::DeliveryHandler;
pub use self::endpoint::{Endpoint, EndpointStatus};
pub use self::post::{Headers, Message, ReceiverAnswer, hmac};
pub use self::secrets::{DemoSecret, SecretError, signing_secret};
use self::store::{deliveries, endpoints};
use crate::clock;
use crate::config;
use crate::cycles::Cycles;
use crate::db::{Connection, Database};
use crate::encryption::{SealError, Sealer};
use crate::outbound::{Outbound, Rules};
use crate::places::Places;
use crate::state::Platform;
use crate::worker::Handlers;

/// The scheduler's namespace of delivery cycles.
const NAMESPACE: &str = "webhook";
/// Time to load a delivery and record its outcome, in addition to the time-out of the request.
const TO_RECORD: Duration = Duration::from_secs(30);

/// The webhooks of one API.
#[derive(Debug)]
pub struct Webhooks {
    database: Database,
    cycles: Cycles,
    pub outbound: Outbound,
    sealer: Arc<Sealer>,
    plan: Plan,
    timeout: Duration,
    auto_disable_after: u32,
    /// Maximum endpoints of one account.
    pub max_endpoints: u32,
    pub places: Arc<Places<String>>,
    /// Builds the headers of a request, with its signature.
    headers: Headers,
}

/// An event to announce.
#[derive(Debug)]
pub struct WebhookEvent<'a> {
    /// The account whose endpoints receive the event.
    pub account: &'a str,
    /// The name of the event.
    pub event: &'a str,
    /// The id of the resource that the event is about.
    pub subject: &'a str,
}

/// An error of announcing an event. The caller must not commit its transaction.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Cycles(#[from] SchedulerError),
}

impl Webhooks {
    /// Creates the webhooks of an API, whose requests have these headers.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be built.
    pub fn new(
        platform: &Platform,
        rules: Rules,
        config: &config::Webhooks,
        headers: Headers,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            cycles: platform.cycles.clone(),
            database: platform.database.clone(),
            outbound: Outbound::new(rules)?,
            sealer: Arc::clone(&platform.sealer),
            plan: config.plan(),
            timeout: config.timeout(),
            auto_disable_after: config.auto_disable_after.get(),
            max_endpoints: config.max_endpoints,
            places: Arc::clone(&platform.deliveries),
            headers,
        })
    }

    /// Registers the handler that sends deliveries.
    pub fn register_handlers(self: &Arc<Self>, handlers: &mut Handlers) {
        handlers.add_transactional(
            NAMESPACE,
            DeliveryHandler(Arc::clone(self)),
            self.timeout.saturating_add(TO_RECORD),
        );
    }

    /// Checks that the configured keys can decrypt the stored secrets.
    ///
    /// # Errors
    ///
    /// If they cannot, or if the database fails.
    pub async fn check_secrets(&self) -> Result<(), SecretError> {
        let mut reader = self.database.read().await?;
        for (id, sealed) in endpoints::one_of_each_key(reader.connection()).await? {
            self.sealer.open(&about(&id), &sealed)?;
        }
        Ok(())
    }

    /// Seals the secret of an endpoint.
    pub fn seal(&self, endpoint: &str, secret: &str) -> Result<String, SealError> {
        self.sealer.seal(&about(endpoint), secret.as_bytes())
    }

    /// Opens the sealed secret of an endpoint.
    pub fn secret(&self, endpoint: &str, sealed: &str) -> Result<SecretString, SealError> {
        let opened = self.sealer.open(&about(endpoint), sealed)?;
        String::from_utf8(opened).map(SecretString::from).map_err(|_| SealError::Damaged)
    }

    /// Schedules a delivery of this event to every subscribed endpoint, in the caller's
    /// transaction. Calls `payload` only if there is a subscribed endpoint. Every attempt sends the
    /// same bytes. The commit wakes the worker.
    pub async fn announce(
        &self,
        mut connection: Connection<'_>,
        event: WebhookEvent<'_>,
        payload: impl FnOnce() -> String,
    ) -> Result<(), AnnounceError> {
        let subscribers = endpoints::subscribers(connection.reborrow(), event.account, event.event).await?;
        if subscribers.is_empty() {
            return Ok(());
        }
        let payload = payload();
        for endpoint in subscribers {
            let id = deliveries::insert(connection.reborrow(), &endpoint, &event, &payload).await?;
            let key = CycleKey::new(NAMESPACE, id.to_string());
            let new = NewCycle::new(key, self.plan.clone()).tenant(event.account);
            self.cycles.schedule_in(connection.reborrow(), new).await?;
        }
        Ok(())
    }

    /// Sends an event to one endpoint immediately, without retries, and records the outcome as a
    /// delivery. The endpoint's status and failure count do not change.
    pub async fn send_once(
        &self,
        endpoint: &Endpoint,
        event: &str,
        body: &str,
    ) -> Result<ReceiverAnswer, SendError> {
        let secret = self.secret(&endpoint.id.to_string(), &endpoint.secret)?;
        let id = DeliveryId::random(clock::epoch_millis());
        let answer = self.send(&endpoint.url, &secret, &Message { id, event, body }).await;
        let mut transaction = self.database.begin().await?;
        deliveries::insert_sent(transaction.connection(), endpoint, id, event, &answer).await?;
        transaction.commit().await?;
        Ok(answer)
    }
}

/// An error of [`Webhooks::send_once`]. If the database fails, the event may have been sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Returns the sealing context of an endpoint's secret.
fn about(endpoint: &str) -> String {
    format!("webhook endpoint {endpoint}")
}

#[cfg(test)]
mod tests;
