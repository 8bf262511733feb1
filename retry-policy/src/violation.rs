use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, Serializer};

/// Everything that is wrong with a request for a policy: at least one violation.
///
/// Serialises to an array of [`Violation`]s.
///
/// ```
/// use account_retry_policy::{Caps, Defaults, Field, Plan, Reason, RetryPolicyInput};
///
/// let caps: Caps = Caps::merge(&Defaults::new(["busy".to_owned()]), &Plan::new())?;
/// let violations = RetryPolicyInput::new().enabled(true).max_retries(9).parse(&caps).unwrap_err();
///
/// let found: Vec<_> = violations.iter().map(|violation| (violation.field(), violation.reason())).collect();
/// assert_eq!(
///     found,
///     [
///         (Field::MaxRetries, Reason::AboveMax),
///         (Field::IntervalSeconds, Reason::Required),
///         (Field::Outcomes, Reason::Required),
///     ],
/// );
/// # Ok::<(), account_retry_policy::CapsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations {
    /// Never empty.
    list: Vec<Violation>,
}

impl Violations {
    /// Returns `None` for an empty list.
    pub(crate) fn new(list: Vec<Violation>) -> Option<Self> {
        if list.is_empty() { None } else { Some(Self { list }) }
    }

    pub(crate) fn one(violation: Violation) -> Self {
        Self { list: vec![violation] }
    }

    /// Returns the violations in the order of the fields: at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

impl Error for Violations {}

impl Serialize for Violations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

/// One thing that is wrong: the field, the reason, and what is allowed.
///
/// Serialises to `{"field","reason","min","max","allowed"}`, without the members that do not apply. Displays as one English
/// clause. Neither repeats any text of the request.
///
/// ```
/// use account_retry_policy::RetryPolicyInput;
///
/// let input = RetryPolicyInput::new().enabled(true).max_retries(0).interval_seconds(1).outcomes(["busy"]);
/// let violation = input.restore::<String>().unwrap_err().into_iter().next().unwrap();
/// assert_eq!(violation.to_string(), "max_retries must be an integer from 1 to 4294967295");
/// assert_eq!(violation.min(), Some(1));
/// ```
#[doc(alias = "validation error")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    field: Field,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<Allowed>,
    #[serde(skip)]
    index: Option<usize>,
}

impl Violation {
    pub(crate) const fn new(field: Field, reason: Reason) -> Self {
        Self { field, reason, min: None, max: None, allowed: None, index: None }
    }

    pub(crate) const fn at_most(mut self, max: u32) -> Self {
        self.max = Some(max);
        self
    }

    pub(crate) const fn range(mut self, min: u32, max: u32) -> Self {
        self.min = Some(min);
        self.max = Some(max);
        self
    }

    pub(crate) fn one_of(mut self, allowed: Option<&Allowed>) -> Self {
        self.allowed = allowed.cloned();
        self
    }

    pub(crate) const fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// Returns the field.
    pub const fn field(&self) -> Field {
        self.field
    }

    /// Returns the reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the smallest allowed number; for [`Reason::TooMany`], of entries.
    pub const fn min(&self) -> Option<u32> {
        self.min
    }

    /// Returns the largest allowed number; for [`Reason::TooMany`], of entries; 0 for [`Reason::PlanAllowsNone`] of
    /// [`Field::MaxRetries`].
    pub const fn max(&self) -> Option<u32> {
        self.max
    }

    /// Returns the outcomes that the caps allow, on every violation of [`Field::Outcomes`] under caps.
    pub fn allowed(&self) -> Option<&[String]> {
        self.allowed.as_ref().map(|allowed| &*allowed.0)
    }

    /// Returns the index of the entry in `outcomes`; `None` if the violation is of the whole field. Not serialised.
    pub const fn index(&self) -> Option<usize> {
        self.index
    }

    /// Returns what the field takes: "an integer from 1 to 5".
    fn wanted(&self) -> String {
        match (self.field, self.min, self.max) {
            (Field::Policy, ..) => "an object".to_owned(),
            (Field::Enabled, ..) => "true or false".to_owned(),
            (Field::MaxRetries | Field::IntervalSeconds, Some(min), Some(max)) => {
                format!("an integer from {min} to {max}")
            }
            (Field::MaxRetries | Field::IntervalSeconds, ..) => "an integer".to_owned(),
            (Field::Outcomes, ..) => match (&self.allowed, self.index) {
                (Some(allowed), Some(_)) => format!("one of {}", allowed.listed()),
                (Some(allowed), None) => format!("a non-empty array of {}", allowed.listed()),
                (None, Some(_)) => "an outcome".to_owned(),
                (None, None) => "a non-empty array of outcomes".to_owned(),
            },
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.as_str())?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        match self.reason {
            Reason::Required => write!(f, " is required: {}", self.wanted()),
            Reason::Duplicate => write!(f, " repeats an outcome: each may be given once"),
            Reason::PlanAllowsNone => write!(f, " cannot be set: the plan allows no retries"),
            Reason::TooMany => write!(f, " has too many entries: at most {}", self.max.unwrap_or_default()),
            _ => write!(f, " must be {}", self.wanted()),
        }
    }
}

/// The texts of the eligible outcomes, shared by the violations of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed(Arc<[String]>);

impl Allowed {
    pub(crate) fn new(outcomes: &[impl fmt::Display]) -> Self {
        Self(outcomes.iter().map(ToString::to_string).collect())
    }

    fn listed(&self) -> String {
        self.0.join(", ")
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

/// A field of a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The policy as a whole, which is not an object.
    Policy,
    /// `enabled`.
    Enabled,
    /// `max_retries`.
    MaxRetries,
    /// `interval_seconds`.
    IntervalSeconds,
    /// `outcomes`.
    Outcomes,
}

impl Field {
    /// Returns the name on the wire; `retry_policy` for the whole.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "retry_policy",
            Self::Enabled => "enabled",
            Self::MaxRetries => "max_retries",
            Self::IntervalSeconds => "interval_seconds",
            Self::Outcomes => "outcomes",
        }
    }
}

/// Why a field is refused. The texts are stable; further reasons may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The field is missing.
    Required,
    /// The value, or an entry of it, is of another JSON type, `null` included.
    WrongType,
    /// The number is less than `min`.
    BelowMin,
    /// The number is more than `max`.
    AboveMax,
    /// The list has no entry.
    Empty,
    /// The list has more than [`MAX_OUTCOMES`](crate::MAX_OUTCOMES) entries. The excess was not checked.
    TooMany,
    /// The entry repeats an earlier one.
    Duplicate,
    /// The outcome is unknown, or not among `allowed`.
    NotEligible,
    /// The plan allows no retries, so no value of this field would be accepted.
    PlanAllowsNone,
}

impl Reason {
    /// Returns the stable text for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::WrongType => "wrong_type",
            Self::BelowMin => "below_min",
            Self::AboveMax => "above_max",
            Self::Empty => "empty",
            Self::TooMany => "too_many",
            Self::Duplicate => "duplicate",
            Self::NotEligible => "not_eligible",
            Self::PlanAllowsNone => "plan_allows_none",
        }
    }
}

/// Writes and serialises as [`Field::as_str`].
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Writes and serialises as [`Reason::as_str`].
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
