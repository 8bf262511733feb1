//! What operators ask of the server: is it alive, is it ready, what did it do.

mod log;
mod metrics;
mod observe;

use axum::Router;
use axum::routing::get;
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;

pub(crate) use log::install as install_log;
pub(crate) use metrics::{install as install_metrics, keep_up};
pub(crate) use observe::observe;

/// `/healthz`, `/readyz` and `/metrics`, for whoever can reach the port.
pub(crate) fn routes(metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        // Everything the server needs is in its own memory, so it is ready once it listens.
        .route("/readyz", get(async || "ready\n"))
        .route(
            "/metrics",
            get(async move || {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
            }),
        )
}
