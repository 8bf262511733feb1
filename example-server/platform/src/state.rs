//! What the APIs share.

use std::sync::Arc;

use retry_scheduler::WorkerHandle;

use crate::cycles::Cycles;
use crate::db::{Database, Storage};
use crate::encryption::Sealer;
use crate::outbound::{Outbound, Rules};
use crate::places::Places;

/// What the APIs share: built once, and passed to each of them.
#[derive(Debug, Clone)]
pub struct Platform {
    pub database: Database,
    pub cycles: Cycles,
    /// Carries out the cycles of all APIs. Transactions wake it for what they have scheduled.
    pub worker: WorkerHandle,
    pub sealer: Arc<Sealer>,
    /// Places of deliveries under way, by account, of all APIs together.
    pub deliveries: Arc<Places<String>>,
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
            deliveries: delivery_places(concurrency),
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

/// When so many attempts are made at a time, half of them can be deliveries, and a quarter those of one account: the rest
/// stays for retries, whose providers do not wait for anybody's server. An account is known by its name, whichever API it
/// uses.
fn delivery_places(concurrency: usize) -> Arc<Places<String>> {
    let concurrency = concurrency as u64;
    Places::new(concurrency / 2, concurrency / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_have_half_of_the_places_and_one_account_a_quarter() {
        let places = delivery_places(16);
        let owner = |name: &str| name.to_owned();
        let one: Vec<_> = (0..8).filter_map(|_| places.enter(&owner("one"))).collect();
        let other: Vec<_> = (0..8).filter_map(|_| places.enter(&owner("other"))).collect();
        assert_eq!((one.len(), other.len()), (4, 4));
        assert!(places.enter(&owner("third")).is_none());
    }
}
