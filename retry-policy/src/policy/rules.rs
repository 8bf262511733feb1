use super::RetryPolicy;
use super::input::{Entries, Entry, Given, RetryPolicyInput};
use crate::caps::Caps;
use crate::outcome::{MAX_OUTCOMES, Outcome};
use crate::violation::{Allowed, Field, Reason, Violation, Violations};

/// What a policy is judged by.
pub(super) struct Limits<'a, O> {
    max_retries: u32,
    interval_seconds: (u32, u32),
    /// `None`: any that `O` knows.
    eligible: Option<&'a [O]>,
}

impl<'a, O: Outcome> Limits<'a, O> {
    pub(super) fn of(caps: &'a Caps<O>) -> Self {
        Self {
            max_retries: caps.max_retries_cap(),
            interval_seconds: (caps.min_interval_seconds(), caps.max_interval_seconds()),
            eligible: Some(caps.eligible_outcomes()),
        }
    }

    pub(super) fn none() -> Self {
        Self { max_retries: u32::MAX, interval_seconds: (1, u32::MAX), eligible: None }
    }
}

/// The rules, as [`RetryPolicyInput::parse`] documents them.
pub(super) fn judge<O: Outcome>(
    input: &RetryPolicyInput,
    limits: &Limits<'_, O>,
) -> Result<RetryPolicy<O>, Violations> {
    if input.not_an_object {
        return Err(Violations::one(Violation::new(Field::Policy, Reason::WrongType)));
    }
    let mut found = Vec::new();
    let asked = match input.enabled {
        Given::Value(false) => return Ok(RetryPolicy::disabled()),
        Given::Value(true) => true,
        Given::Missing => {
            found.push(Violation::new(Field::Enabled, Reason::Required));
            false
        }
        Given::WrongType => {
            found.push(Violation::new(Field::Enabled, Reason::WrongType));
            false
        }
    };

    let mut max_retries = None;
    if asked || input.max_retries != Given::Missing {
        max_retries = if limits.max_retries == 0 {
            found.push(Violation::new(Field::MaxRetries, Reason::PlanAllowsNone).at_most(0));
            None
        } else {
            integer(Field::MaxRetries, &input.max_retries, (1, limits.max_retries), &mut found)
        };
    }
    let mut interval_seconds = None;
    if asked || input.interval_seconds != Given::Missing {
        let range = limits.interval_seconds;
        interval_seconds = integer(Field::IntervalSeconds, &input.interval_seconds, range, &mut found);
    }
    let mut chosen = Vec::new();
    if asked || input.outcomes != Given::Missing {
        chosen = outcomes(&input.outcomes, limits.eligible, &mut found);
    }

    match (Violations::new(found), max_retries, interval_seconds) {
        (None, Some(max_retries), Some(interval_seconds)) => {
            Ok(RetryPolicy::from_checked(max_retries, interval_seconds, chosen))
        }
        (Some(violations), ..) => Err(violations),
        // Not reached: without a violation `enabled` was true, and each field was read. Should a rule ever forget to say
        // why it gave nothing, the request is refused, never half taken.
        (None, ..) => Err(Violations::one(Violation::new(Field::Policy, Reason::WrongType))),
    }
}

fn integer(
    field: Field,
    given: &Given<i64>,
    (min, max): (u32, u32),
    found: &mut Vec<Violation>,
) -> Option<u32> {
    let reason = match *given {
        Given::Missing => Reason::Required,
        Given::WrongType => Reason::WrongType,
        Given::Value(value) if value < i64::from(min) => Reason::BelowMin,
        Given::Value(value) => match u32::try_from(value) {
            Ok(value) if value <= max => return Some(value),
            _ => Reason::AboveMax,
        },
    };
    found.push(Violation::new(field, reason).range(min, max));
    None
}

fn outcomes<O: Outcome>(
    given: &Given<Entries>,
    eligible: Option<&[O]>,
    found: &mut Vec<Violation>,
) -> Vec<O> {
    let allowed = eligible.map(Allowed::new);
    let wrong = |reason| Violation::new(Field::Outcomes, reason).one_of(allowed.as_ref());

    if eligible.is_some_and(<[O]>::is_empty) {
        found.push(wrong(Reason::PlanAllowsNone));
        return Vec::new();
    }
    let entries = match given {
        Given::Missing => {
            found.push(wrong(Reason::Required));
            return Vec::new();
        }
        Given::WrongType => {
            found.push(wrong(Reason::WrongType));
            return Vec::new();
        }
        Given::Value(entries) => entries,
    };
    if entries.kept.is_empty() {
        found.push(wrong(Reason::Empty));
    }

    // Two lists of at most MAX_OUTCOMES each: searching them is cheaper than asking `O` for `Hash`.
    let mut seen: Vec<O> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for (index, entry) in entries.kept.iter().enumerate() {
        let reason = match entry {
            Entry::WrongType => Reason::WrongType,
            Entry::TooLong => Reason::NotEligible,
            Entry::Text(text) => match text.parse::<O>() {
                Ok(outcome) if seen.contains(&outcome) => Reason::Duplicate,
                Ok(outcome) => {
                    let is_eligible = eligible.is_none_or(|list| list.contains(&outcome));
                    seen.push(outcome);
                    if is_eligible {
                        continue;
                    }
                    Reason::NotEligible
                }
                Err(_) if unknown.contains(&text.as_str()) => Reason::Duplicate,
                Err(_) => {
                    unknown.push(text);
                    Reason::NotEligible
                }
            },
        };
        found.push(wrong(reason).at(index));
    }
    if entries.more {
        // Caps hold at most MAX_OUTCOMES outcomes, so a longer list has an entry that is not eligible or there twice.
        let most = eligible.map_or(MAX_OUTCOMES, <[O]>::len);
        found.push(wrong(Reason::TooMany).range(1, u32::try_from(most).unwrap_or(u32::MAX)));
    }
    seen
}
