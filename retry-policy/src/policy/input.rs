mod read;

use std::fmt::Display;

use serde::de::{Deserialize, Deserializer};

use super::RetryPolicy;
use crate::outcome::{MAX_OUTCOME_BYTES, MAX_OUTCOMES, Outcome};

/// A retry policy as a client sent it, not yet checked.
///
/// **Any JSON value deserialises into it**, so that a wrong type becomes a violation beside the others and not an error
/// that hides them. Each field is remembered as missing, of the wrong type, or a value:
///
/// | in the request | is read as |
/// |---|---|
/// | a missing field | missing |
/// | `null` in a field | the wrong type: it is present, and it is not a value |
/// | `3.0`, `-0`, `"3"`, `[3]`, `{…}` for an integer | the wrong type; nothing is converted |
/// | a number of magnitude 2⁶³ or more | an integer out of range (JSON readers pass on large integers as floats) |
/// | a field twice | the last one counts, as it does for [`serde_json::Value`], ECMAScript and PHP |
/// | a field of another name, whatever the name | ignored |
/// | not an object | a violation of the policy as a whole |
///
/// Input that the JSON reader itself refuses (broken syntax, `1e999`) stays the reader's error.
///
/// No name in the input has a special meaning, and the result is the same whether or not `serde_json`'s feature
/// `arbitrary_precision` is on. That holds where this type reads from the JSON reader, from a `Value` or from a field of a
/// derived struct. It cannot hold where serde copies the input before this type sees it (`#[serde(flatten)]`,
/// `#[serde(untagged)]`): with that feature on, such a copy has no numbers any more, and the integers are of the wrong type.
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
    pub(super) enabled: FieldValue<bool>,
    pub(super) max_retries: FieldValue<i64>,
    pub(super) interval_seconds: FieldValue<i64>,
    pub(super) outcomes: FieldValue<Entries>,
}

/// One field, as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum FieldValue<T> {
    #[default]
    Missing,
    WrongType,
    Value(T),
}

/// The array in `outcomes`, cut off at [`MAX_OUTCOMES`] entries.
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
    /// Returns the request for an object without any field.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `enabled`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = FieldValue::Value(enabled);
        self
    }

    /// Sets `max_retries`, in range or not.
    #[must_use]
    pub fn max_retries(mut self, max_retries: impl Into<i64>) -> Self {
        self.max_retries = FieldValue::Value(max_retries.into());
        self
    }

    /// Sets `interval_seconds`, in range or not.
    #[must_use]
    pub fn interval_seconds(mut self, interval_seconds: impl Into<i64>) -> Self {
        self.interval_seconds = FieldValue::Value(interval_seconds.into());
        self
    }

    /// Sets `outcomes`: texts, or values that display as such.
    #[must_use]
    pub fn outcomes<T: Display>(mut self, outcomes: impl IntoIterator<Item = T>) -> Self {
        let mut entries = Entries::default();
        for outcome in outcomes {
            if !entries.push(Entry::text(&outcome.to_string())) {
                break;
            }
        }
        self.outcomes = FieldValue::Value(entries);
        self
    }
}

impl Entries {
    /// Returns false if the array is full. The entry is then dropped and `more` is set.
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

/// Returns the request that asks for this policy.
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
