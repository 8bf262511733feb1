//! The shared state of the handlers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::cep::{Answer, Cep, CepVerdict, Payment, Provider, Recent};
use crate::config::Veriko;
use crate::envelope::Context;
use crate::ocr::{Recogniser, Tesseract};
use crate::user::User;
use platform::Platform;
use platform::clock;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::encryption::Sealer;
use platform::outbound::{Outbound, Rules};
use platform::webhooks::Webhooks;

/// A request to this API.
pub(crate) type Call = platform::call::Call<Api, User, Context>;

/// The shared state of the handlers.
#[derive(Debug)]
pub struct Api {
    pub(crate) database: Database,
    /// The retry cycles of validations.
    pub(crate) cycles: Cycles,
    /// Verifies payments.
    pub(crate) provider: Arc<dyn Provider>,
    /// The time-out of a query to the provider.
    pub(crate) cep_timeout: Duration,
    /// The results of recent queries.
    pub(crate) recent: Recent,
    /// The maximum time that a validation may wait in the queue.
    pub(crate) queue_expiry: Duration,
    /// Reads the text of receipts.
    pub(crate) recogniser: Arc<dyn Recogniser>,
    /// Fetches pictures that are given as a URL.
    pub(crate) pictures: Outbound,
    /// Webhook subscriptions and delivery.
    pub(crate) webhooks: Arc<Webhooks>,
    /// Encrypts the pictures at rest.
    pub(crate) sealer: Arc<Sealer>,
    /// The retention period of pictures.
    pub(crate) images_kept: Duration,
}

/// The result of a query about a payment.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verdict: CepVerdict,
    /// Present if the payment is valid.
    pub(super) cep: Option<Cep>,
    pub(super) took_ms: u64,
}

impl Api {
    /// # Errors
    /// If an HTTP client cannot be built.
    pub(crate) fn new(
        platform: &Platform,
        config: &Veriko,
        webhooks: Arc<Webhooks>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            cycles: platform.cycles.clone(),
            database: platform.database.clone(),
            provider: config.cep.provider()?,
            cep_timeout: config.cep.timeout(),
            queue_expiry: config.queue.expiry(),
            recent: Recent::default(),
            recogniser: Arc::new(Tesseract::new(&config.ocr)),
            pictures: Outbound::new(Rules { allow_http: false, allow_private: false })?,
            webhooks,
            sealer: Arc::clone(&platform.sealer),
            images_kept: config.ocr.keep(),
        })
    }

    /// Queries the provider about a payment, for the `asked`-th time. A time-out is also a verdict.
    ///
    /// The query may take long, so do not hold a database connection during it.
    pub(super) async fn ask(&self, payment: &Payment, asked: u32) -> Asked {
        let began = clock::now();
        let asking = self.provider.ask(payment, asked);
        let Answer { verdict, cep } =
            timeout(self.cep_timeout, asking).await.unwrap_or_else(|_| CepVerdict::Error.into());
        metrics::counter!("cep_queries_total", "verdict" => verdict.banxico_status().as_str()).increment(1);
        let took = began.elapsed();
        self.recent.record(verdict, took);
        Asked { verdict, cep, took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
    }
}
