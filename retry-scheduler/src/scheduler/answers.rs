//! What the verbs answer.

use crate::claim::Claims;
use crate::cycle::{Cycle, Ending};
use crate::error::SchedulerError;

/// What `schedule` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// It began.
    New(Cycle),
    /// Its key had one already: this.
    Exists(Cycle),
}

/// What `finish` did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a stale report changed nothing"]
pub enum Finished {
    /// The report was recorded. This is the cycle, which goes on or has ended.
    Recorded(Cycle),
    /// The cycle was claimed, changed or ended by somebody else since: nothing was changed.
    Stale,
}

/// Whether a verb was carried out, or came from a claim that no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale claim means that somebody else has the cycle"]
pub enum Fenced {
    /// Done.
    Held,
    /// The claim no longer holds: nothing was changed.
    Stale,
}

/// What `cancel` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is called off, for good.
    Cancelled(Cycle),
    /// It was over already, so.
    Ended(Ending),
    /// There is no such cycle.
    Unknown,
}

/// What `reschedule` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rescheduled {
    /// The cycle goes on by the new plan.
    Changed(Cycle),
    /// It had ended, and begins anew by the new plan.
    Reactivated(Cycle),
    /// It is over, and stays so.
    Ended(Ending),
    /// There is no such cycle.
    Unknown,
}

/// What `finish_and_claim` did.
#[derive(Debug)]
#[non_exhaustive]
pub struct FinishedAndClaimed {
    /// The answers to the reports, in their order.
    pub finished: Vec<Result<Finished, SchedulerError>>,
    /// The cycles that were claimed, or why none was: the reports are recorded all the same.
    pub claims: Result<Claims, SchedulerError>,
}

impl FinishedAndClaimed {
    /// Creates the answer of a scheduler of your own.
    pub fn new(
        finished: Vec<Result<Finished, SchedulerError>>,
        claims: Result<Claims, SchedulerError>,
    ) -> Self {
        Self { finished, claims }
    }
}
