//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::cep::{Answer, Cep, CepVerdict, Payment, Provider, Recent};
use crate::config::Veriko;
use crate::ocr::{Recogniser, Tesseract};
use platform::Platform;
use platform::clock;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::encryption::Sealer;
use platform::outbound::{Outbound, Rules};
use platform::webhooks::Webhooks;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(crate) database: Database,
    /// The retries of validations.
    pub(crate) cycles: Cycles,
    /// Who says whether a payment arrived.
    pub(crate) provider: Arc<dyn Provider>,
    /// How long that may take.
    pub(crate) cep_timeout: Duration,
    /// How asking went of late.
    pub(crate) recent: Recent,
    /// How long a validation may wait in the queue.
    pub(crate) queue_expiry: Duration,
    /// Who reads receipts.
    pub(crate) recogniser: Arc<dyn Recogniser>,
    /// Fetches those that are elsewhere.
    pub(crate) pictures: Outbound,
    /// Who is told of what.
    pub(crate) webhooks: Arc<Webhooks>,
    /// Seals pictures.
    pub(crate) sealer: Arc<Sealer>,
    /// How long those are kept.
    pub(crate) images_kept: Duration,
}

/// What came of asking about a payment.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verdict: CepVerdict,
    /// Of a payment that is valid.
    pub(super) cep: Option<Cep>,
    pub(super) took_ms: u64,
    /// How long Banxico asks to be left alone, where it gave no verdict.
    pub(super) retry_after: Option<Duration>,
}

impl Api {
    /// # Errors
    /// There is no way to call who is to be asked.
    pub(crate) fn new(
        platform: &Platform,
        terms: &Veriko,
        webhooks: Arc<Webhooks>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            cycles: platform.cycles.clone(),
            database: platform.database.clone(),
            provider: terms.cep.provider()?,
            cep_timeout: terms.cep.timeout(),
            queue_expiry: terms.queue.expiry(),
            recent: Recent::default(),
            recogniser: Arc::new(Tesseract::new(&terms.ocr)),
            pictures: Outbound::new(Rules { allow_http: false, allow_private: false })?,
            webhooks,
            sealer: Arc::clone(&platform.sealer),
            images_kept: terms.ocr.keep(),
        })
    }

    /// Asks whether a payment arrived, for the `asked`-th time. No answer in time is a verdict too. It may take long: not
    /// for who holds a connection.
    pub(super) async fn ask(&self, payment: &Payment, asked: u32) -> Asked {
        let began = clock::now();
        let asking = self.provider.ask(payment, asked);
        let Answer { verdict, cep, retry_after } =
            timeout(self.cep_timeout, asking).await.unwrap_or_else(|_| CepVerdict::Error.into());
        metrics::counter!("cep_queries_total", "verdict" => verdict.banxico_status().as_str()).increment(1);
        let took = began.elapsed();
        self.recent.record(verdict, took);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Asked { verdict, cep, took_ms, retry_after }
    }
}
