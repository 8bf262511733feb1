//! Callbacks: messages to a URL that a request names, without a registered endpoint.
//!
//! A callback is a single cycle of the scheduler, which contains the bytes to send. It is scheduled
//! in the transaction of the change that it reports, and attempted until the receiver accepts it. A
//! crash loses no committed callback. If the process dies after the receiver accepted it and before
//! that is recorded, it is sent again with the same id. Callbacks are not ordered.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jiff::Timestamp;
use retry_scheduler::{Attempt, CycleKey, Done, Handler, NewCycle, Plan, Report, SchedulerError, Verdict};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::post::post;
use super::secrets::{DemoSecret, SecretError, Secrets};
use crate::cycles::Cycles;
use crate::db::{Connection, Database};
use crate::outbound::Outbound;
use crate::owner::Owner;
use crate::places::Places;
use crate::state::Platform;
use crate::worker::Handlers;
use crate::{clock, failpoint, retry_after};

/// Retry delay when the account has no free delivery place.
const BUSY: Duration = Duration::from_secs(1);
/// Retry delay while the signing secret is unavailable; needs operator action.
const UNSIGNED: Duration = Duration::from_mins(1);
/// Time to load the signing secret, in addition to the time-out of the request.
const TO_SIGN: Duration = Duration::from_secs(30);

/// Sends the callbacks of one API.
#[derive(Debug)]
pub struct CallbackSender {
    database: Database,
    cycles: Cycles,
    /// The client that sends the callbacks. It checks their URLs.
    pub outbound: Outbound,
    secrets: Secrets,
    places: Arc<Places<String>>,
    config: CallbackConfig,
}

/// How an API sends its callbacks.
#[derive(Debug)]
pub struct CallbackConfig {
    /// The scheduler's namespace of these cycles.
    pub namespace: &'static str,
    pub plan: Plan,
    pub timeout: Duration,
    /// The headers of an attempt: a function of the body, the secret and the time of the attempt.
    pub headers: fn(&[u8], &SecretString, Timestamp) -> HeaderMap,
    /// The secrets of the demo accounts, whose keys are public.
    pub demo_secrets: &'static [DemoSecret],
    /// The name of the failpoint between sending and recording.
    pub sent: &'static str,
}

impl CallbackSender {
    /// Creates the sender of an API.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be built.
    pub fn new(platform: &Platform, config: CallbackConfig) -> reqwest::Result<Self> {
        let demo = if platform.demo { config.demo_secrets } else { &[] };
        Ok(Self {
            database: platform.database.clone(),
            cycles: platform.cycles.clone(),
            outbound: platform.outbound()?,
            secrets: Secrets::new(Arc::clone(&platform.sealer), demo),
            places: Arc::clone(&platform.deliveries),
            config,
        })
    }

    /// Checks that the stored secrets can be decrypted with the configured keys.
    ///
    /// # Errors
    ///
    /// If a secret cannot be decrypted, or the database fails.
    pub async fn check_secrets(&self) -> Result<(), SecretError> {
        self.secrets.check(&self.database).await
    }

    /// Schedules a callback with this body to this URL, in the caller's transaction. The commit
    /// wakes the worker.
    ///
    /// # Errors
    ///
    /// If the callback could not be scheduled. The caller must not commit.
    pub async fn send(
        &self,
        connection: Connection<'_>,
        id: &str,
        owner: &Owner,
        url: &str,
        body: String,
    ) -> Result<(), SchedulerError> {
        let callback =
            CallbackPayload { environment: owner.environment.as_str().to_owned(), url: url.to_owned(), body };
        let payload = serde_json::to_vec(&callback).expect("plain fields serialise");
        let key = CycleKey::new(self.config.namespace, id);
        let new = NewCycle::new(key, self.config.plan.clone()).tenant(&owner.account).payload(payload);
        self.cycles.schedule_in(connection, new).await.map(drop)
    }

    /// Registers the handler that sends the callbacks.
    pub fn register_handlers(self: &Arc<Self>, handlers: &mut Handlers) {
        let attempt_timeout = self.config.timeout.saturating_add(TO_SIGN);
        handlers.add(self.config.namespace, CallbackHandler(Arc::clone(self)), attempt_timeout);
    }
}

/// The payload of a callback's cycle. The cycle's tenant is the account.
#[derive(Debug, Serialize, Deserialize)]
struct CallbackPayload {
    environment: String,
    url: String,
    /// Every attempt sends the same bytes.
    body: String,
}

/// The handler that makes one attempt to send a callback.
#[derive(Debug)]
struct CallbackHandler(Arc<CallbackSender>);

#[async_trait]
impl Handler for CallbackHandler {
    async fn attempt(&self, attempt: Attempt) -> Done {
        let CallbackSender { database, outbound, secrets, places, config, .. } = &*self.0;
        let CycleKey { namespace, subject: id } = &attempt.cycle().key;
        let Some((owner, payload)) = read(&attempt) else {
            tracing::error!(namespace, id, "could not read a callback; giving up");
            return report(Verdict::Permanent);
        };
        let Some(_place) = places.enter(&owner.account) else {
            return Done::Deferred { retry_in: BUSY };
        };
        let secret = match secrets.of(database, &owner).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let account = owner.account;
                tracing::error!(
                    namespace,
                    id,
                    account,
                    "could not sign a callback: the account has no signing secret; retrying later"
                );
                return Done::Deferred { retry_in: UNSIGNED };
            }
            Err(error) => {
                tracing::error!(namespace, id, %error, "could not load the signing secret of a callback; retrying later");
                return Done::Deferred { retry_in: UNSIGNED };
            }
        };
        let headers = (config.headers)(payload.body.as_bytes(), &secret, clock::timestamp());
        let posting = post(outbound, &payload.url, headers, &payload.body, config.timeout);
        let Some(answer) = attempt.token().run_until_cancelled(posting).await else {
            return Done::Deferred { retry_in: Duration::ZERO };
        };
        failpoint::hit(config.sent).await;
        Done::Report(if answer.is_success() {
            Report::success()
        } else {
            retry_after::failure(attempt.cycle(), answer.retry_after)
        })
    }
}

fn read(attempt: &Attempt) -> Option<(Owner, CallbackPayload)> {
    let payload: CallbackPayload = serde_json::from_slice(attempt.payload()).ok()?;
    let environment = payload.environment.parse().ok()?;
    Some((Owner { account: attempt.cycle().tenant.clone(), environment }, payload))
}

fn report(verdict: Verdict) -> Done {
    Done::Report(Report::new(verdict))
}
