//! The interface between the program and a vendor's API: definition, configuration, operation.

use std::sync::Arc;

use async_trait::async_trait;

use crate::BoxError;
use crate::account::Permission;
use crate::api_key::KeyFormat;
use crate::config::{ConfigError, ConfigFile};
use crate::openapi::{ApiDocument, Documented};
use crate::stack::{ApiBuilder, BuiltApi};
use crate::state::Platform;
use crate::worker::Handlers;

/// The static definition of an API, which the program lists.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name in the database, on the command line and in the configuration file.
    pub name: &'static str,
    pub key_format: KeyFormat,
    pub permissions: &'static [Permission],
    /// Whether each account has one secret that signs its webhooks. `keys create` prints it.
    pub has_signing_secret: bool,
    /// The defaults of its section of the configuration file, as TOML.
    pub defaults: &'static str,
    /// Returns its `OpenAPI` document.
    pub document: fn() -> ApiDocument,
    /// Reads its section of the configuration file.
    pub configure: fn(&ConfigFile) -> Result<Open, ConfigError>,
}

/// Opens a configured API.
pub type Open = Box<dyn FnOnce(&Platform) -> Result<Arc<dyn Api>, BoxError> + Send>;

impl Definition {
    /// Creates the definition of the vendor's API from its constants and the given parts.
    pub const fn of<V: Documented>(
        defaults: &'static str,
        document: fn() -> ApiDocument,
        configure: fn(&ConfigFile) -> Result<Open, ConfigError>,
    ) -> Self {
        Self {
            name: V::NAME,
            key_format: V::KEY_FORMAT,
            permissions: V::PERMISSIONS,
            has_signing_secret: V::HAS_SIGNING_SECRET,
            defaults,
            document,
            configure,
        }
    }
}

/// An open API of one vendor.
#[async_trait]
pub trait Api: Send + Sync {
    /// Checks that the configured keys can decrypt the secrets in the database.
    ///
    /// # Errors
    ///
    /// If they cannot.
    async fn check_secrets(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Registers the handlers that run the attempts of its cycles.
    fn register_handlers(&self, handlers: &mut Handlers);

    /// Builds its operations and their middleware stack.
    fn build(&self, builder: &mut ApiBuilder) -> BuiltApi;

    /// Runs periodic maintenance, forever.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any time.
    async fn run_maintenance(&self);
}
