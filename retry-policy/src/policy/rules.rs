use super::RetryPolicy;
use super::input::{Entries, Entry, FieldValue, RetryPolicyInput};
use crate::caps::Caps;
use crate::outcome::{MAX_OUTCOMES, Outcome};
use crate::violation::{Allowed, Field, Reason, Violation, Violations};

impl RetryPolicyInput {
    /// Checks the request against `caps`. Nothing is clamped or converted: the policy is taken as it stands, or refused
    /// with everything that is wrong with it.
    ///
    /// - `enabled` must be present and a boolean.
    /// - `false`: the other fields are ignored, whatever they hold, and the policy is disabled.
    /// - `true`: `max_retries` is an integer from 1 to the cap, `interval_seconds` an integer in the allowed range,
    ///   `outcomes` a non-empty array of eligible outcomes without duplicates.
    /// - `enabled` missing or of the wrong type: beside that violation, the other fields *that are present* are checked as
    ///   if it were `true`; none of them is required.
    /// - Where the plan allows no retries at all (a cap of 0, no eligible outcome), that is the only violation of the field,
    ///   whatever it holds: no value would help.
    /// - An entry of `outcomes` has at most one violation: a repeated outcome is a duplicate, eligible or not. In a list
    ///   longer than [`MAX_OUTCOMES`], the excess entries are not checked, and the length is a violation too.
    ///
    /// # Errors
    ///
    /// Returns all violations, in the order of the fields, and within `outcomes` in the order of the entries: at most
    /// 4 + [`MAX_OUTCOMES`], whatever the size of the request. None repeats any text of the request.
    ///
    /// ```
    /// use account_retry_policy::{Caps, Defaults, Plan, RetryPolicyInput};
    ///
    /// let caps: Caps = Caps::merge(&Defaults::new(["busy".to_owned()]), &Plan::new())?;
    /// let input = RetryPolicyInput::new().enabled(true).max_retries(3).interval_seconds(600).outcomes(["busy"]);
    /// assert_eq!(input.parse(&caps)?.max_retries(), 3);
    /// assert!(input.max_retries(6).parse(&caps).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse<O: Outcome>(&self, caps: &Caps<O>) -> Result<RetryPolicy<O>, Violations> {
        judge(self, &Limits::of(caps))
    }

    /// Reads back a policy that was parsed before it was saved.
    ///
    /// Unlike [`parse`](Self::parse), this asks no plan, so that a saved policy outlives a plan that shrinks
    /// ([`effective`](crate::effective()) tightens it when it is used): any number from 1 on and any outcome that `O`
    /// parses are accepted. Do not use it for what a customer sends.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse): what was stored is not a policy, or names an outcome that `O` no longer parses.
    pub fn restore<O: Outcome>(&self) -> Result<RetryPolicy<O>, Violations> {
        judge(self, &Limits::none())
    }
}

/// The bounds that a policy is checked against.
struct Limits<'a, O> {
    max_retries: u32,
    interval_seconds: (u32, u32),
    /// `None`: any that `O` parses.
    eligible: Option<&'a [O]>,
}

impl<'a, O: Outcome> Limits<'a, O> {
    fn of(caps: &'a Caps<O>) -> Self {
        Self {
            max_retries: caps.max_retries_cap(),
            interval_seconds: (caps.min_interval_seconds(), caps.max_interval_seconds()),
            eligible: Some(caps.eligible_outcomes()),
        }
    }

    fn none() -> Self {
        Self { max_retries: u32::MAX, interval_seconds: (1, u32::MAX), eligible: None }
    }
}

/// Applies the rules that [`RetryPolicyInput::parse`] documents.
fn judge<O: Outcome>(input: &RetryPolicyInput, limits: &Limits<'_, O>) -> Result<RetryPolicy<O>, Violations> {
    if input.not_an_object {
        return Err(Violations::one(Violation::new(Field::Policy, Reason::WrongType)));
    }
    let mut found = Vec::new();
    let required = match input.enabled {
        FieldValue::Value(false) => return Ok(RetryPolicy::disabled()),
        FieldValue::Value(true) => true,
        FieldValue::Missing => {
            found.push(Violation::new(Field::Enabled, Reason::Required));
            false
        }
        FieldValue::WrongType => {
            found.push(Violation::new(Field::Enabled, Reason::WrongType));
            false
        }
    };

    let mut max_retries = None;
    if required || input.max_retries != FieldValue::Missing {
        max_retries = if limits.max_retries == 0 {
            found.push(Violation::new(Field::MaxRetries, Reason::PlanAllowsNone).at_most(0));
            None
        } else {
            integer(Field::MaxRetries, &input.max_retries, (1, limits.max_retries), &mut found)
        };
    }
    let mut interval_seconds = None;
    if required || input.interval_seconds != FieldValue::Missing {
        let range = limits.interval_seconds;
        interval_seconds = integer(Field::IntervalSeconds, &input.interval_seconds, range, &mut found);
    }
    let mut chosen = Vec::new();
    if required || input.outcomes != FieldValue::Missing {
        chosen = outcomes(&input.outcomes, limits.eligible, &mut found);
    }

    match (Violations::new(found), max_retries, interval_seconds) {
        (None, Some(max_retries), Some(interval_seconds)) => {
            Ok(RetryPolicy::from_checked(max_retries, interval_seconds, chosen))
        }
        (Some(violations), ..) => Err(violations),
        // Not reached: without a violation, `enabled` was true and each field was read. Should a rule ever return nothing
        // without a violation, the request is refused rather than half taken.
        (None, ..) => Err(Violations::one(Violation::new(Field::Policy, Reason::WrongType))),
    }
}

fn integer(
    field: Field,
    value: &FieldValue<i64>,
    (min, max): (u32, u32),
    found: &mut Vec<Violation>,
) -> Option<u32> {
    let reason = match *value {
        FieldValue::Missing => Reason::Required,
        FieldValue::WrongType => Reason::WrongType,
        FieldValue::Value(value) if value < i64::from(min) => Reason::BelowMin,
        FieldValue::Value(value) => match u32::try_from(value) {
            Ok(value) if value <= max => return Some(value),
            _ => Reason::AboveMax,
        },
    };
    found.push(Violation::new(field, reason).range(min, max));
    None
}

fn outcomes<O: Outcome>(
    value: &FieldValue<Entries>,
    eligible: Option<&[O]>,
    found: &mut Vec<Violation>,
) -> Vec<O> {
    let allowed = eligible.map(Allowed::new);
    let wrong = |reason| Violation::new(Field::Outcomes, reason).one_of(allowed.as_ref());

    if eligible.is_some_and(<[O]>::is_empty) {
        found.push(wrong(Reason::PlanAllowsNone));
        return Vec::new();
    }
    let entries = match value {
        FieldValue::Missing => {
            found.push(wrong(Reason::Required));
            return Vec::new();
        }
        FieldValue::WrongType => {
            found.push(wrong(Reason::WrongType));
            return Vec::new();
        }
        FieldValue::Value(entries) => entries,
    };
    if entries.kept.is_empty() {
        found.push(wrong(Reason::Empty));
    }

    // Two lists of at most MAX_OUTCOMES each: searching them is cheaper than requiring `O: Hash`.
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
        // Caps hold at most MAX_OUTCOMES outcomes, so a longer list has an entry that is not eligible or a duplicate.
        let most = eligible.map_or(MAX_OUTCOMES, <[O]>::len);
        found.push(wrong(Reason::TooMany).range(1, u32::try_from(most).unwrap_or(u32::MAX)));
    }
    seen
}
