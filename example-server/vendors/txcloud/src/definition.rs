//! The API's definition, which the program lists and runs.

use std::sync::Arc;

use async_trait::async_trait;
use platform::BoxError;
use platform::Platform;
use platform::api::{Definition, Open};
use platform::config::{ConfigError, ConfigFile};
use platform::openapi::{ApiDocument, document};
use platform::stack::{ApiBuilder, BuiltApi};
use platform::worker::Handlers;

use platform::vendor::Vendor;

use crate::api::Api;
use crate::config::{Config, DEFAULTS};
use crate::engines::Engines;
use crate::user::Txcloud;
use crate::{background, routes};

/// The `TXCloud` API: identity, transaction, lending, business and watchlist checks.
pub const API: Definition = Definition::of::<Txcloud>(DEFAULTS, describe, configure);

fn describe() -> ApiDocument {
    document::<Txcloud, _>(&routes())
}

fn configure(file: &ConfigFile) -> Result<Open, ConfigError> {
    let config: Config = file.section(Txcloud::NAME)?;
    Ok(Box::new(move |platform| Ok(Arc::new(Running::open(platform, &config)?))))
}

/// The running API.
#[derive(Debug)]
struct Running {
    vendor: Txcloud,
    api: Arc<Api>,
}

impl Running {
    fn open(platform: &Platform, config: &Config) -> Result<Self, BoxError> {
        let api = Arc::new(Api::new(platform, Engines::sandbox(), config)?);
        Ok(Self { vendor: Txcloud::new(config), api })
    }
}

#[async_trait]
impl platform::api::Api for Running {
    async fn check_secrets(&self) -> Result<(), BoxError> {
        Ok(self.api.callbacks.check_secrets().await?)
    }

    fn register_handlers(&self, handlers: &mut Handlers) {
        background::register_handlers(&self.api, handlers);
        self.api.callbacks.register_handlers(handlers);
    }

    fn build(&self, builder: &mut ApiBuilder) -> BuiltApi {
        let operations = routes().into_iter().map(|route| route.with_state(&self.api)).collect();
        builder.build(self.vendor.clone(), operations)
    }

    async fn run_maintenance(&self) {
        // This API needs no maintenance.
        std::future::pending::<()>().await;
    }
}
