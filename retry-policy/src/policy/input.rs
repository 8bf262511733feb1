mod read;

use std::fmt::Display;

use serde::de::{Deserialize, Deserializer};

use super::{RetryPolicy, rules};
use crate::caps::Caps;
use crate::outcome::{MAX_OUTCOME_BYTES, MAX_OUTCOMES, Outcome};
use crate::violation::Violations;

/// A retry policy as somebody asked for it: anything at all, not yet judged.
///
/// **Any JSON value deserialises into it**, so that a wrong type becomes a violation beside the others and not an error
/// that hides them. Each field is remembered as missing, of the wrong type, or a value:
///
/// | in the request | is taken as |
/// |---|---|
/// | a field left out | missing |
/// | `null` in a field | the wrong type: it is there, and it is not a value |
/// | `3.0`, `"3"`, `[3]` for an integer | the wrong type; nothing is converted |
/// | a number of magnitude 2⁶³ or more | an integer out of range (JSON readers hand large integers on as floats) |
/// | a field twice | the last one counts, as it does for [`serde_json::Value`], ECMAScript and PHP |
/// | a field of another name | ignored |
/// | not an object | a violation of the policy as a whole |
///
/// What the JSON reader itself refuses (broken syntax, `1e999`) stays its error.
///
/// However large the request, this holds at most [`MAX_OUTCOMES`] outcomes of [`MAX_OUTCOME_BYTES`] bytes each.
///
/// [`serde_json::Value`]: https://docs.rs/serde_json/latest/serde_json/enum.Value.html
///
/// ```
/// use account_retry_policy::RetryPolicyInput;
///
/// let built = RetryPolicyInput::new().enabled(true).max_retries(3).interval_seconds(600).outcomes(["busy"]);
/// let read = r#"{"outcomes":["busy"],"interval_seconds":600,"max_retries":3,"enabled":true}"#;
/// assert_eq!(built, serde_json::from_str(read)?);
///
/// assert!(serde_json::from_str::<RetryPolicyInput>(r#"[{"enabled": 17}]"#).is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicyInput {
    pub(super) not_an_object: bool,
    pub(super) enabled: Given<bool>,
    pub(super) max_retries: Given<i64>,
    pub(super) interval_seconds: Given<i64>,
    pub(super) outcomes: Given<Entries>,
}

/// What is known of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Given<T> {
    #[default]
    Missing,
    WrongType,
    Value(T),
}

/// The array in `outcomes`, as far as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) kept: Vec<Entry>,
    /// The array went on after [`MAX_OUTCOMES`] entries.
    pub(super) more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Text(String),
    TooLong,
    WrongType,
}

impl RetryPolicyInput {
    /// An object without any field.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `enabled`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = Given::Value(enabled);
        self
    }

    /// Sets `max_retries`, in range or not.
    #[must_use]
    pub fn max_retries(mut self, max_retries: impl Into<i64>) -> Self {
        self.max_retries = Given::Value(max_retries.into());
        self
    }

    /// Sets `interval_seconds`, in range or not.
    #[must_use]
    pub fn interval_seconds(mut self, interval_seconds: impl Into<i64>) -> Self {
        self.interval_seconds = Given::Value(interval_seconds.into());
        self
    }

    /// Sets `outcomes`: their texts, or values that display as such.
    #[must_use]
    pub fn outcomes<T: Display>(mut self, outcomes: impl IntoIterator<Item = T>) -> Self {
        let mut entries = Entries::default();
        for outcome in outcomes {
            if !entries.push(Entry::text(&outcome.to_string())) {
                break;
            }
        }
        self.outcomes = Given::Value(entries);
        self
    }

    /// Judges the request by `caps`. Nothing is clamped or converted: it is taken as it stands, or refused with all that
    /// is wrong with it.
    ///
    /// - `enabled` must be there and a boolean.
    /// - `false`: the other fields are ignored, whatever they hold, and the policy is disabled.
    /// - `true`: `max_retries` is an integer from 1 to the cap, `interval_seconds` an integer in the allowed range,
    ///   `outcomes` a non-empty array of eligible outcomes, none twice.
    /// - `enabled` missing or unusable: beside that violation, the other fields *that are there* are judged as if it were
    ///   `true`; none is asked for.
    /// - Where the plan leaves no room at all (a cap of 0, no eligible outcome), that is the one violation of the field,
    ///   whatever it holds: no value would help.
    /// - An entry of `outcomes` has at most one violation: a repeated outcome is a duplicate, eligible or not. Of a list
    ///   longer than [`MAX_OUTCOMES`] the rest is not looked at, and that is a violation too.
    ///
    /// # Errors
    ///
    /// All violations, in the order of the fields, and within `outcomes` in the order of the entries: at most
    /// 4 + [`MAX_OUTCOMES`], whatever the size of the request. None repeats any text from it.
    pub fn parse<O: Outcome>(&self, caps: &Caps<O>) -> Result<RetryPolicy<O>, Violations> {
        rules::judge(self, &rules::Limits::of(caps))
    }

    /// Reads back a policy that was parsed when it was saved.
    ///
    /// Judged like [`parse`](Self::parse), but by no plan, so that a saved policy outlives a plan that shrinks
    /// ([`effective`](crate::effective()) tightens it when it is used): any number from 1 on and any outcome that `O`
    /// knows will do. Not for what a customer sends.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse): what was stored is not a policy, or names an outcome that `O` no longer knows.
    pub fn restore<O: Outcome>(&self) -> Result<RetryPolicy<O>, Violations> {
        rules::judge(self, &rules::Limits::none())
    }
}

impl Entries {
    /// False once the array is full; the entry is then dropped and remembered as such.
    fn push(&mut self, entry: Entry) -> bool {
        self.more = self.kept.len() == MAX_OUTCOMES;
        if !self.more {
            self.kept.push(entry);
        }
        !self.more
    }
}

impl Entry {
    fn text(text: &str) -> Self {
        if text.len() > MAX_OUTCOME_BYTES { Self::TooLong } else { Self::Text(text.to_owned()) }
    }
}

/// The request that would ask for this policy.
impl<O: Outcome> From<&RetryPolicy<O>> for RetryPolicyInput {
    fn from(policy: &RetryPolicy<O>) -> Self {
        Self::new()
            .enabled(policy.is_enabled())
            .max_retries(policy.max_retries())
            .interval_seconds(policy.interval_seconds())
            .outcomes(policy.outcomes())
    }
}

impl<'de> Deserialize<'de> for RetryPolicyInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read::input(deserializer)
    }
}
