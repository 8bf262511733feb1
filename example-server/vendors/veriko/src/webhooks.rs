//! What the API tells of by webhook, and how it signs.

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
    /// What an endpoint can be told of. Nothing is told of `billing`, of which this server has none.
    pub(crate) enum Event {
        /// Banxico gave a verdict, whichever it is.
        Completed = "validation.completed",
        /// It stopped at what was sent.
        Failed = "validation.failed",
        /// It stopped at something else.
        Error = "validation.error",
        /// A retry is due at some time.
        RetryScheduled = "validation.retry.scheduled",
        /// A retry found the payment.
        RetryResolved = "validation.retry.resolved",
        /// There are no retries any more, and none found it.
        RetryExhausted = "validation.retry.exhausted",
        /// What was valid was sent back later. A verdict that says so from the beginning is [`Completed`](Self::Completed).
        Returned = "validation.returned",
        PaymentSucceeded = "billing.payment_succeeded",
        PaymentFailed = "billing.payment_failed",
        TrialWillEnd = "billing.trial_will_end",
        SubscriptionCanceled = "billing.subscription_canceled",
        InvoiceUpcoming = "billing.invoice_upcoming",
    }
}

/// The event of a delivery that its endpoint's owner asked for, to see whether it arrives.
const TEST: &str = "test";

impl Event {
    /// What a new verdict is; `None` while there is none.
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

    /// What a step of a retry cycle to this state is. To be called off is none.
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

/// The webhooks of this API.
///
/// # Errors
/// There is no client to send with.
pub(crate) fn webhooks(platform: &Platform, config: &config::Webhooks) -> reqwest::Result<Arc<Webhooks>> {
    let rules = Rules {
        allow_http: platform.demo || config.allow_http,
        allow_private: platform.demo || config.allow_private,
    };
    Webhooks::new(platform, rules, config, headers).map(Arc::new)
}

/// Tells of the first verdict of a validation, and of the retry that it is to have: in the transaction that keeps them.
/// The commit wakes the worker.
pub(super) async fn tell_verdict(
    api: &Api,
    mut connection: Connection<'_>,
    validation: &Validation,
) -> Result<(), AnnounceError> {
    if let Some(event) = Event::of_verdict(validation.status) {
        tell(api, connection.reborrow(), validation, event).await?;
    }
    tell_retry(api, connection, validation).await
}

/// Tells of the step that the retries of a validation have made: in the transaction that keeps it.
pub(super) async fn tell_retry(
    api: &Api,
    connection: Connection<'_>,
    validation: &Validation,
) -> Result<(), AnnounceError> {
    match Event::of_retry(&validation.retry_state) {
        Some(event) => tell(api, connection, validation, event).await,
        None => Ok(()),
    }
}

async fn tell(
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

/// The body of a delivery.
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

/// Both signatures are of the bytes as they are sent; the second one's time is that of the try.
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

    /// The digits were made with `openssl dgst -sha256 -hmac`.
    #[test]
    fn both_signatures_are_of_the_bytes() {
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
    fn every_verdict_and_every_step_has_its_event() {
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
