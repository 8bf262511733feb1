//! A lease, from the worker's side.

use std::pin::pin;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Core, backoff};
use crate::claim::Claimed;
use crate::clock;
use crate::scheduler::Fenced;

/// A lease that is renewed while somebody drives [`lost`](Self::lost).
///
/// Its end is counted from before the call that got or renewed it, so it never lasts longer here than at the scheduler.
pub(super) struct Lease<'a> {
    core: &'a Core,
    claimed: &'a Claimed,
    until: Instant,
    next_beat: Instant,
    failures: u32,
    loss: Option<Loss>,
}

/// How a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It could not be renewed in time. Perhaps nobody has noticed.
    Lapsed,
    /// The cycle was claimed, changed or ended by somebody else.
    Taken,
}

impl<'a> Lease<'a> {
    /// The lease of a claim that was asked for at `asked`.
    pub(super) fn new(core: &'a Core, claimed: &'a Claimed, asked: Instant) -> Self {
        let until = clock::after(asked, core.config.lease);
        let next_beat = clock::after(asked, core.config.heartbeat());
        Self { core, claimed, until, next_beat, failures: 0, loss: None }
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        self.loss
    }

    pub(super) fn holds(&self) -> bool {
        self.loss.is_none()
    }

    /// Renews the lease until it is lost. Can be dropped and called again.
    pub(super) async fn lost(&mut self) -> Loss {
        loop {
            if let Some(loss) = self.loss {
                return loss;
            }
            sleep_until(self.next_beat.min(self.until)).await;
            let asked = clock::now();
            if asked >= self.until {
                self.loss = Some(Loss::Lapsed);
                continue;
            }
            let renewal = self.core.scheduler.extend(self.claimed, self.core.config.lease);
            // A call that hangs must not keep from the handler that its lease is over.
            match timeout_at(self.until, renewal).await {
                Ok(Ok(Fenced::Held)) => {
                    self.core.meter.answered();
                    self.failures = 0;
                    self.until = clock::after(asked, self.core.config.lease);
                    self.next_beat = clock::after(asked, self.core.config.heartbeat());
                }
                Ok(Ok(Fenced::Stale)) => {
                    self.core.meter.answered();
                    self.loss = Some(Loss::Taken);
                }
                Ok(Err(error)) => {
                    self.core.meter.failed("extend", &error);
                    let pause = backoff(self.failures).min(self.core.config.heartbeat());
                    self.failures += 1;
                    self.next_beat = clock::after(clock::now(), pause);
                }
                Err(_) => self.loss = Some(Loss::Lapsed),
            }
        }
    }

    /// Drives a call of the scheduler's, and renews the lease meanwhile. Once that is lost, the call has as long as a
    /// heartbeat to answer; `None`: it has not.
    pub(super) async fn while_it_holds<F: Future>(&mut self, call: F) -> Option<F::Output> {
        let mut call = pin!(call);
        let patience = self.core.config.heartbeat();
        let mut give_up = clock::after(clock::now(), patience);
        loop {
            select! {
                biased;
                output = &mut call => return Some(output),
                // Not the end of the call: a renewal that comes after a recorded report is refused too.
                _ = self.lost(), if self.loss.is_none() => give_up = clock::after(clock::now(), patience),
                () = sleep_until(give_up), if self.loss.is_some() => return None,
            }
        }
    }

    /// Waits before a call is made again. `false`: there is no point in that, since the lease is lost.
    pub(super) async fn pause(&mut self, failures: u32) -> bool {
        let until = clock::after(clock::now(), backoff(failures));
        select! {
            () = sleep_until(until), if self.loss.is_none() => true,
            _ = self.lost() => false,
        }
    }

    /// How long the lease holds unless it is renewed.
    pub(super) fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(clock::now())
    }
}
