//! A span, a log line and metrics for each request.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use tracing::Instrument;

use crate::clock;

pub(super) const REQUESTS: &str = "http_requests_total";
pub(super) const DURATION: &str = "http_request_duration_seconds";
pub(super) const REPLAYS: &str = "idempotency_replays_total";

/// The headers that mark a replay. mintfax uses a name of its own.
const REPLAY_HEADERS: [&str; 2] = ["idempotent-replayed", "idempotency-replayed"];

/// Middleware that logs and measures a request.
///
/// Log and metrics include only the method and the route pattern of the request: both have few
/// values, and neither can contain a secret.
pub async fn observe(request: Request, next: Next) -> Response {
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = || route.as_ref().map_or("(none)", MatchedPath::as_str).to_owned();
    // The envelope, further in, creates the request id and records it here.
    let span = tracing::info_span!("request", method, route = route(), request_id = tracing::field::Empty);

    let started = clock::now();
    let response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed();

    let status = response.status().as_u16();
    let replayed =
        REPLAY_HEADERS.iter().any(|name| response.headers().get(*name).is_some_and(|v| v == "true"));
    span.in_scope(|| tracing::info!(status, replayed, took_us = took.as_micros(), "answered"));

    let status = status.to_string();
    metrics::counter!(REQUESTS, "method" => method, "route" => route(), "status" => status).increment(1);
    metrics::histogram!(DURATION, "method" => method, "route" => route()).record(took);
    if replayed {
        metrics::counter!(REPLAYS, "route" => route()).increment(1);
    }
    response
}

/// Returns the metric label of a method. Clients can send any method, so unknown ones share a
/// label.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
