//! The numbers behind `/metrics`.

use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::log_writer::DROPPED_LINES;
use super::observe::{DURATION, REPLAYS, REQUESTS};
use crate::worker::WITHOUT_OUTCOME;

/// Starts counting, in this process, for good.
///
/// # Errors
/// Another recorder was installed before.
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
    describe_histogram!(DURATION, "Time from a request's head to its answer's head, in seconds.");
    describe_counter!(REPLAYS, "Answers given a second time to an Idempotency-Key.");
    describe_counter!(
        "idempotency_rejections_total",
        "Requests the idempotency layer turned away, by reason."
    );
    describe_counter!(DROPPED_LINES, "Lines of the log that could not be written.");
    describe_counter!("veriko_retry_policies_saved_total", "Retry policies saved; a replay saves none.");
    describe_counter!(
        "cep_queries_total",
        "Questions whether a payment arrived, retries included, by verdict."
    );
    describe_counter!(WITHOUT_OUTCOME, "Attempts that panicked, timed_out or crashed their processes.");
    // Those of the scheduler's worker, as its documentation lists them.
    describe_counter!("api_key_lookups_total", "Reads of an API key's row, by API.");
    describe_counter!("retry_scheduler_claimed_total", "Cycles claimed, by namespace.");
    describe_counter!("retry_scheduler_attempts_total", "Claims that ended, by namespace and outcome.");
    describe_histogram!(ATTEMPT_DURATION, "How long handlers ran, in seconds.");
    describe_counter!(
        "retry_scheduler_panics_total",
        "Handlers that panicked and did not record it themselves."
    );
    describe_counter!(
        "retry_scheduler_timeouts_total",
        "Handlers that took too long and did not record it themselves."
    );
    describe_gauge!("retry_scheduler_running", "Claims that the worker of this process has.");
    describe_gauge!("retry_scheduler_gates_closed", "Kinds of work that wait because their service is down.");
    describe_counter!("retry_scheduler_unreadable_total", "Due cycles that could not be read.");
    describe_counter!("retry_scheduler_purged_total", "Ended cycles that were deleted.");
    describe_counter!(
        "retry_scheduler_store_errors_total",
        "Failed calls of the scheduler, by verb and kind."
    );
}

/// Of the scheduler's worker.
const ATTEMPT_DURATION: &str = "retry_scheduler_attempt_duration_seconds";

/// Now and then, folds what was measured into the histograms: left to the next scrape, it would pile up if none came.
pub async fn keep_up(handle: PrometheusHandle) {
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
    async fn what_the_worker_counts_is_shown() {
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

        let shown = handle.render();
        for line in [
            "# HELP retry_scheduler_attempts_total Claims that ended, by namespace and outcome.",
            "retry_scheduler_attempts_total{namespace=\"fax\",outcome=\"succeeded\"} 1",
            "retry_scheduler_claimed_total{namespace=\"fax\"} 1",
            "retry_scheduler_attempt_duration_seconds_bucket{namespace=\"fax\",le=\"0.025\"} 1",
            "retry_scheduler_running 0",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
        }
    }
}
