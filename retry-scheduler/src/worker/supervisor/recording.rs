//! How the end of an attempt reaches the scheduler: repeated until it is recorded, or until
//! somebody else has the cycle.

use std::time::Duration;

use bytes::Bytes;
use tokio::select;
use tokio::time::sleep_until;

use super::super::handle::Meter;
use super::super::outcome::Outcome;
use super::super::{backoff, patience, trace, within};
use super::Supervisor;
use crate::claim::{Claimed, Report};
use crate::clock;
use crate::cycle::{Activity, Cycle, State, Verdict};
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::scheduler::{Fenced, Finished};

/// How often the worker asks whether a call took effect whose answer was lost.
const LOOKUPS: u32 = 8;

impl Supervisor<'_> {
    /// Records how the attempt ended.
    pub(super) async fn report(&mut self, mut report: Report, frees_place: bool) -> Option<Duration> {
        if report.check().is_err() {
            self.without_detail(&mut report);
        }
        let mut pending = Pending { meter: &self.core.meter, claimed: self.claimed, told: false };
        let mut repeat = Repeat::default();
        loop {
            if self.lease.is_taken() {
                pending.told = true;
                return self.stale_report(&report, repeat.may_have_happened).await;
            }
            let answer = if repeat.alone {
                self.core.reports.finish_alone(self.claimed, report.clone()).await
            } else {
                let frees_place = frees_place && repeat.failures == 0;
                self.core.reports.finish(self.claimed.clone(), report.clone(), frees_place).await
            };
            match answer {
                Ok(Finished::Recorded(cycle)) => {
                    pending.told = true;
                    self.core.meter.ended(self.claimed, Outcome::of(report.verdict));
                    return due_in(&cycle, &report);
                }
                Ok(Finished::Stale) => {
                    pending.told = true;
                    return self.stale_report(&report, repeat.may_have_happened).await;
                }
                // The verdict matters more than its detail.
                Err(SchedulerErrorKind::Invalid) if !report.detail.is_empty() => {
                    self.without_detail(&mut report);
                }
                Err(SchedulerErrorKind::Invalid) => return None, // counted when `pending` is dropped
                Err(kind) => self.pause(repeat.failed(kind)).await,
            }
        }
    }

    /// Gives the claim back; the attempt does not count.
    pub(super) async fn give_back(&mut self, retry_in: Duration) -> Option<Duration> {
        let mut pending = Pending { meter: &self.core.meter, claimed: self.claimed, told: false };
        let mut repeat = Repeat::default();
        loop {
            if self.lease.is_taken() {
                pending.told = true;
                return self.stale_deferral(retry_in, repeat.may_have_happened).await;
            }
            let call = self.core.scheduler.defer(self.claimed, retry_in);
            match within(patience(self.core.config.lease), call).await {
                Ok(answer) => {
                    self.core.meter.answered();
                    pending.told = true;
                    if answer == Fenced::Stale {
                        return self.stale_deferral(retry_in, repeat.may_have_happened).await;
                    }
                    self.deferred(retry_in);
                    return Some(retry_in);
                }
                Err(error) => {
                    self.core.meter.failed("defer", &error);
                    if error.kind() == SchedulerErrorKind::Invalid {
                        return None;
                    }
                    self.pause(repeat.failed(error.kind())).await;
                }
            }
        }
    }

    /// A report that was refused as stale. Where the answer of an earlier try was lost, that try
    /// may be the reason.
    async fn stale_report(&self, report: &Report, may_have_happened: bool) -> Option<Duration> {
        if may_have_happened && self.is_recorded(report).await {
            self.core.meter.ended(self.claimed, Outcome::of(report.verdict));
            return Some(Duration::ZERO); // the scheduler knows when the next one is due
        }
        self.refused()
    }

    async fn stale_deferral(&self, retry_in: Duration, may_have_happened: bool) -> Option<Duration> {
        if may_have_happened && self.is_deferred().await {
            self.deferred(retry_in);
            return Some(retry_in);
        }
        self.refused()
    }

    /// Whether the attempt that was recorded under this number is the one of this claim.
    async fn is_recorded(&self, report: &Report) -> bool {
        let (key, number) = (&self.claimed.cycle.key, self.claimed.attempt());
        let scheduler = &self.core.scheduler;
        let attempts = self.look_up("attempts", || scheduler.attempts(key, number - 1, 1)).await;
        attempts.unwrap_or_default().first().is_some_and(|attempt| {
            attempt.number == number
                && attempt.started_at == self.claimed.claimed_at
                && attempt.verdict == report.verdict
                && attempt.detail == report.detail
        })
    }

    /// Whether the cycle waits although its fence is still that of this claim: nobody else can have
    /// given it back.
    async fn is_deferred(&self) -> bool {
        let claimed = &self.claimed.cycle;
        let scheduler = &self.core.scheduler;
        let cycle = self.look_up("get", || scheduler.get(&claimed.key)).await;
        cycle.flatten().is_some_and(|cycle| {
            cycle.fence() == claimed.fence()
                && cycle.attempts == claimed.attempts
                && !matches!(cycle.state, State::Pending(Activity::Leased { .. }))
        })
    }

    async fn look_up<T, Call>(&self, verb: &'static str, call: impl Fn() -> Call) -> Option<T>
    where
        Call: Future<Output = Result<T, SchedulerError>>,
    {
        for failures in 0..LOOKUPS {
            match within(patience(self.core.config.lease), call()).await {
                Ok(answer) => {
                    self.core.meter.answered();
                    return Some(answer);
                }
                Err(error) => self.core.meter.failed(verb, &error),
            }
            sleep_until(clock::after(clock::now(), backoff(failures))).await;
        }
        None
    }

    /// Waits before a call is repeated, no longer than until it is known that somebody else has the
    /// cycle.
    async fn pause(&mut self, failures: u32) {
        let until = clock::after(clock::now(), backoff(failures));
        select! {
            () = sleep_until(until) => {}
            () = self.lease.taken() => {}
        }
    }

    fn deferred(&self, retry_in: Duration) {
        self.core.meter.ended(self.claimed, Outcome::Deferred);
        trace::deferred(self.claimed, retry_in);
    }

    fn refused(&self) -> Option<Duration> {
        trace::refused(self.claimed);
        self.core.meter.ended(self.claimed, Outcome::Refused);
        None
    }

    fn without_detail(&self, report: &mut Report) {
        trace::without_detail(self.claimed);
        report.detail = Bytes::new();
    }
}

/// What the failed tries of a call tell about the next one.
#[derive(Default)]
struct Repeat {
    failures: u32,
    /// Whether a try may have taken effect, although it failed.
    may_have_happened: bool,
    /// Whether to try it in a call of its own: it waits for something that the others must not wait
    /// for.
    alone: bool,
}

impl Repeat {
    /// Takes note of a failure. Returns how many there were before.
    fn failed(&mut self, kind: SchedulerErrorKind) -> u32 {
        self.may_have_happened |= kind == SchedulerErrorKind::Unavailable;
        self.alone = matches!(kind, SchedulerErrorKind::Conflict | SchedulerErrorKind::HookFailed);
        let before = self.failures;
        self.failures = before.saturating_add(1);
        before
    }
}

/// An end that was not recorded yet. Dropped like that, because the worker's time is up or the
/// scheduler refuses it, it counts as undelivered.
struct Pending<'a> {
    meter: &'a Meter,
    claimed: &'a Claimed,
    told: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.told {
            trace::undelivered(self.claimed);
            self.meter.ended(self.claimed, Outcome::Undelivered);
        }
    }
}

/// In how long the next attempt is due, just after the end of one; `None`: there is none.
fn due_in(cycle: &Cycle, report: &Report) -> Option<Duration> {
    let own = report.retry_in.filter(|_| report.verdict == Verdict::Failure);
    matches!(cycle.state, State::Pending(_)).then(|| own.unwrap_or_else(|| cycle.delay()))
}
