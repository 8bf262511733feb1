//! The state that the handlers share.

use std::sync::Arc;

use super::carrier::{Carrier, HttpCarrier, Sandbox};
use super::config::Config;
use super::envelope::Context;
use super::events;
use super::uploads::Uploads;
use super::user::User;
use platform::Platform;
use platform::api_key::Environment;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::webhooks::CallbackSender;

/// A request to this API.
pub(crate) type Call = platform::call::Call<Api, User, Context>;

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(super) database: Database,
    /// The delivery cycles of faxes.
    pub(super) cycles: Cycles,
    pub(super) config: Config,
    pub(super) uploads: Uploads,
    /// Sends the webhook events of faxes.
    pub(super) callbacks: Arc<CallbackSender>,
    sandbox: Sandbox,
    /// The carrier for live faxes.
    carrier: Option<HttpCarrier>,
}

impl Api {
    /// Creates the state.
    ///
    /// # Errors
    /// If the HTTP client for the carrier or the webhooks cannot be built.
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

    /// Returns the carrier for this environment, if there is one.
    pub(super) fn carrier(&self, environment: Environment) -> Option<&dyn Carrier> {
        match environment {
            Environment::Test => Some(&self.sandbox),
            Environment::Live => self.carrier.as_ref().map(|carrier| carrier as &dyn Carrier),
        }
    }
}
