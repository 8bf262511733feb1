//! What operators ask of the server: is it alive, is it ready, what did it do.

mod log;
mod metrics;
mod observe;

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use retry_scheduler::{WorkerHandle, WorkerPhase};

use crate::db::Database;

pub use log::{LogFormat, install as install_log};
pub use metrics::{install as install_metrics, keep_up};
pub use observe::observe;

/// What the server cannot do without.
#[derive(Debug, Clone)]
pub struct Health {
    pub database: Database,
    pub worker: WorkerHandle,
}

impl Health {
    /// What is not there; `None`: it is ready.
    async fn lacks(&self) -> Option<&'static str> {
        let database = tokio::time::timeout(PATIENCE, self.database.ping()).await;
        if !matches!(database, Ok(Ok(()))) {
            return Some("the database does not answer\n");
        }
        let worker = self.worker.snapshot();
        let working = worker.phase == WorkerPhase::Working && worker.reachable;
        if working { None } else { Some("the worker does not work\n") }
    }
}

/// How long the database may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// `/healthz`, `/readyz` and `/metrics`, for whoever can reach the port.
pub fn routes(metrics: PrometheusHandle, health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route(
            "/readyz",
            get(async move || match health.lacks().await {
                None => (StatusCode::OK, "ready\n"),
                Some(lack) => (StatusCode::SERVICE_UNAVAILABLE, lack),
            }),
        )
        .route(
            "/metrics",
            get(async move || {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
            }),
        )
}
