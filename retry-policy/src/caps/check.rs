use std::error::Error;
use std::fmt;

use super::Defaults;
use crate::outcome::{MAX_OUTCOME_BYTES, MAX_OUTCOMES, Outcome};

/// An error of [`Caps::merge`](super::Caps::merge): the caps contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsError {
    kind: CapsErrorKind,
    detail: String,
}

/// How caps contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapsErrorKind {
    /// `min_interval_seconds` is more than `max_interval_seconds`.
    IntervalRange,
    /// `max_age_seconds` is less than `max_interval_seconds`: a policy with the longest interval would be granted and never
    /// tried, because its first attempt is due after the age. Caps that grant no policy at all are exempt.
    AgeBelowInterval,
    /// `max_pending_per_user` or `max_dispatched_per_day_per_user` is 0 while retries can be enabled: a policy would be
    /// granted and never tried. To allow no retries, set `max_retries_cap` to 0.
    NothingDispatched,
    /// More than [`MAX_OUTCOMES`] eligible outcomes.
    TooManyOutcomes,
    /// An eligible outcome occurs twice.
    DuplicateOutcome,
    /// No request could name an eligible outcome: its text is longer than [`MAX_OUTCOME_BYTES`], or does not parse back to
    /// the same outcome.
    OutcomeText,
}

impl CapsError {
    /// Returns the kind. The message has the values.
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
    if merged.max_retries_cap > 0 && !outcomes.is_empty() {
        check_attempts(merged)?;
    }
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

/// Refuses caps under which a policy can be granted and never be tried.
fn check_attempts<O>(merged: &Defaults<O>) -> Result<(), CapsError> {
    let (age, interval) = (merged.max_age_seconds, merged.max_interval_seconds);
    if age < interval {
        let detail = format!(
            "max_age_seconds {age} is less than max_interval_seconds {interval}: \
             a policy with that interval would never be tried"
        );
        return Err(CapsError { kind: CapsErrorKind::AgeBelowInterval, detail });
    }
    for (name, value) in [
        ("max_pending_per_user", merged.max_pending_per_user),
        ("max_dispatched_per_day_per_user", merged.max_dispatched_per_day_per_user),
    ] {
        if value == 0 {
            let detail = format!(
                "{name} is 0: a policy would never be tried; to allow no retries, set max_retries_cap to 0"
            );
            return Err(CapsError { kind: CapsErrorKind::NothingDispatched, detail });
        }
    }
    Ok(())
}
