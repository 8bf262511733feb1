//! The readiness check behind `/readyz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use retry_scheduler::{WorkerHandle, WorkerPhase};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock;
use crate::db::Database;

/// The readiness of the server: whether its database and its worker can serve requests.
#[derive(Debug, Clone)]
pub struct Readiness {
    database: Database,
    worker: WorkerHandle,
    /// Locked during a probe, so that only one runs at a time.
    last_probe: Arc<Mutex<Option<Probe>>>,
}

/// The result of a test write.
#[derive(Debug, Clone, Copy)]
struct Probe {
    ended_at: Instant,
    failure: Option<&'static str>,
}

/// The time-out of a test write.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// The time for which a result is reused, so that frequent requests do not cause more writes.
const PROBE_AT_MOST_EVERY: Duration = Duration::from_secs(1);

impl Readiness {
    pub fn new(database: Database, worker: WorkerHandle) -> Self {
        Self { database, worker, last_probe: Arc::default() }
    }

    /// Returns why the server is not ready, or `None` if it is.
    pub(super) async fn not_ready_reason(&self) -> Option<&'static str> {
        if !self.database.is_in_place() {
            return Some("the database file was moved or replaced");
        }
        if let Some(failure) = self.database_failure().await {
            return Some(failure);
        }
        let worker = self.worker.snapshot();
        let working = worker.phase == WorkerPhase::Working && worker.reachable;
        if working { None } else { Some("the worker is not working") }
    }

    async fn database_failure(&self) -> Option<&'static str> {
        let readiness = self.clone();
        // In its own task: if the client disconnects, the probe still ends and its result is kept.
        let probed = tokio::spawn(async move { readiness.probe().await });
        probed.await.unwrap_or(Some("the database check did not finish"))
    }

    async fn probe(&self) -> Option<&'static str> {
        let mut last = self.last_probe.lock().await;
        if let Some(probe) = last.filter(|probe| probe.ended_at.elapsed() < PROBE_AT_MOST_EVERY) {
            return probe.failure;
        }
        let failure = match timeout(PROBE_WITHIN, self.database.probe_write()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready: the database does not accept writes");
                Some("the database does not accept writes")
            }
            Err(_) => {
                tracing::warn!("not ready: the database does not respond");
                Some("the database does not respond")
            }
        };
        *last = Some(Probe { ended_at: clock::now(), failure });
        failure
    }
}
