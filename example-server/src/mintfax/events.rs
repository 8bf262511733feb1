//! Telling the sender what becomes of a fax.
//!
//! An event is a cycle of the scheduler, and nothing else: it is written in the transaction of what it tells of, carries
//! the bytes that are sent, and is tried until it is taken. What was committed is told, whenever the process dies; what was
//! taken, but not recorded when it died, is sent again with the same `event_id`. Events overtake each other.

mod secrets;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use retry_scheduler::{CycleKey, NewCycle, SchedulerError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) use self::secrets::Secrets;
pub(crate) use self::secrets::{SecretError, signing_secret};
use super::api::Api;
use super::fax::{Fax, FaxResource, base32};
use crate::cep::text_enum;
use crate::clock;
use crate::db::Connection;
use crate::utc::Utc;
use crate::worker::Handlers;

/// What the scheduler calls this kind of work.
const NAMESPACE: &str = "mintfax-event";
/// How long it may take to find out what to sign with, beside the sending.
const TO_SIGN: Duration = Duration::from_secs(30);

text_enum! {
    /// What can be told.
    pub(super) enum Event {
        /// It was accepted. Told once.
        Queued = "fax.queued",
        /// An attempt begins. Told once for each.
        Sending = "fax.sending",
        /// An attempt did not succeed, and there is another one.
        RetryScheduled = "fax.retry_scheduled",
        /// It arrived.
        Delivered = "fax.delivered",
        /// It did not arrive, and is not sent any more.
        Failed = "fax.failed",
    }
}

/// Writes down, in the caller's transaction, that the sender is to be told, if they want to be. Whoever commits wakes the
/// worker.
///
/// # Errors
/// It is not written, and what was to be told must not be committed.
pub(super) async fn announce(
    api: &Api,
    connection: Connection<'_>,
    fax: &Fax,
    event: Event,
    next_attempt_at: Option<Timestamp>,
) -> Result<(), SchedulerError> {
    let Some(url) = &fax.webhook_url else { return Ok(()) };
    let event_id = format!("evt_{}", base32(Uuid::now_v7().as_u128()));
    let told = Told {
        event,
        event_id: &event_id,
        timestamp: Utc(clock::timestamp()),
        data: Data { fax: fax.resource(), next_attempt_at: next_attempt_at.map(Utc) },
    };
    // Our own structs with string keys: nothing in them can fail to serialise.
    let body = serde_json::to_string(&told).expect("a document of plain fields serialises");
    let letter = Letter { environment: fax.owner.environment.as_str().to_owned(), url: url.clone(), body };
    let payload = serde_json::to_vec(&letter).expect("plain fields serialise");
    let new = NewCycle {
        key: CycleKey::new(NAMESPACE, event_id),
        tenant: fax.owner.account.clone(),
        plan: api.config.event_plan(),
        first_in: Duration::ZERO,
        payload: payload.into(),
    };
    api.cycles.schedule_in(connection, new).await.map(drop)
}

/// Adds what sends events.
pub(super) fn attempts(api: &Arc<Api>, handlers: &mut Handlers) {
    let longest = api.config.webhook_timeout().saturating_add(TO_SIGN);
    handlers.add(NAMESPACE, sending::Sending(Arc::clone(api)), longest);
}

/// The payload of an event's cycle, whose tenant is the account.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    environment: String,
    url: String,
    /// The same bytes at each try.
    body: String,
}

impl Letter {
    fn of_payload(payload: &Bytes) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// What is sent.
#[derive(Serialize)]
struct Told<'a> {
    event: Event,
    /// The same however often it is sent.
    event_id: &'a str,
    timestamp: Utc,
    data: Data,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    fax: FaxResource,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Utc>,
}
