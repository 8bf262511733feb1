//! What operators ask of the server: is it alive, is it ready, what did it do.

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
pub use metrics::{install as install_metrics, keep_up};
pub use observe::observe;
pub use output::{report_error, write_line};
pub use readiness::Readiness;
pub use signals::survive_file_size_limit;

/// `/healthz`, `/readyz` and `/metrics`, for whoever can reach the port.
pub fn routes(metrics: PrometheusHandle, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route(
            "/readyz",
            get(async move || match readiness.lack().await {
                None => "ready\n".into_response(),
                Some(reason) => not_ready(reason),
            }),
        )
        .route(
            "/metrics",
            get(async move || {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
            }),
        )
}

/// JSON, which no envelope is put around.
fn not_ready(reason: &'static str) -> Response {
    let body = serde_json::json!({"ready": false, "reason": reason}).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
