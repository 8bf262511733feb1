//! The state machine of a cycle, as a pure function.

mod jitter;
mod new;
#[cfg(test)]
mod tests;
mod transition;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub use self::new::{NewCycle, Reschedule};
use crate::bounds::check_text;
use crate::error::SchedulerError;
use crate::plan::Plan;

/// Identifies a cycle: each key has at most one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CycleKey {
    /// The kind of work, such as `validation` or `webhook`.
    pub namespace: String,
    /// What the work is on: an id of yours.
    pub subject: String,
}

impl CycleKey {
    /// Creates the key of `subject` in `namespace`.
    pub fn new(namespace: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), subject: subject.into() }
    }

    /// Checks the bounds. Every scheduler does this before anything else.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::SchedulerErrorKind::Invalid) when a text is longer than [`MAX_TEXT`](crate::MAX_TEXT) or contains
    /// a NUL.
    pub fn check(&self) -> Result<(), SchedulerError> {
        check_text("namespace", &self.namespace)?;
        check_text("subject", &self.subject)
    }
}

/// Tells a claim of a cycle from every other one. A report under another fence than the cycle's is
/// stale.
///
/// The epoch grows with each claim and each change by a caller. The nonce is random and new for
/// each claim call: after a failover that lost a claim, the cycle can be claimed again with the
/// same epoch, but not with the same nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "fencing token")]
#[non_exhaustive]
pub struct Fence {
    /// The cycle's epoch.
    pub epoch: u64,
    /// The nonce of the claim call.
    pub nonce: u64,
}

impl Fence {
    /// Creates a fence.
    pub fn new(epoch: u64, nonce: u64) -> Self {
        Self { epoch, nonce }
    }
}

/// A retry cycle, as the scheduler stores it.
///
/// # What happens to it
///
/// [`Cycle::apply`] implements this table. *Stale*, *not due*, *leased* and *ended* change nothing.
///
/// | | idle | leased | resolved | exhausted, cancelled |
/// |---|---|---|---|---|
/// | claim, before it is due or the lease is over | not due | not due | ended | ended |
/// | claim | leased, epoch + 1, new nonce | leased, epoch + 1, new nonce, lapses + 1 | ended | ended |
/// | claim after the last start | exhausted, epoch + 1, new nonce | exhausted, epoch + 1, new nonce, lapses + 1 | ended | ended |
/// | extend | stale | leased anew | stale | stale |
/// | finish: success | stale | resolved, attempts + 1, used + 1 | stale | stale |
/// | finish: failure, crashed | stale | idle, attempts + 1, used + 1, lapses 0, deferrals 0; exhausted after the last attempt | stale | stale |
/// | finish: permanent | stale | exhausted, attempts + 1, used + 1 | stale | stale |
/// | defer | stale | idle, deferrals + 1; exhausted after the last deferral | stale | stale |
/// | cancel | cancelled, epoch + 1 | cancelled, epoch + 1 | ended | ended |
/// | run now | idle, due now | leased | ended | ended |
/// | reschedule | idle, epoch + 1, lapses 0, deferrals 0 | idle, epoch + 1, lapses 0, deferrals 0 | ended | ended |
/// | reschedule, to reactivate | idle, epoch + 1, lapses 0, deferrals 0 | idle, epoch + 1, lapses 0, deferrals 0 | ended | idle, epoch + 1, used 0, lapses 0, deferrals 0, reactivations + 1 |
///
/// Extend, finish and defer under another fence than the cycle's are stale in every state. A cycle
/// that would be idle is exhausted instead, at once, when its plan has no attempt left (`used` has
/// reached [`max_attempts`](Plan::max_attempts)), or when its next attempt would be due after
/// [`last_start`](Plan::last_start).
///
/// A lease that ran out still holds until the next claim: the late report of a worker that nobody
/// replaced counts. Times are whole milliseconds: a clock is rounded down, a wait up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "job")]
#[non_exhaustive]
pub struct Cycle {
    /// Identifies it.
    pub key: CycleKey,
    /// The tenant it belongs to, for fairness between tenants.
    pub tenant: String,
    /// How often it is attempted, and how far apart.
    pub plan: Plan,
    /// Whether it is pending or ended.
    pub state: State,
    /// Grows with each claim and each change by a caller.
    pub epoch: u64,
    /// The nonce of the last claim; zero before the first.
    pub nonce: u64,
    /// Recorded attempts, over the whole life of the cycle. The running attempt has the next
    /// number.
    pub attempts: u32,
    /// Recorded attempts since the cycle was last scheduled or reactivated: they count against the
    /// plan.
    pub used: u32,
    /// Claims whose lease ran out, since an attempt was last recorded or the plan changed.
    pub lapses: u32,
    /// Deferrals since an attempt was last recorded or the plan changed.
    pub deferrals: u32,
    /// How often it was reactivated after it ended.
    pub reactivations: u32,
}

/// The state of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not ended.
    Pending(Activity),
    /// It has ended.
    #[non_exhaustive]
    Ended {
        /// How.
        ending: Ending,
        /// Why.
        reason: EndReason,
        /// When.
        at: SystemTime,
    },
}

/// What a pending cycle is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for its next attempt.
    Idle {
        /// When the attempt is due.
        due: SystemTime,
    },
    /// Being attempted.
    Leased {
        /// When another worker may claim it.
        until: SystemTime,
    },
}

/// How a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// An attempt succeeded.
    Resolved,
    /// No attempt succeeded, and there will be no more.
    #[doc(alias = "discarded")]
    Exhausted,
    /// A caller cancelled it.
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

/// Why a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// An attempt succeeded.
    Succeeded,
    /// The last attempt of its plan failed.
    AttemptsUsedUp,
    /// An attempt failed in a way that no further attempt can mend.
    #[doc(alias = "discard")]
    PermanentFailure,
    /// Its next attempt would begin after the plan's last start.
    TooLate,
    /// A caller cancelled it.
    Cancelled,
    /// The last attempt of its plan crashed its workers too often.
    CrashedTooOften,
    /// It was deferred more often than its plan allows.
    DeferredTooOften,
}

impl EndReason {
    /// Returns the ending that this is a reason for.
    pub const fn ending(self) -> Ending {
        match self {
            Self::Succeeded => Ending::Resolved,
            Self::Cancelled => Ending::Cancelled,
            Self::AttemptsUsedUp
            | Self::PermanentFailure
            | Self::TooLate
            | Self::CrashedTooOften
            | Self::DeferredTooOften => Ending::Exhausted,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::AttemptsUsedUp => "attempts used up",
            Self::PermanentFailure => "permanent failure",
            Self::TooLate => "too late",
            Self::Cancelled => "cancelled",
            Self::CrashedTooOften => "crashed too often",
            Self::DeferredTooOften => "deferred too often",
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It succeeded: the cycle ends resolved.
    Success,
    /// It failed: the cycle goes on while its plan has attempts left.
    Failure,
    /// It failed, and no further attempt can help: the cycle ends exhausted.
    Permanent,
    /// It crashed its workers too often, so a worker recorded it without making it again. The cycle
    /// goes on as after a failure.
    Crashed,
}

/// Something that happens to a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A worker claims it.
    Claim {
        /// For how long.
        lease: Duration,
        /// The nonce of the claim call.
        nonce: u64,
    },
    /// The worker is still at it.
    Extend {
        /// The fence of its claim.
        fence: Fence,
        /// For how much longer.
        lease: Duration,
    },
    /// The attempt ended.
    Finish {
        /// The fence of its claim.
        fence: Fence,
        /// With what.
        verdict: Verdict,
        /// A failure's own delay, in place of the plan's.
        retry_in: Option<Duration>,
    },
    /// The worker gives the claim back; the attempt does not count.
    #[doc(alias = "snooze")]
    Defer {
        /// The fence of its claim.
        fence: Fence,
        /// How long the cycle waits.
        delay: Duration,
    },
    /// A caller cancels it.
    Cancel,
    /// An operator makes it due now.
    RunNow,
    /// A caller changes the plan of a pending cycle, or begins an ended one anew.
    Reschedule(Reschedule),
}

/// What an event does to a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The cycle afterwards.
    pub cycle: Cycle,
    /// The number of the attempt that ended, to be recorded.
    pub attempt: Option<u32>,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is not due yet, or somebody else's lease holds.
    NotDue,
    /// It is being attempted already.
    Leased,
    /// It has ended.
    Ended(Ending),
    /// It was claimed, changed or ended since that claim.
    Stale,
}

/// A recorded attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// Its number, from 1 and without gaps over the whole life of the cycle.
    pub number: u32,
    /// When it was claimed.
    pub started_at: SystemTime,
    /// When its end was recorded.
    pub finished_at: SystemTime,
    /// How it ended.
    pub verdict: Verdict,
    /// What the handler said about it.
    pub detail: Bytes,
}

impl AttemptRecord {
    /// Creates a record, for a scheduler of your own.
    pub fn new(
        number: u32,
        started_at: SystemTime,
        finished_at: SystemTime,
        verdict: Verdict,
        detail: impl Into<Bytes>,
    ) -> Self {
        Self { number, started_at, finished_at, verdict, detail: detail.into() }
    }
}
