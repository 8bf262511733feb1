//! Webhook events about a fax, sent with a [`CallbackSender`].

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
    /// The events of a fax.
    pub(super) enum Event {
        /// The fax was accepted. Sent once.
        Queued = "fax.queued",
        /// An attempt starts. Sent once per attempt.
        Sending = "fax.sending",
        /// An attempt failed, and another one is scheduled.
        RetryScheduled = "fax.retry_scheduled",
        /// The fax was delivered.
        Delivered = "fax.delivered",
        /// The fax was not delivered, and is not retried any more.
        Failed = "fax.failed",
    }
}

/// Schedules the event, in the caller's transaction, if the fax has a webhook URL. The commit wakes
/// the worker.
///
/// # Errors
/// If the event is not written. The caller must then not commit.
pub(super) async fn announce(
    callbacks: &CallbackSender,
    connection: Connection<'_>,
    fax: &Fax,
    event: Event,
    next_attempt_at: Option<Timestamp>,
) -> Result<(), SchedulerError> {
    let Some(url) = &fax.webhook_url else { return Ok(()) };
    let event_id = format!("evt_{}", base32(Uuid::now_v7().as_u128()));
    let payload = Payload {
        event,
        event_id: &event_id,
        timestamp: Utc(clock::timestamp()),
        data: Data { fax: fax.resource(), next_attempt_at: next_attempt_at.map(Utc) },
    };
    // The payload consists of our own structs with string keys, so serialising it cannot fail.
    let body = serde_json::to_string(&payload).expect("a document of plain fields serialises");
    callbacks.send(connection, &event_id, &fax.owner, url, body).await
}

/// Returns how events are sent.
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

/// The public secrets of the `--demo` accounts.
const DEMO_SECRETS: &[DemoSecret] = &[
    (("demo", Environment::Test), "whsec_test_abc123def456"),
    (("demo", Environment::Live), "whsec_live_abc123def456"),
    (("demo-other", Environment::Test), "whsec_test_other0account1"),
];

/// The body of a webhook request.
#[derive(Serialize)]
struct Payload<'a> {
    event: Event,
    /// The same for every attempt to send the event.
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

/// Signs the time of this attempt, so that receivers can reject old requests.
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

    /// Computed with `openssl dgst -sha256 -hmac`.
    const EXPECTED: &str = "ae733bc2f7cdde4bdd100e94e7deda150cfcaf671c0bee2a789c3317049add9d";

    #[test]
    fn the_time_and_the_body_are_signed() {
        let now = Timestamp::from_second(1_747_173_600).unwrap();
        let headers = headers(b"{\"a\":1}", &"whsec_test".into(), now);
        assert_eq!(headers["x-mintfax-timestamp"], "1747173600");
        assert_eq!(headers["x-mintfax-signature"], EXPECTED);
    }
}
