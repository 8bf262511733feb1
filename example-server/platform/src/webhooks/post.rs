//! A single attempt: the signed request and the receiver's response.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::{DeliveryId, Webhooks};
use crate::clock;
use crate::outbound::{Outbound, OutboundError};

/// A message to send.
#[derive(Debug)]
pub struct Message<'a> {
    pub id: DeliveryId,
    pub event: &'a str,
    pub body: &'a str,
}

/// Builds the headers of an attempt at this time, including signatures with this secret.
pub type Headers = fn(&Message<'_>, &SecretString, Timestamp) -> HeaderMap;

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverAnswer {
    /// The status of the response, or `None` if there was no response.
    pub status: Option<u16>,
    /// The beginning of the response body.
    pub body: Option<String>,
    pub took_ms: u64,
    /// The reason why there was no response.
    pub error: Option<String>,
    /// The wait that the receiver asks for.
    pub retry_after: Option<Duration>,
}

/// Maximum characters of a response body to store.
const BODY_CHARS: usize = 500;
/// Maximum bytes of a response body to read.
const BODY_BYTES: usize = 4 * BODY_CHARS;

impl ReceiverAnswer {
    /// Returns whether the receiver accepted the message.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Webhooks {
    /// Sends a message with the API's headers.
    pub(super) async fn send(
        &self,
        url: &str,
        secret: &SecretString,
        message: &Message<'_>,
    ) -> ReceiverAnswer {
        let headers = (self.headers)(message, secret, clock::timestamp());
        post(&self.outbound, url, headers, message.body, self.timeout).await
    }
}

/// Posts the body if the URL may be called.
pub(super) async fn post(
    outbound: &Outbound,
    url: &str,
    headers: HeaderMap,
    body: &str,
    timeout: Duration,
) -> ReceiverAnswer {
    let began = clock::now();
    let answer = async {
        // Check again, because the rules may have changed since the URL was accepted.
        let url = outbound.check(url).map_err(OutboundError::Url)?;
        let body = Bytes::copy_from_slice(body.as_bytes());
        outbound.post(&url, headers, body, BODY_BYTES, timeout).await
    };
    let answer = answer.await;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answer = match answer {
        Ok(answer) => ReceiverAnswer {
            status: Some(answer.status.as_u16()),
            body: beginning(&answer.body),
            took_ms,
            error: None,
            retry_after: answer.retry_after,
        },
        Err(error) => {
            let error = Some(error.to_string());
            ReceiverAnswer { status: None, body: None, took_ms, error, retry_after: None }
        }
    };
    let outcome = if answer.is_success() { "success" } else { "failure" };
    metrics::counter!("webhook_tries_total", "outcome" => outcome).increment(1);
    answer
}

/// Returns the HMAC-SHA256 of the concatenated parts, in hexadecimal digits.
pub fn hmac(secret: &SecretString, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC accepts keys of any length");
    for part in parts {
        mac.update(part);
    }
    hex::encode(mac.finalize().into_bytes())
}

/// Returns the beginning of a body as text that both databases can store, or `None` if it is empty.
fn beginning(body: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(body).chars().take(BODY_CHARS).collect();
    (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_500_characters_of_a_response_are_kept() {
        assert_eq!(beginning(b""), None);
        assert_eq!(beginning(b"ok").as_deref(), Some("ok"));
        assert_eq!(beginning(b"a\0b\xff").as_deref(), Some("a\u{fffd}b\u{fffd}"));
        let long = "ñ".repeat(501);
        assert_eq!(beginning(long.as_bytes()), Some("ñ".repeat(500)));
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_hmac_is_the_one_of_the_rfc() {
        let digits = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hmac(&"Jefe".into(), &[b"what do ya want for nothing?"]), digits);
        assert_eq!(hmac(&"Jefe".into(), &[b"what do ya want ", b"for nothing?"]), digits);
    }
}
