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
use crate::uploads::Uploads;
use crate::user::Mintfax;
use crate::{delivery, routes};

/// The mintfax API: fax sending and billing.
pub const API: Definition = Definition::of::<Mintfax>(DEFAULTS, describe, configure);

fn describe() -> ApiDocument {
    document::<Mintfax, _>(&routes())
}

fn configure(file: &ConfigFile) -> Result<Open, ConfigError> {
    let config: Config = file.section(Mintfax::NAME)?;
    Ok(Box::new(move |platform| Ok(Arc::new(Running::open(platform, config)?))))
}

/// The running API.
#[derive(Debug)]
struct Running {
    vendor: Mintfax,
    api: Arc<Api>,
}

impl Running {
    fn open(platform: &Platform, config: Config) -> Result<Self, BoxError> {
        let uploads = Uploads::configured(&config, &platform.storage);
        let api = Arc::new(Api::new(platform, config.clone(), uploads)?);
        Ok(Self { vendor: Mintfax(config), api })
    }
}

#[async_trait]
impl platform::api::Api for Running {
    async fn check_secrets(&self) -> Result<(), BoxError> {
        Ok(self.api.callbacks.check_secrets().await?)
    }

    fn register_handlers(&self, handlers: &mut Handlers) {
        delivery::register_handlers(&self.api, handlers);
        self.api.callbacks.register_handlers(handlers);
    }

    fn build(&self, builder: &mut ApiBuilder) -> BuiltApi {
        let operations = routes().into_iter().map(|route| route.with_state(&self.api)).collect();
        builder.build(self.vendor.clone(), operations)
    }

    async fn run_maintenance(&self) {
        self.api.uploads.run_sweep(&self.api.database).await;
    }
}
