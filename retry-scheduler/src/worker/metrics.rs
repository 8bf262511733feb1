//! What the worker counts, on the `metrics` crate. The table in the crate's docs lists the names; a
//! test compares.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::outcome::Outcome;
use crate::claim::Claimed;
use crate::error::{SchedulerError, SchedulerErrorKind};

pub(super) fn ended(claimed: &Claimed, outcome: Outcome) {
    let namespace = namespace(claimed);
    counter!("retry_scheduler_attempts_total", "namespace" => namespace, "outcome" => outcome.name())
        .increment(1);
}

pub(super) fn attempt_took(claimed: &Claimed, took: Duration) {
    histogram!("retry_scheduler_attempt_duration_seconds", "namespace" => namespace(claimed)).record(took);
}

pub(super) fn panicked(claimed: &Claimed) {
    counter!("retry_scheduler_panics_total", "namespace" => namespace(claimed)).increment(1);
}

pub(super) fn timed_out(claimed: &Claimed) {
    counter!("retry_scheduler_timeouts_total", "namespace" => namespace(claimed)).increment(1);
}

pub(super) fn claimed(claimed: &Claimed) {
    counter!("retry_scheduler_claimed_total", "namespace" => namespace(claimed)).increment(1);
}

pub(super) fn running_changed(by: f64) {
    gauge!("retry_scheduler_running").increment(by);
}

pub(super) fn gates_changed(by: f64) {
    gauge!("retry_scheduler_gates_closed").increment(by);
}

pub(super) fn unreadable() {
    counter!("retry_scheduler_unreadable_total").increment(1);
}

pub(super) fn purged(cycles: u64) {
    counter!("retry_scheduler_purged_total").increment(cycles);
}

pub(super) fn store_error(verb: &'static str, error: &SchedulerError) {
    let kind = match error.kind() {
        SchedulerErrorKind::Unavailable => "unavailable",
        SchedulerErrorKind::NotMigrated => "not_migrated",
        SchedulerErrorKind::Conflict => "conflict",
        SchedulerErrorKind::HookFailed => "hook_failed",
        SchedulerErrorKind::Full => "full",
        SchedulerErrorKind::Invalid => "invalid",
    };
    counter!("retry_scheduler_store_errors_total", "verb" => verb, "kind" => kind).increment(1);
}

fn namespace(claimed: &Claimed) -> String {
    claimed.cycle.key.namespace.clone()
}
