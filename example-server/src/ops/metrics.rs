//! The numbers behind `/metrics`.

use std::time::Duration;

use metrics::{describe_counter, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::observe::{DURATION, REPLAYS, REQUESTS};

/// Starts counting, in this process, for good.
///
/// # Errors
/// Another recorder was installed before.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &BUCKETS_SECONDS)?
        .install_recorder()?;
    describe_counter!(REQUESTS, "Requests answered, by route pattern, method and status.");
    describe_histogram!(DURATION, "Time from a request's head to its answer's head, in seconds.");
    describe_counter!(REPLAYS, "Answers given a second time to an Idempotency-Key.");
    describe_counter!(
        "idempotency_rejections_total",
        "Requests the idempotency layer turned away, by reason."
    );
    describe_counter!("veriko_retry_policies_saved_total", "Retry policies saved; a replay saves none.");
    describe_counter!(
        "cep_queries_total",
        "Questions whether a payment arrived, retries included, by verdict."
    );
    Ok(handle)
}

/// Now and then, folds what was measured into the histograms: left to the next scrape, it would pile up if none came.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

const BUCKETS_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];
