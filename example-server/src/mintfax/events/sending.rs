//! What sends events.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use retry_scheduler::{Attempt, Done, Handler, Report, Verdict};
use secrecy::SecretString;

use super::Letter;
use crate::mintfax::api::Api;
use crate::mintfax::owner::Owner;
use crate::webhooks::{hmac, post};
use crate::{clock, fault};

/// When a try is made to somebody whose other events are under way.
const BUSY: Duration = Duration::from_secs(1);
/// When one is made that cannot be signed, which takes somebody to mend.
const UNSIGNED: Duration = Duration::from_mins(1);

const X_MINTFAX_TIMESTAMP: HeaderName = HeaderName::from_static("x-mintfax-timestamp");
const X_MINTFAX_SIGNATURE: HeaderName = HeaderName::from_static("x-mintfax-signature");

/// Makes one try.
#[derive(Debug)]
pub(super) struct Sending(pub(super) Arc<Api>);

#[async_trait]
impl Handler for Sending {
    async fn attempt(&self, attempt: Attempt) -> Done {
        let api = &self.0;
        let id = &attempt.cycle().key.subject;
        let Some((owner, letter)) = read(&attempt) else {
            tracing::error!(event = id, "an event of a fax cannot be read, and is given up");
            return report(Verdict::Hopeless);
        };
        let who = format!("mintfax {} {}", owner.environment.as_str(), owner.account);
        let Some(_place) = api.in_flight.enter(&who) else {
            return Done::Deferred { retry_in: BUSY };
        };
        let secret = match api.secrets.of(&api.database, &owner).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                tracing::error!(
                    event = id,
                    account = owner.account,
                    "there is no signing secret, and an event waits"
                );
                return Done::Deferred { retry_in: UNSIGNED };
            }
            Err(fault) => {
                tracing::error!(event = id, %fault, "an event of a fax cannot be signed, and waits");
                return Done::Deferred { retry_in: UNSIGNED };
            }
        };
        let headers = headers(letter.body.as_bytes(), &secret, clock::timestamp());
        let timeout = api.config.webhook_timeout();
        let posting = post(&api.outbound, &letter.url, headers, &letter.body, timeout);
        let Some(receipt) = attempt.token().run_until_cancelled(posting).await else {
            return Done::Deferred { retry_in: Duration::ZERO };
        };
        fault::point("fax-event-sent").await;
        report(if receipt.is_success() { Verdict::Success } else { Verdict::Failure })
    }
}

fn read(attempt: &Attempt) -> Option<(Owner, Letter)> {
    let letter = Letter::of_payload(attempt.payload())?;
    let environment = letter.environment.parse().ok()?;
    Some((Owner { account: attempt.cycle().tenant.clone(), environment }, letter))
}

fn report(verdict: Verdict) -> Done {
    Done::Report(Report { verdict, detail: Bytes::new() })
}

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
