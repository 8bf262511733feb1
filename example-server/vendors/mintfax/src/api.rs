//! What the handlers share.

use std::sync::Arc;

use super::carrier::{Carrier, HttpCarrier, Sandbox};
use super::config::Config;
use super::events;
use super::uploads::Uploads;
use platform::Platform;
use platform::api_key::Environment;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::webhooks::CallbackSender;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(super) database: Database,
    /// The deliveries of faxes.
    pub(super) cycles: Cycles,
    pub(super) config: Config,
    pub(super) uploads: Uploads,
    /// Who is told of faxes.
    pub(super) callbacks: Arc<CallbackSender>,
    sandbox: Sandbox,
    /// For live faxes.
    carrier: Option<HttpCarrier>,
}

impl Api {
    /// # Errors
    /// There is no client to ask the carrier with.
    pub(crate) fn new(platform: &Platform, config: Config, uploads: Uploads) -> reqwest::Result<Self> {
        let carrier = config
            .carrier_url
            .clone()
            .map(|url| HttpCarrier::new(url, config.carrier_timeout_seconds))
            .transpose()?;
        Ok(Self {
            cycles: platform.cycles.clone(),
            callbacks: Arc::new(CallbackSender::new(platform, events::callback_config(&config))?),
            database: platform.database.clone(),
            config,
            uploads,
            sandbox: Sandbox,
            carrier,
        })
    }

    /// Who sends the faxes of this environment, if anybody does.
    pub(super) fn carrier(&self, environment: Environment) -> Option<&dyn Carrier> {
        match environment {
            Environment::Test => Some(&self.sandbox),
            Environment::Live => self.carrier.as_ref().map(|carrier| carrier as &dyn Carrier),
        }
    }
}
