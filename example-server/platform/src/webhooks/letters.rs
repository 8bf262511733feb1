//! Telling whoever a request names by a URL of its own. No endpoint is registered for it.
//!
//! A letter is a cycle of the scheduler, and nothing else: it is written in the transaction of what it tells of, carries
//! the bytes that are sent, and is tried until it is taken. What was committed is told, whenever the process dies; what was
//! taken, but not recorded when it died, is sent again with the same id. Letters overtake each other.

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
use crate::{clock, fault, retry_after};

/// When a try is made for an account that has its hands full.
const BUSY: Duration = Duration::from_secs(1);
/// When one is made that cannot be signed, which takes somebody to mend.
const UNSIGNED: Duration = Duration::from_mins(1);
/// How long it may take to find out what to sign with, beside the sending.
const TO_SIGN: Duration = Duration::from_secs(30);

/// The letters of one API.
#[derive(Debug)]
pub struct Letters {
    database: Database,
    cycles: Cycles,
    /// Who may be told.
    pub outbound: Outbound,
    secrets: Secrets,
    places: Arc<Places<String>>,
    manner: Manner,
}

/// How an API sends its letters.
#[derive(Debug)]
pub struct Manner {
    /// What the scheduler calls this kind of work.
    pub namespace: &'static str,
    pub plan: Plan,
    pub timeout: Duration,
    /// The headers of a try with this body at this time, signed with this secret.
    pub headers: fn(&[u8], &SecretString, Timestamp) -> HeaderMap,
    /// The secrets of accounts whose keys are public.
    pub demo_secrets: &'static [DemoSecret],
    /// Where a test can stop, between the sending and its record.
    pub sent: &'static str,
}

impl Letters {
    /// # Errors
    /// There is no client to send with.
    pub fn new(platform: &Platform, manner: Manner) -> reqwest::Result<Self> {
        let demo = if platform.demo { manner.demo_secrets } else { &[] };
        Ok(Self {
            database: platform.database.clone(),
            cycles: platform.cycles.clone(),
            outbound: platform.outbound()?,
            secrets: Secrets::new(Arc::clone(&platform.sealer), demo),
            places: Arc::clone(&platform.deliveries),
            manner,
        })
    }

    /// Whether the secrets that are kept can be opened with the keys there are.
    ///
    /// # Errors
    /// They cannot.
    pub async fn check_secrets(&self) -> Result<(), SecretError> {
        self.secrets.check(&self.database).await
    }

    /// Writes down, in the caller's transaction, that the owner is to be told this at this URL. The commit wakes the
    /// worker.
    ///
    /// # Errors
    /// It is not written, and what was to be told must not be committed.
    pub async fn send(
        &self,
        connection: Connection<'_>,
        id: &str,
        owner: &Owner,
        url: &str,
        body: String,
    ) -> Result<(), SchedulerError> {
        let letter = Letter { environment: owner.environment.as_str().to_owned(), url: url.to_owned(), body };
        let payload = serde_json::to_vec(&letter).expect("plain fields serialise");
        let key = CycleKey::new(self.manner.namespace, id);
        let new = NewCycle::new(key, self.manner.plan.clone()).tenant(&owner.account).payload(payload);
        self.cycles.schedule_in(connection, new).await.map(drop)
    }

    /// Registers what sends them.
    pub fn register_handlers(self: &Arc<Self>, handlers: &mut Handlers) {
        let longest = self.manner.timeout.saturating_add(TO_SIGN);
        handlers.add(self.manner.namespace, Sending(Arc::clone(self)), longest);
    }
}

/// The payload of a letter's cycle, whose tenant is the account.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    environment: String,
    url: String,
    /// The same bytes at each try.
    body: String,
}

/// Makes one try.
#[derive(Debug)]
struct Sending(Arc<Letters>);

#[async_trait]
impl Handler for Sending {
    async fn attempt(&self, attempt: Attempt) -> Done {
        let Letters { database, outbound, secrets, places, manner, .. } = &*self.0;
        let CycleKey { namespace, subject: id } = &attempt.cycle().key;
        let Some((owner, letter)) = read(&attempt) else {
            tracing::error!(namespace, id, "a letter cannot be read, and is given up");
            return report(Verdict::Permanent);
        };
        let Some(_place) = places.enter(&owner.account) else {
            return Done::Deferred { retry_in: BUSY };
        };
        let secret = match secrets.of(database, &owner).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let account = owner.account;
                tracing::error!(namespace, id, account, "there is no signing secret, and a letter waits");
                return Done::Deferred { retry_in: UNSIGNED };
            }
            Err(fault) => {
                tracing::error!(namespace, id, %fault, "a letter cannot be signed, and waits");
                return Done::Deferred { retry_in: UNSIGNED };
            }
        };
        let headers = (manner.headers)(letter.body.as_bytes(), &secret, clock::timestamp());
        let posting = post(outbound, &letter.url, headers, &letter.body, manner.timeout);
        let Some(receipt) = attempt.token().run_until_cancelled(posting).await else {
            return Done::Deferred { retry_in: Duration::ZERO };
        };
        fault::point(manner.sent).await;
        Done::Report(if receipt.is_success() {
            Report::success()
        } else {
            retry_after::failure(attempt.cycle(), receipt.retry_after)
        })
    }
}

fn read(attempt: &Attempt) -> Option<(Owner, Letter)> {
    let letter: Letter = serde_json::from_slice(attempt.payload()).ok()?;
    let environment = letter.environment.parse().ok()?;
    Some((Owner { account: attempt.cycle().tenant.clone(), environment }, letter))
}

fn report(verdict: Verdict) -> Done {
    Done::Report(Report::new(verdict))
}
