//! The definition of this API, by which the program lists and runs it.

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
use crate::config::{DEFAULTS, Veriko as Config};
use crate::user::Veriko;
use crate::{images, queue, retrying, routes, usage, webhooks};

/// The Veriko API: proofs of SPEI transfers.
pub const API: Definition = Definition::of::<Veriko>(DEFAULTS, describe, configure);

fn describe() -> ApiDocument {
    document::<Veriko, _>(&routes())
}

fn configure(file: &ConfigFile) -> Result<Open, ConfigError> {
    let config: Config = file.section(Veriko::NAME)?;
    Ok(Box::new(move |platform| Ok(Arc::new(Running::open(platform, config)?))))
}

/// The running API.
#[derive(Debug)]
struct Running {
    vendor: Veriko,
    api: Arc<Api>,
}

impl Running {
    fn open(platform: &Platform, config: Config) -> Result<Self, BoxError> {
        let webhooks = webhooks::webhooks(platform, &config.webhooks)?;
        let api = Arc::new(Api::new(platform, &config, webhooks)?);
        let recogniser = Arc::clone(&api.recogniser);
        tokio::spawn(async move { recogniser.prepare().await });
        Ok(Self { vendor: Veriko(Arc::new(config)), api })
    }
}

#[async_trait]
impl platform::api::Api for Running {
    async fn check_secrets(&self) -> Result<(), BoxError> {
        Ok(self.api.webhooks.check_secrets().await?)
    }

    fn register_handlers(&self, handlers: &mut Handlers) {
        self.api.webhooks.register_handlers(handlers);
        retrying::register_handlers(&self.api, handlers);
        queue::register_handlers(&self.api, handlers);
        // A validation whose cycle has ended can be reactivated, and its cycle keeps its counts.
        handlers.keep_ended(self.vendor.0.longest_age());
    }

    fn build(&self, builder: &mut ApiBuilder) -> BuiltApi {
        let operations = routes().into_iter().map(|route| route.with_state(&self.api)).collect();
        builder.build(self.vendor.clone(), operations)
    }

    async fn run_maintenance(&self) {
        tokio::join!(usage::run_maintenance(&self.api), Box::pin(images::run_maintenance(&self.api)));
    }
}
