//! Webhooks: who wants to be told of what, and the telling.
//!
//! What happens is written down together with the change that it tells of ([`Webhooks::announce`]): a delivery for each
//! endpoint that wants it, and a cycle of the scheduler that sends it until it was taken. So nothing that was committed
//! goes untold, whenever the process dies. What was sent and taken, but not yet recorded when it died, is sent again:
//! delivery is at least once, and each carries an id by which a receiver knows it again.

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

/// What the scheduler calls this kind of work.
const NAMESPACE: &str = "webhook";
/// How long it may take to find out what to send and to record what came of it, beside the sending.
const TO_RECORD: Duration = Duration::from_secs(30);

/// Webhooks of one API.
#[derive(Debug)]
pub struct Webhooks {
    database: Database,
    cycles: Cycles,
    pub outbound: Outbound,
    sealer: Arc<Sealer>,
    plan: Plan,
    timeout: Duration,
    auto_disable_after: u32,
    /// The most endpoints of one account.
    pub max_endpoints: u32,
    pub places: Arc<Places<String>>,
    /// How the API signs.
    headers: Headers,
}

/// Something that happened.
#[derive(Debug)]
pub struct WebhookEvent<'a> {
    /// To whom.
    pub account: &'a str,
    /// What, by its name.
    pub event: &'a str,
    /// To what.
    pub subject: &'a str,
}

/// Nothing was announced, and what was to be announced must not be committed.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Cycles(#[from] SchedulerError),
}

impl Webhooks {
    /// # Errors
    /// There is no client to send with.
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

    /// Registers what sends deliveries.
    pub fn register_handlers(self: &Arc<Self>, handlers: &mut Handlers) {
        handlers.add_transactional(
            NAMESPACE,
            DeliveryHandler(Arc::clone(self)),
            self.timeout.saturating_add(TO_RECORD),
        );
    }

    /// Whether the secrets that are kept can be opened with the keys there are.
    ///
    /// # Errors
    /// They cannot.
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

    /// Opens it.
    pub fn secret(&self, endpoint: &str, sealed: &str) -> Result<SecretString, SealError> {
        let opened = self.sealer.open(&about(endpoint), sealed)?;
        String::from_utf8(opened).map(SecretString::from).map_err(|_| SealError::Damaged)
    }

    /// Writes down, in the caller's transaction, that every endpoint that wants this is to be told. `payload` is made only
    /// if there is one; all tries send the same bytes. The commit wakes the worker.
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

    /// Sends to an endpoint what nobody else is told, at once and once, and keeps what came of it as a delivery. Nothing of
    /// the endpoint changes.
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

/// Why nothing was sent, or why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What an endpoint's secret is sealed as.
fn about(endpoint: &str) -> String {
    format!("webhook endpoint {endpoint}")
}

#[cfg(test)]
mod tests;
