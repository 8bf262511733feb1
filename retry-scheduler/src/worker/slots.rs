//! The places for attempts, and the tenants that have them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use super::{metrics, trace};

/// The attempts under way. Dropped, it stops them all.
#[derive(Debug, Default)]
pub(super) struct Slots {
    tasks: JoinSet<Option<Duration>>,
    tenants: HashMap<Id, String>,
    running: HashMap<String, usize>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.tenants.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// How many each tenant has.
    pub(super) fn by_tenant(&self) -> &HashMap<String, usize> {
        &self.running
    }

    pub(super) fn fill(
        &mut self,
        tenant: String,
        task: impl Future<Output = Option<Duration>> + Send + 'static,
    ) {
        *self.running.entry(tenant.clone()).or_default() += 1;
        let id = self.tasks.spawn(task).id();
        self.tenants.insert(id, tenant);
        metrics::running_changed(1.0);
    }

    /// Waits until a place is free; for ever when all are. Returns in how long the cycle that had
    /// it is due again, if that is known. Can be dropped and called again.
    pub(super) async fn freed(&mut self) -> Option<Duration> {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.left(joined),
            None => std::future::pending().await,
        }
    }

    /// Takes note of those that are free already.
    pub(super) fn sweep(&mut self) {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.left(joined);
        }
    }

    fn left(&mut self, joined: Result<(Id, Option<Duration>), JoinError>) -> Option<Duration> {
        let (id, due_in) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                trace::bug(&error);
                (error.id(), None)
            }
        };
        if let Some(tenant) = self.tenants.remove(&id) {
            metrics::running_changed(-1.0);
            if let Some(running) = self.running.get_mut(&tenant) {
                *running -= 1;
                if *running == 0 {
                    self.running.remove(&tenant);
                }
            }
        }
        due_in
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for _ in self.tenants.keys() {
            metrics::running_changed(-1.0);
        }
    }
}
