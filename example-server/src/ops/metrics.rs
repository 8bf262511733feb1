//! The numbers behind `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use idempotency_layer::MemoryStore;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
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
    describe_gauge!("idempotency_records", "Records of idempotency keys held, running ones included.");
    describe_gauge!("idempotency_record_bytes", "What they take, in bytes.");
    describe_counter!(
        EVICTED,
        "Records dropped before their time for want of room; their keys would run again."
    );
    describe_counter!("veriko_retry_policies_saved_total", "Retry policies saved; a replay saves none.");
    Ok(handle)
}

/// Now and then, looks how full the records are, and folds what was measured into the histograms: left to the next scrape,
/// it would pile up if none came.
pub(crate) async fn keep_up(handle: PrometheusHandle, records: Arc<MemoryStore>) {
    let mut evicted_before = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
        let stats = records.stats();
        // Both far below 2^52, where a float still counts by ones.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let (held, bytes) = (stats.records as f64, stats.bytes as f64);
        gauge!("idempotency_records").set(held);
        gauge!("idempotency_record_bytes").set(bytes);
        counter!(EVICTED).absolute(stats.evicted_early);
        if stats.evicted_early > evicted_before {
            let evicted = stats.evicted_early - evicted_before;
            tracing::warn!(
                evicted,
                "records were dropped before their time: retries of their keys would run again"
            );
            evicted_before = stats.evicted_early;
        }
    }
}

const EVICTED: &str = "idempotency_records_evicted_early_total";
const BUCKETS_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];
