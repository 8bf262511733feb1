//! One try: the request, signed, and what the receiver said.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::{DeliveryId, Webhooks};
use crate::outbound::{Outbound, OutboundFault};
use crate::{clock, hex};

/// What is sent.
#[derive(Debug)]
pub struct Message<'a> {
    pub id: DeliveryId,
    pub event: &'a str,
    pub body: &'a str,
}

/// The headers of a try at this time, signatures with this secret among them.
pub type Headers = fn(&Message<'_>, &SecretString, Timestamp) -> HeaderMap;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverAnswer {
    /// `None`: there was no answer.
    pub status: Option<u16>,
    /// The beginning of the answer's body.
    pub body: Option<String>,
    pub took_ms: u64,
    /// Why there was no answer.
    pub error: Option<String>,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
}

/// What is kept of an answer, in characters; and read of it, in bytes.
const BODY_CHARS: usize = 500;
const BODY_BYTES: usize = 4 * BODY_CHARS;

impl ReceiverAnswer {
    /// Whether the receiver took it.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Webhooks {
    /// Sends it, signed as the API signs.
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

/// Posts it, if the URL may be called.
pub(super) async fn post(
    outbound: &Outbound,
    url: &str,
    headers: HeaderMap,
    body: &str,
    timeout: Duration,
) -> ReceiverAnswer {
    let began = clock::now();
    let answer = async {
        // Again: what may be called can have changed since the URL was taken.
        let url = outbound.check(url).map_err(OutboundFault::Url)?;
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

/// HMAC-SHA256 of these bytes, one after the other, in hexadecimal digits.
pub fn hmac(secret: &SecretString, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("a key of any length will do");
    for part in parts {
        mac.update(part);
    }
    hex::encode(&mac.finalize().into_bytes())
}

/// As text that every database keeps; `None` if there is nothing.
fn beginning(body: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(body).chars().take(BODY_CHARS).collect();
    (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_the_first_500_characters_are_kept() {
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
