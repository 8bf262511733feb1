//! What the APIs share.

use std::sync::Arc;

use retry_scheduler::WorkerHandle;

use crate::cycles::Cycles;
use crate::db::{Database, Storage};
use crate::in_flight::InFlight;
use crate::outbound::{Outbound, Rules};
use crate::seal::Sealer;

/// What the APIs share: built once, and passed to each of them.
#[derive(Debug, Clone)]
pub struct Platform {
    pub database: Database,
    pub cycles: Cycles,
    /// Carries out the cycles of all APIs. Transactions wake it for what they have scheduled.
    pub worker: WorkerHandle,
    pub sealer: Arc<Sealer>,
    /// Webhook deliveries under way, of all APIs together.
    pub deliveries: Arc<InFlight>,
    /// Where the data lies, for files that belong beside it.
    pub storage: Storage,
    /// Whether there are accounts whose keys are public.
    pub demo: bool,
}

impl Platform {
    /// `concurrency` is how many attempts of any kind run at a time.
    pub fn new(
        database: Database,
        storage: Storage,
        sealer: Arc<Sealer>,
        concurrency: usize,
        demo: bool,
    ) -> Self {
        Self {
            cycles: Cycles::of(&database),
            worker: database.worker().clone(),
            database,
            sealer,
            deliveries: Arc::new(InFlight::new(concurrency)),
            storage,
            demo,
        }
    }

    /// Returns a client for URLs that customers give. In a demo they may lead to this machine.
    ///
    /// # Errors
    /// There is no TLS configuration to call with.
    pub fn outbound(&self) -> reqwest::Result<Outbound> {
        Outbound::new(Rules { allow_http: self.demo, allow_private: self.demo })
    }
}
