//! Telling the sender what becomes of a fax, by [letters](platform::webhooks::CallbackSender).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use retry_scheduler::SchedulerError;
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use super::config::Config;
use super::fax::{Fax, FaxResource, base32};
use platform::api_key::Environment;
use platform::clock;
use platform::db::Connection;
use platform::text::text_enum;
use platform::utc::Utc;
use platform::webhooks::{CallbackConfig, CallbackSender, DemoSecret, hmac};

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

/// Writes down, in the caller's transaction, that the sender is to be told, if they want to be. The commit wakes the
/// worker.
///
/// # Errors
/// It is not written, and what was to be told must not be committed.
pub(super) async fn announce(
    callbacks: &CallbackSender,
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
    callbacks.send(connection, &event_id, &fax.owner, url, body).await
}

/// How events are sent.
pub(super) fn callback_config(config: &Config) -> CallbackConfig {
    let (plan, timeout) = (config.event_plan(), config.webhook_timeout());
    CallbackConfig {
        namespace: "mintfax-event",
        plan,
        timeout,
        headers,
        demo_secrets: DEMO_SECRETS,
        sent: "fax-event-sent",
    }
}

/// The secrets of the accounts of `--demo`, which are public.
const DEMO_SECRETS: &[DemoSecret] = &[
    (("demo", Environment::Test), "whsec_test_abc123def456"),
    (("demo", Environment::Live), "whsec_live_abc123def456"),
    (("demo-other", Environment::Test), "whsec_test_other0account1"),
];

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

const X_MINTFAX_TIMESTAMP: HeaderName = HeaderName::from_static("x-mintfax-timestamp");
const X_MINTFAX_SIGNATURE: HeaderName = HeaderName::from_static("x-mintfax-signature");

/// Signed is the time of this try, so that receivers can refuse what is old.
fn headers(body: &[u8], secret: &SecretString, now: Timestamp) -> HeaderMap {
    let timestamp = now.as_second().to_string();
    let signature = hmac(secret, &[timestamp.as_bytes(), b".", body]);
    let text = |text: String| HeaderValue::try_from(text).expect("digits make a header value");
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (X_MINTFAX_TIMESTAMP, text(timestamp)),
        (X_MINTFAX_SIGNATURE, text(signature)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `openssl dgst -sha256 -hmac`.
    const EXPECTED: &str = "ae733bc2f7cdde4bdd100e94e7deda150cfcaf671c0bee2a789c3317049add9d";

    #[test]
    fn the_time_and_the_body_are_signed() {
        let now = Timestamp::from_second(1_747_173_600).unwrap();
        let headers = headers(b"{\"a\":1}", &"whsec_test".into(), now);
        assert_eq!(headers["x-mintfax-timestamp"], "1747173600");
        assert_eq!(headers["x-mintfax-signature"], EXPECTED);
    }
}
