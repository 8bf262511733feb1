use std::error::Error;
use std::fmt;

use super::Defaults;
use crate::outcome::{MAX_OUTCOME_BYTES, MAX_OUTCOMES, Outcome};

/// Caps that make no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsError {
    kind: CapsErrorKind,
    detail: String,
}

/// How caps make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapsErrorKind {
    /// The shortest interval is longer than the longest.
    IntervalRange,
    /// More than [`MAX_OUTCOMES`] eligible outcomes.
    TooManyOutcomes,
    /// An eligible outcome is there twice.
    DuplicateOutcome,
    /// An eligible outcome could never be asked for: its text is longer than [`MAX_OUTCOME_BYTES`], or does not parse back
    /// to the same outcome.
    OutcomeText,
}

impl CapsError {
    /// Which kind it is; the message has the values.
    pub const fn kind(&self) -> CapsErrorKind {
        self.kind
    }
}

impl fmt::Display for CapsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for CapsError {}

pub(super) fn check<O: Outcome>(merged: &Defaults<O>) -> Result<(), CapsError> {
    let (min, max) = (merged.min_interval_seconds, merged.max_interval_seconds);
    if min.get() > max {
        let detail = format!("min_interval_seconds {min} is more than max_interval_seconds {max}");
        return Err(CapsError { kind: CapsErrorKind::IntervalRange, detail });
    }
    let outcomes = &merged.eligible_outcomes;
    if outcomes.len() > MAX_OUTCOMES {
        let detail = format!("eligible_outcomes has {} entries, at most {MAX_OUTCOMES}", outcomes.len());
        return Err(CapsError { kind: CapsErrorKind::TooManyOutcomes, detail });
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        let text = outcome.to_string();
        if outcomes[..index].contains(outcome) {
            let detail = format!("eligible_outcomes has `{text}` twice");
            return Err(CapsError { kind: CapsErrorKind::DuplicateOutcome, detail });
        }
        if text.len() > MAX_OUTCOME_BYTES || text.parse().ok().as_ref() != Some(outcome) {
            let detail =
                format!("the eligible outcome `{text}` is too long, or does not parse back to itself");
            return Err(CapsError { kind: CapsErrorKind::OutcomeText, detail });
        }
    }
    Ok(())
}
