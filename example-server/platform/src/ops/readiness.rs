//! `/readyz`: whether requests can be served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use retry_scheduler::{WorkerHandle, WorkerPhase};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock;
use crate::db::Database;

/// What the server cannot do without.
#[derive(Debug, Clone)]
pub struct Readiness {
    database: Database,
    worker: WorkerHandle,
    /// Locked during a probe, so that there is one at a time.
    last_probe: Arc<Mutex<Option<Probe>>>,
}

/// What a write found out.
#[derive(Debug, Clone, Copy)]
struct Probe {
    ended_at: Instant,
    lack: Option<&'static str>,
}

/// How long the database may take for a write.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer stands. Whoever asks more often cannot make the server write more often.
const PROBE_AT_MOST_EVERY: Duration = Duration::from_secs(1);

impl Readiness {
    pub fn new(database: Database, worker: WorkerHandle) -> Self {
        Self { database, worker, last_probe: Arc::default() }
    }

    /// Returns what is lacking, or `None` if the server is ready.
    pub(super) async fn lack(&self) -> Option<&'static str> {
        if !self.database.is_in_place() {
            return Some("the database file was moved or replaced");
        }
        if let Some(lack) = self.database_lack().await {
            return Some(lack);
        }
        let worker = self.worker.snapshot();
        let working = worker.phase == WorkerPhase::Working && worker.reachable;
        if working { None } else { Some("the worker does not work") }
    }

    async fn database_lack(&self) -> Option<&'static str> {
        let readiness = self.clone();
        // In a task of its own, since a client that leaves would end it without an answer to keep.
        let probed = tokio::spawn(async move { readiness.probe().await });
        probed.await.unwrap_or(Some("the database was not asked"))
    }

    async fn probe(&self) -> Option<&'static str> {
        let mut last = self.last_probe.lock().await;
        if let Some(probe) = last.filter(|probe| probe.ended_at.elapsed() < PROBE_AT_MOST_EVERY) {
            return probe.lack;
        }
        let lack = match timeout(PROBE_WITHIN, self.database.probe_write()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready: the database takes no writes");
                Some("the database takes no writes")
            }
            Err(_) => {
                tracing::warn!("not ready: the database does not answer");
                Some("the database does not answer")
            }
        };
        *last = Some(Probe { ended_at: clock::now(), lack });
        lack
    }
}
