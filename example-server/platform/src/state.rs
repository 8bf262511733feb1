//! The state that the APIs share.

use std::sync::Arc;

use retry_scheduler::WorkerHandle;

use crate::cycles::Cycles;
use crate::db::{Database, Storage};
use crate::encryption::Sealer;
use crate::outbound::{Outbound, Rules};
use crate::places::Places;

/// The state that the APIs share. Built once, and passed to each of them.
#[derive(Debug, Clone)]
pub struct Platform {
    pub database: Database,
    pub cycles: Cycles,
    /// The worker that runs the cycles of all APIs. Transactions wake it for the cycles they
    /// schedule.
    pub worker: WorkerHandle,
    pub sealer: Arc<Sealer>,
    /// The concurrency limit of webhook deliveries, by account, across all APIs.
    pub deliveries: Arc<Places<String>>,
    /// Where the data is stored, for files that belong beside it.
    pub storage: Storage,
    /// Whether the demo accounts exist, whose keys are public.
    pub demo: bool,
}

impl Platform {
    /// Creates the shared state. `concurrency` is the maximum number of concurrent attempts of any
    /// kind.
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
            deliveries: delivery_places(concurrency),
            storage,
            demo,
        }
    }

    /// Creates a client for URLs that customers provide. In a demo, they may point to this machine.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be built.
    pub fn outbound(&self) -> reqwest::Result<Outbound> {
        Outbound::new(Rules { allow_http: self.demo, allow_private: self.demo })
    }
}

/// Returns the limit of concurrent deliveries: half of `concurrency`, and a quarter for one
/// account.
///
/// The other half stays free for retries, so that a customer's slow server does not delay them. The
/// limit applies to an account by name, across all APIs.
fn delivery_places(concurrency: usize) -> Arc<Places<String>> {
    let concurrency = concurrency as u64;
    Places::new(concurrency / 2, concurrency / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_get_half_of_the_concurrency_and_one_account_a_quarter() {
        let places = delivery_places(16);
        let owner = |name: &str| name.to_owned();
        let one: Vec<_> = (0..8).filter_map(|_| places.enter(&owner("one"))).collect();
        let other: Vec<_> = (0..8).filter_map(|_| places.enter(&owner("other"))).collect();
        assert_eq!((one.len(), other.len()), (4, 4));
        assert!(places.enter(&owner("third")).is_none());
    }
}
