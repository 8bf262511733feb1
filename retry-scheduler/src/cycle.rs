//! The state machine of a cycle: pure, and all of it.

#[cfg(test)]
mod tests;
mod transition;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::plan::Plan;
use crate::scheduler::Reschedule;

/// What a cycle is about: at most one cycle for each key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CycleKey {
    /// Which kind of work: `validation`, `webhook`.
    pub namespace: String,
    /// What the work is on: an id of the caller's.
    pub subject: String,
}

impl CycleKey {
    /// The key of `subject` in `namespace`.
    pub fn new(namespace: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), subject: subject.into() }
    }
}

/// A retry cycle as the scheduler holds it.
///
/// # What happens to it
///
/// [`Cycle::apply`] is this table. *Stale*, *not due* and *ended* change nothing.
///
/// | | idle | leased | resolved | exhausted, cancelled |
/// |---|---|---|---|---|
/// | claim, before it is due or the lease is over | not due | not due | ended | ended |
/// | claim | leased, epoch + 1 | leased, epoch + 1, lapses + 1 | ended | ended |
/// | claim after the last start | exhausted, epoch + 1 | exhausted, epoch + 1, lapses + 1 | ended | ended |
/// | extend | stale | leased anew | stale | stale |
/// | finish: success | stale | resolved, attempts + 1, used + 1 | stale | stale |
/// | finish: failure | stale | idle, attempts + 1, used + 1, lapses 0; exhausted after the last attempt | stale | stale |
/// | finish: hopeless | stale | exhausted, attempts + 1, used + 1 | stale | stale |
/// | defer | stale | idle | stale | stale |
/// | cancel | cancelled, epoch + 1 | cancelled, epoch + 1 | ended | ended |
/// | reschedule | idle, epoch + 1, lapses 0 | idle, epoch + 1, lapses 0 | ended | ended |
/// | reschedule, to reactivate | idle, epoch + 1, lapses 0 | idle, epoch + 1, lapses 0 | ended | idle, epoch + 1, used 0, lapses 0, reactivations + 1 |
///
/// Extend, finish and defer with an epoch that is not the cycle's are stale, whatever the state. A cycle that would be idle
/// with no attempt of its plan left (`used` is the plan's [`max_attempts`](Plan::max_attempts) or more), or whose next one
/// would be due after the plan's [`last_start`](Plan::last_start), is exhausted instead, at once.
///
/// A lease that has run out still holds until somebody claims: the late report of a worker that nobody replaced counts.
/// Times are whole milliseconds: a clock is rounded down, a wait up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// What it is about.
    pub key: CycleKey,
    /// Whose it is, for fairness between tenants.
    pub tenant: String,
    /// How often it is tried, and how far apart.
    pub plan: Plan,
    /// Where it stands.
    pub state: State,
    /// Grows with each claim and each change by the caller; what is said under an older one is refused.
    pub epoch: u64,
    /// How many attempts ended, over the whole life of the cycle; the running one has the next number.
    pub attempts: u32,
    /// How many of them count against the plan: those since the cycle was last scheduled or reactivated.
    pub used: u32,
    /// How many claims ended by their lease running out, since an attempt was last recorded or the plan changed.
    pub lapses: u32,
    /// How often it was reactivated after it had ended.
    pub reactivations: u32,
}

/// Where a cycle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Pending(Activity),
    /// It is over.
    Ended {
        /// How.
        ending: Ending,
        /// When.
        at: SystemTime,
    },
}

/// What a pending cycle is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for its next attempt.
    Idle {
        /// When that is due.
        due: SystemTime,
    },
    /// Being attempted.
    Leased {
        /// When another worker may take it over.
        until: SystemTime,
    },
}

/// How a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// An attempt succeeded.
    Resolved,
    /// No attempt did, and there are no more; or one found that there is no point in more.
    Exhausted,
    /// The caller called it off.
    Cancelled,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolved => "resolved",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What an attempt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Success: the cycle is resolved.
    Success,
    /// Failure: the cycle goes on, while its plan has attempts left.
    Failure,
    /// Failure that no further attempt can mend: the cycle is exhausted at once.
    Hopeless,
}

/// What happens to a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker claims it.
    Claim {
        /// For how long.
        lease: Duration,
    },
    /// The worker is still at it.
    Extend {
        /// The epoch of its claim.
        epoch: u64,
        /// For how much longer.
        lease: Duration,
    },
    /// The attempt ended.
    Finish {
        /// The epoch of its claim.
        epoch: u64,
        /// With what.
        verdict: Verdict,
    },
    /// The worker gives the claim back; the attempt does not count.
    Defer {
        /// The epoch of its claim.
        epoch: u64,
        /// How long the cycle is left alone.
        delay: Duration,
    },
    /// The caller calls it off.
    Cancel,
    /// The caller changes the plan of a pending cycle, or begins an ended one anew.
    Reschedule(Reschedule),
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The cycle afterwards.
    pub cycle: Cycle,
    /// The attempt that ended, to be kept.
    pub attempt: Option<u32>,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not due yet, or somebody else's lease holds.
    NotDue,
    /// It is over.
    Ended(Ending),
    /// It was claimed, changed or ended since that epoch.
    Stale,
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// From 1, over the whole life of the cycle, without gaps.
    pub number: u32,
    /// When it was claimed.
    pub started_at: SystemTime,
    /// When its end was recorded.
    pub finished_at: SystemTime,
    /// What it found.
    pub verdict: Verdict,
    /// What the caller keeps about it.
    pub detail: Bytes,
}
