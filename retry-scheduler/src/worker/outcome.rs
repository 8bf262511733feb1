//! How the claims of a worker end, for its counts.

use crate::cycle::Verdict;

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    Permanent,
    Crashed,
    AlreadyRecorded,
    Deferred,
    Refused,
    Undelivered,
}

impl Outcome {
    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Succeeded,
            Verdict::Failure => Self::Failed,
            Verdict::Permanent => Self::Permanent,
            Verdict::Crashed => Self::Crashed,
        }
    }

    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only metrics have names"))]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Permanent => "permanent",
            Self::Crashed => "crashed",
            Self::AlreadyRecorded => "already_recorded",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Undelivered => "undelivered",
        }
    }
}
