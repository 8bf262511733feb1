//! What the handlers share.

use std::sync::Arc;

use axum::response::Response;
use retry_scheduler::WorkerHandle;

use super::carrier::{Carrier, HttpCarrier, Sandbox};
use super::config::Config;
use super::events;
use super::uploads::Uploads;
use crate::accounts::Environment;
use crate::cycles::Cycles;
use crate::db::Database;
use crate::webhooks::{Letters, SecretError, Telling};

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) database: Database,
    /// The deliveries of faxes.
    pub(super) cycles: Cycles,
    pub(super) config: Config,
    pub(super) uploads: Uploads,
    /// Who is told of faxes.
    pub(super) letters: Arc<Letters>,
    sandbox: Sandbox,
    /// For live faxes.
    carrier: Option<HttpCarrier>,
    /// Who makes the attempts, to be woken when there is something to do.
    pub(super) worker: WorkerHandle,
}

impl Api {
    /// # Errors
    /// There is no client to ask the carrier with.
    pub(crate) fn new(
        database: Database,
        config: Config,
        uploads: Uploads,
        telling: Telling,
        worker: WorkerHandle,
    ) -> reqwest::Result<Self> {
        let carrier = config
            .carrier_url
            .clone()
            .map(|url| HttpCarrier::new(url, config.carrier_timeout_seconds))
            .transpose()?;
        Ok(Self {
            cycles: Cycles::of(&database),
            letters: Arc::new(Letters::new(database.clone(), telling, events::manner(&config))),
            database,
            config,
            uploads,
            sandbox: Sandbox,
            carrier,
            worker,
        })
    }

    /// Who sends the faxes of this environment, if anybody does.
    pub(super) fn carrier(&self, environment: Environment) -> Option<&dyn Carrier> {
        match environment {
            Environment::Test => Some(&self.sandbox),
            Environment::Live => self.carrier.as_ref().map(|carrier| carrier as &dyn Carrier),
        }
    }

    /// Whether the secrets that are kept can be opened with the keys there are.
    ///
    /// # Errors
    /// They cannot.
    pub(crate) async fn check_secrets(&self) -> Result<(), SecretError> {
        self.letters.check_secrets().await
    }

    /// Deletes what uploads have left behind, for ever.
    pub(crate) async fn keep_up(self: &Arc<Self>) {
        self.uploads.keep_swept(&self.database).await;
    }
}

/// The answer to what has left something due: once it is committed, and the answer on its way out, the
/// [stack](crate::app::app) wakes the worker.
pub(super) fn waking(api: &Api, mut response: Response) -> Response {
    response.extensions_mut().insert(api.worker.clone());
    response
}
