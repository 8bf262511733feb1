//! Operations: log, metrics, liveness and readiness.

mod database_file;
mod log;
mod log_writer;
mod metrics;
mod observe;
mod output;
mod readiness;
mod signals;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

pub use database_file::{keep_database, refuse_if_moved};
pub use log::{Log, LogFormat, install as install_log};
pub use metrics::{install as install_metrics, run_upkeep};
pub use observe::observe;
pub use output::{report_error, write_line};
pub use readiness::Readiness;
pub use signals::survive_file_size_limit;

/// Returns the routes of `/healthz` and `/readyz`. They need no authentication.
pub fn health_routes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(async || "alive\n")).route(
        "/readyz",
        get(async move || match readiness.not_ready_reason().await {
            None => "ready\n".into_response(),
            Some(reason) => not_ready(reason),
        }),
    )
}

/// Returns the route of `/metrics`.
pub fn metrics_routes(metrics: PrometheusHandle) -> Router {
    Router::new().route(
        "/metrics",
        get(async move || {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
        }),
    )
}

/// Returns the 503 response of `/readyz`. It is JSON, so the envelope leaves it alone.
fn not_ready(reason: &'static str) -> Response {
    let body = serde_json::json!({"ready": false, "reason": reason}).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
