//! The webhook events of this API, and the signatures of their deliveries.

pub(super) mod changes;
pub(super) mod deliveries;
pub(super) mod endpoints;
mod filter;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;

use super::api::Api;
use super::envelope::DatetimeMeta;
use super::validation::{Ending, RetryState, Status, Validation};
use platform::Platform;
use platform::config;
use platform::db::Connection;
use platform::outbound::Rules;
use platform::text::text_enum;
use platform::utc::Utc;
use platform::webhooks::{AnnounceError, Message, WebhookEvent, Webhooks, hmac};

text_enum! {
    /// An event that an endpoint can subscribe to. The `billing` events are accepted but never
    /// sent, because this server has no billing.
    pub(crate) enum Event {
        /// Banxico gave a verdict, of any kind.
        Completed = "validation.completed",
        /// The request could not be processed because of its content.
        Failed = "validation.failed",
        /// Processing failed for another reason.
        Error = "validation.error",
        /// A retry is scheduled.
        RetryScheduled = "validation.retry.scheduled",
        /// A retry found the payment.
        RetryResolved = "validation.retry.resolved",
        /// The retries are exhausted, and none found the payment.
        RetryExhausted = "validation.retry.exhausted",
        /// A valid payment was returned later. If the first verdict is already `returned`, the
        /// event is [`Completed`](Self::Completed).
        Returned = "validation.returned",
        PaymentSucceeded = "billing.payment_succeeded",
        PaymentFailed = "billing.payment_failed",
        TrialWillEnd = "billing.trial_will_end",
        SubscriptionCanceled = "billing.subscription_canceled",
        InvoiceUpcoming = "billing.invoice_upcoming",
    }
}

/// The event of a test delivery, which the endpoint's owner requests.
const TEST: &str = "test";

impl Event {
    /// Returns the event of a new verdict; `None` if there is no verdict yet.
    fn of_verdict(status: Status) -> Option<Self> {
        match status {
            Status::Queued | Status::Processing => None,
            Status::Valid
            | Status::NotFound
            | Status::CepUnavailable
            | Status::Invalid
            | Status::Returned => Some(Self::Completed),
            Status::Failed => Some(Self::Failed),
            Status::Error => Some(Self::Error),
        }
    }

    /// Returns the event of a retry cycle that reaches this state. A cancelled cycle has none.
    fn of_retry(state: &RetryState) -> Option<Self> {
        match state {
            RetryState::Active { .. } => Some(Self::RetryScheduled),
            RetryState::Ended { ending: Ending::Resolved, .. } => Some(Self::RetryResolved),
            RetryState::Ended { ending: Ending::Exhausted, .. } => Some(Self::RetryExhausted),
            RetryState::Ended { ending: Ending::Cancelled, .. }
            | RetryState::Intended { .. }
            | RetryState::None => None,
        }
    }
}

/// Creates the webhooks of this API.
///
/// # Errors
/// If the HTTP client cannot be built.
pub(crate) fn webhooks(platform: &Platform, config: &config::Webhooks) -> reqwest::Result<Arc<Webhooks>> {
    let rules = Rules {
        allow_http: platform.demo || config.allow_http,
        allow_private: platform.demo || config.allow_private,
    };
    Webhooks::new(platform, rules, config, headers).map(Arc::new)
}

/// Announces the first verdict of a validation and its scheduled retry, in the transaction that
/// stores them. The commit wakes the worker.
pub(super) async fn announce_verdict(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &Validation,
) -> Result<(), AnnounceError> {
    if let Some(event) = Event::of_verdict(validation.status) {
        announce_event(api, connection.reborrow(), validation, event).await?;
    }
    announce_retry(api, connection, validation).await
}

/// Announces the new state of a validation's retries, in the transaction that stores it.
pub(super) async fn announce_retry(
    api: &Api,
    connection: Connection<'_>,
    validation: &Validation,
) -> Result<(), AnnounceError> {
    match Event::of_retry(&validation.retry_state) {
        Some(event) => announce_event(api, connection, validation, event).await,
        None => Ok(()),
    }
}

async fn announce_event(
    api: &Api,
    connection: Connection<'_>,
    validation: &Validation,
    event: Event,
) -> Result<(), AnnounceError> {
    let subject = validation.id.to_string();
    let name = event.as_str();
    let event = WebhookEvent { account: &validation.account, event: name, subject: &subject };
    let now = platform::clock::timestamp();
    api.webhooks.announce(connection, event, || body(name, now, &validation.resource())).await
}

/// Returns the body of a delivery.
fn body(event: &str, at: Timestamp, data: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Body<'a, Data> {
        event: &'a str,
        timestamp: Utc,
        data: &'a Data,
        meta: Meta,
    }
    #[derive(Serialize)]
    struct Meta {
        datetime: DatetimeMeta,
    }
    let body = Body { event, timestamp: Utc(at), data, meta: Meta { datetime: DatetimeMeta::UTC } };
    serde_json::to_string(&body).expect("a document of plain fields serialises")
}

/// Returns the headers of a delivery. Both signatures cover the body as it is sent; the second one
/// also covers the time of the attempt.
fn headers(message: &Message<'_>, secret: &SecretString, now: Timestamp) -> HeaderMap {
    let (body, seconds) = (message.body.as_bytes(), now.as_second().to_string());
    let signature = format!("sha256={}", hmac(secret, &[body]));
    let timestamped = format!("t={seconds},v1={}", hmac(secret, &[seconds.as_bytes(), b".", body]));
    let shown = serde_json::to_value(Utc(now)).expect("a time serialises");
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    for (name, value) in [
        ("x-webhook-signature", signature.as_str()),
        ("x-webhook-signature-timestamped", &timestamped),
        ("x-veriko-event", message.event),
        ("x-veriko-delivery-id", &message.id.to_string()),
        ("x-veriko-timestamp", shown.as_str().unwrap_or_default()),
    ] {
        let value = HeaderValue::from_str(value).expect("names, digits and times are visible ASCII");
        headers.insert(HeaderName::from_static(name), value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::webhooks::DeliveryId;

    /// The expected digests were computed with `openssl dgst -sha256 -hmac`.
    #[test]
    fn both_signatures_cover_the_bytes_of_the_body() {
        let message = Message { id: DeliveryId(17), event: "validation.completed", body: "{\"a\":1}" };
        let now = "2025-03-15T14:22:10.9Z".parse().unwrap();
        let headers = headers(&message, &"0123abcd".into(), now);
        let mut shown: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        shown.sort();
        assert_eq!(shown, EXPECTED);
    }

    const EXPECTED: [&str; 6] = [
        "content-type: application/json; charset=utf-8",
        "x-veriko-delivery-id: 17",
        "x-veriko-event: validation.completed",
        "x-veriko-timestamp: 2025-03-15T14:22:10Z",
        "x-webhook-signature-timestamped: \
         t=1742048530,v1=75b25a518aa4056617d1ad7b18b79d432ac6d3bd1868b20203c8c7749f28f5b0",
        "x-webhook-signature: sha256=f9151283b65896cda6f839c1799663eb9b69e49a08ee8eb437ffd091772bc9e1",
    ];

    #[test]
    fn every_verdict_has_its_event() {
        for (status, event) in [
            (Status::Queued, None),
            (Status::Valid, Some(Event::Completed)),
            (Status::NotFound, Some(Event::Completed)),
            (Status::CepUnavailable, Some(Event::Completed)),
            (Status::Returned, Some(Event::Completed)),
            (Status::Failed, Some(Event::Failed)),
            (Status::Error, Some(Event::Error)),
        ] {
            assert_eq!(Event::of_verdict(status), event, "{status}");
        }
        assert_eq!(Event::of_retry(&RetryState::None), None);
    }
}
