//! Webhook events about the end of a verification, sent with a [`CallbackSender`].
//!
//! The names of the events, the fields around `data` and the header are the vendor's. The vendor
//! sends events to registered endpoints. Sending them to the URL of a request, the signed content
//! and the retries are ours.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use retry_scheduler::SchedulerError;
use secrecy::SecretString;
use serde::Serialize;

use super::config::Config;
use super::engines::identity::VerificationStatus;
use super::free_form;
use super::ids;
use super::verification::{Verification, VerificationBody};
use platform::api_key::Environment;
use platform::clock;
use platform::db::Connection;
use platform::owner::Owner;
use platform::utc::Utc;
use platform::webhooks::{CallbackConfig, CallbackSender, DemoSecret, hmac};

/// Schedules the event that a verification has ended, in the caller's transaction. The commit wakes
/// the worker.
///
/// # Errors
/// If the event is not written. The caller must then not commit.
pub(super) async fn announce(
    callbacks: &CallbackSender,
    connection: Connection<'_>,
    verification: &Verification,
    url: &str,
) -> Result<(), SchedulerError> {
    let id = ids::new("evt");
    let event = Event {
        id: &id,
        r#type: match verification.status() {
            VerificationStatus::Failed => "identity.verification.failed",
            _ => "identity.verification.completed",
        },
        created_at: Utc(clock::timestamp()),
        api_version: "v1",
        data: verification.to_response(),
    };
    let body = free_form::to_json(&event);
    let owner = Owner { account: verification.account.clone(), environment: verification.environment };
    callbacks.send(connection, &id, &owner, url, body).await
}

/// Returns how events are sent.
pub(super) fn callback_config(config: &Config) -> CallbackConfig {
    let (plan, timeout) = (config.event_plan(), config.webhook_timeout());
    CallbackConfig {
        namespace: "txcloud-event",
        plan,
        timeout,
        headers,
        demo_secrets: DEMO_SECRETS,
        sent: "txcloud-event-sent",
    }
}

/// The public secrets of the `--demo` accounts.
const DEMO_SECRETS: &[DemoSecret] = &[
    (("demo-txcloud", Environment::Test), "whsec_test_abc123def456"),
    (("demo-txcloud", Environment::Live), "whsec_live_abc123def456"),
    (("demo-txcloud-other", Environment::Test), "whsec_test_other0account1"),
];

/// The body of a webhook request.
#[derive(Serialize)]
struct Event<'a> {
    /// The same for every attempt to send the event.
    id: &'a str,
    r#type: &'static str,
    created_at: Utc,
    api_version: &'static str,
    data: VerificationBody<'a>,
}

const X_TXCLOUD_SIGNATURE: HeaderName = HeaderName::from_static("x-txcloud-signature");

/// Signs the time of this attempt, so that receivers can reject old requests.
fn headers(body: &[u8], secret: &SecretString, now: Timestamp) -> HeaderMap {
    let timestamp = now.as_second().to_string();
    let signature = hmac(secret, &[timestamp.as_bytes(), b".", body]);
    let signature = format!("t={timestamp},v1={signature}");
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (X_TXCLOUD_SIGNATURE, HeaderValue::try_from(signature).expect("digits make a header value")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `openssl dgst -sha256 -hmac`.
    const EXPECTED: &str = "t=1747173600,v1=ae733bc2f7cdde4bdd100e94e7deda150cfcaf671c0bee2a789c3317049add9d";

    #[test]
    fn the_time_and_the_body_are_signed() {
        let now = Timestamp::from_second(1_747_173_600).unwrap();
        let headers = headers(b"{\"a\":1}", &"whsec_test".into(), now);
        assert_eq!(headers["x-txcloud-signature"], EXPECTED);
    }
}
