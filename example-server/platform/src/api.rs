//! One vendor's API, as the program lists, configures and runs it.

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

/// What the program knows of an API before it runs: one line in its list.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name in the database, on the command line and in the configuration file.
    pub name: &'static str,
    pub key_format: KeyFormat,
    pub permissions: &'static [Permission],
    /// Whether an account has one secret that its webhooks are signed with, which `keys create` prints.
    pub has_signing_secret: bool,
    /// The defaults of its section of the configuration file, in TOML.
    pub defaults: &'static str,
    /// Returns its `OpenAPI` document.
    pub document: fn() -> ApiDocument,
    /// Reads its section of the configuration file.
    pub configure: fn(&ConfigFile) -> Result<Open, ConfigError>,
}

/// Opens an API that is configured.
pub type Open = Box<dyn FnOnce(&Platform) -> Result<Arc<dyn Api>, BoxError> + Send>;

impl Definition {
    /// The definition of this vendor, whose section has these defaults.
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

/// One vendor's API, open.
#[async_trait]
pub trait Api: Send + Sync {
    /// Checks that the secrets in the database can be decrypted with the keys there are.
    ///
    /// # Errors
    /// They cannot.
    async fn check_secrets(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Registers what makes the attempts of its cycles.
    fn register_handlers(&self, handlers: &mut Handlers);

    /// Builds its operations and the stack before them.
    fn build(&self, builder: &mut ApiBuilder) -> BuiltApi;

    /// Runs, forever, what no request does. To be dropped at any time.
    async fn run_maintenance(&self);
}
