//! The worker's events on the `tracing` crate: what happened to which cycle. No payload, detail,
//! tenant or attempt key.

use std::time::Duration;

use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::claim::{Claimed, Unreadable};
use crate::cycle::CycleKey;
use crate::error::SchedulerError;

/// Runs a handler in the span of its attempt. The trace that scheduled the cycle is a field of it,
/// if the cycle's metadata has that (W3C Trace Context).
pub(super) fn in_span<F: Future>(claimed: &Claimed, run: F) -> impl Future<Output = F::Output> + use<F> {
    let CycleKey { namespace, subject } = &claimed.cycle.key;
    let traceparent = claimed.metadata.get("traceparent");
    run.instrument(info_span!("attempt", %namespace, %subject, number = claimed.attempt(), traceparent))
}

pub(super) fn started(concurrency: usize, lease: Duration) {
    info!(concurrency, ?lease, "worker started");
}

pub(super) fn draining(running: usize) {
    info!(running, "worker claims no more and ends its attempts");
}

pub(super) fn stopped(left: usize) {
    if left == 0 {
        info!("worker stopped");
    } else {
        warn!(left, "worker stopped; the leases it left run out by themselves");
    }
}

pub(super) fn claimed(cycles: usize, asked: usize) {
    debug!(cycles, asked, "claimed");
}

/// An event about one claim.
macro_rules! about {
    ($level:ident, $claimed:expr, $text:literal $(, $($field:tt)+)?) => {{
        let CycleKey { namespace, subject } = &$claimed.cycle.key;
        $level!(%namespace, %subject, number = $claimed.attempt(), $($($field)+,)? $text);
    }};
}

pub(super) fn poisoned(claimed: &Claimed) {
    about!(warn, claimed, "not attempted: its workers crashed, or lost it", lapses = claimed.cycle.lapses);
}

pub(super) fn panicked(claimed: &Claimed) {
    about!(error, claimed, "the handler panicked");
}

pub(super) fn timed_out(claimed: &Claimed) {
    about!(warn, claimed, "the attempt took too long and was stopped");
}

pub(super) fn stuck(claimed: &Claimed) {
    about!(warn, claimed, "the handler does not stop: it blocks its thread");
}

pub(super) fn lapsed(claimed: &Claimed) {
    about!(warn, claimed, "the lease ran out: it could not be renewed");
}

pub(super) fn taken(claimed: &Claimed) {
    about!(debug, claimed, "the cycle was claimed, changed or ended meanwhile");
}

pub(super) fn refused(claimed: &Claimed) {
    about!(debug, claimed, "refused: the cycle was claimed, changed or ended meanwhile");
}

pub(super) fn undelivered(claimed: &Claimed) {
    about!(warn, claimed, "not recorded: the attempt is made again when its lease has run out");
}

pub(super) fn without_detail(claimed: &Claimed) {
    about!(warn, claimed, "the scheduler refuses the report; tried again without its detail");
}

pub(super) fn closed(claimed: &Claimed, retry_in: Duration) {
    about!(warn, claimed, "the service is unavailable: its namespace waits", retry_in = ?retry_in);
}

pub(super) fn deferred(claimed: &Claimed, retry_in: Duration) {
    about!(debug, claimed, "given back", retry_in = ?retry_in);
}

pub(super) fn bug(error: &tokio::task::JoinError) {
    error!(%error, "a call of the scheduler panicked; the lease runs out by itself");
}

pub(super) fn unreadable(unreadable: &Unreadable) {
    let (namespace, subject) = match &unreadable.key {
        Some(key) => (Some(&*key.namespace), Some(&*key.subject)),
        None => (None, None),
    };
    let error = &unreadable.error as &(dyn std::error::Error + 'static);
    error!(namespace, subject, error, "a due cycle cannot be read; it is set aside");
}

pub(super) fn purged(cycles: usize) {
    debug!(cycles, "deleted cycles that ended long ago");
}

/// The scheduler is there, and refuses a call.
pub(super) fn refusing(verb: &'static str, error: &SchedulerError) {
    warn!(verb, error = error as &(dyn std::error::Error + 'static), "the scheduler refuses a call");
}

pub(super) fn failing(verb: &'static str, error: &SchedulerError) {
    warn!(verb, error = error as &(dyn std::error::Error + 'static), "the scheduler fails; trying on");
}

pub(super) fn still_failing(verb: &'static str, error: &SchedulerError) {
    debug!(verb, error = error as &(dyn std::error::Error + 'static), "the scheduler still fails");
}

pub(super) fn reachable() {
    info!("the scheduler answers again");
}
