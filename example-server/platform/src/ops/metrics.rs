//! The metrics recorder behind `/metrics`.

use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::log_writer::DROPPED_LINES;
use super::observe::{DURATION, REPLAYS, REQUESTS};
use crate::worker::WITHOUT_OUTCOME;

/// Installs the global metrics recorder of this process.
///
/// # Errors
///
/// If another recorder is already installed.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for histogram in [DURATION, ATTEMPT_DURATION] {
        builder = builder.set_buckets_for_metric(Matcher::Full(histogram.to_owned()), &BUCKETS_SECONDS)?;
    }
    Ok(builder)
}

fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by route pattern, method and status.");
    describe_histogram!(DURATION, "Time from the head of a request to the head of its response, in seconds.");
    describe_counter!(REPLAYS, "Responses replayed for an Idempotency-Key.");
    describe_counter!("idempotency_rejections_total", "Requests the idempotency layer rejected, by reason.");
    describe_counter!(DROPPED_LINES, "Log lines that could not be written.");
    describe_counter!("veriko_retry_policies_saved_total", "Retry policies saved, without replays.");
    describe_counter!("cep_queries_total", "CEP queries for a payment, including retries, by verdict.");
    describe_counter!(WITHOUT_OUTCOME, "Attempts that panicked, timed out or crashed their processes.");
    describe_counter!("api_key_lookups_total", "Reads of an API key's row, by API.");
    // The metrics of the scheduler's worker, as its documentation lists them.
    describe_counter!("retry_scheduler_claimed_total", "Cycles claimed, by namespace.");
    describe_counter!("retry_scheduler_attempts_total", "Claims that ended, by namespace and outcome.");
    describe_histogram!(ATTEMPT_DURATION, "Duration of handlers, in seconds.");
    describe_counter!("retry_scheduler_panics_total", "Handler panics that the worker recorded.");
    describe_counter!("retry_scheduler_timeouts_total", "Handler time-outs that the worker recorded.");
    describe_gauge!("retry_scheduler_running", "Claims held by the worker of this process.");
    describe_gauge!("retry_scheduler_gates_closed", "Kinds of work that wait because their service is down.");
    describe_counter!("retry_scheduler_unreadable_total", "Due cycles that could not be read.");
    describe_counter!("retry_scheduler_purged_total", "Ended cycles that were deleted.");
    describe_counter!("retry_scheduler_store_errors_total", "Failed scheduler calls, by verb and kind.");
}

/// The attempt duration metric of the scheduler's worker.
const ATTEMPT_DURATION: &str = "retry_scheduler_attempt_duration_seconds";

/// Drains the recorded samples into the histograms every 5 s. Runs forever. Without it, samples
/// would pile up until the next scrape.
pub async fn run_upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

const BUCKETS_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use retry_scheduler::{
        Attempt, CycleKey, Done, MemoryScheduler, NewCycle, Plan, Report, RetryScheduler, Worker, handler_fn,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_metrics_of_the_worker_are_rendered() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        describe();
        let scheduler = Arc::new(MemoryScheduler::default());
        let plan = Plan::every(Duration::from_mins(1), 1).unwrap();
        let _ = scheduler.schedule(NewCycle::new(CycleKey::new("fax", "it"), plan)).await.unwrap();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let handler = handler_fn(move |_: Attempt| {
            stopping.cancel();
            async { Done::Report(Report::success()) }
        });
        Worker::builder(scheduler, handler).build().run(stop).await;

        let rendered = handle.render();
        for line in [
            "# HELP retry_scheduler_attempts_total Claims that ended, by namespace and outcome.",
            "retry_scheduler_attempts_total{namespace=\"fax\",outcome=\"succeeded\"} 1",
            "retry_scheduler_claimed_total{namespace=\"fax\"} 1",
            "retry_scheduler_attempt_duration_seconds_bucket{namespace=\"fax\",le=\"0.025\"} 1",
            "retry_scheduler_running 0",
        ] {
            assert!(rendered.lines().any(|rendered| rendered == line), "{line} in {rendered}");
        }
    }
}
