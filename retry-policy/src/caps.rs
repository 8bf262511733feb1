mod check;

use std::num::NonZeroU32;

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use check::{CapsError, CapsErrorKind};

use crate::outcome::{self, Outcome, Texts};

/// The caps that apply where a plan sets nothing else. Read from a configuration file, or built.
///
/// Only `eligible_outcomes` is required. The other fields default to: 5 retries, an interval of 300 to 86,400 seconds, an age
/// of 7 days (604,800 seconds), 1,000 pending and 10,000 dispatched a day per user, 3 reactivations. Deserialising refuses
/// a name that is not one of the eight, so that a typo does not become a default.
///
/// ```
/// use account_retry_policy::Defaults;
///
/// let read: Defaults = serde_json::from_str(r#"{"eligible_outcomes":["busy"],"max_retries_cap":8}"#)?;
/// assert_eq!(read, Defaults::new(["busy".to_owned()]).max_retries_cap(8));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "O: Outcome")]
pub struct Defaults<O = String> {
    #[serde(default = "max_retries_cap")]
    max_retries_cap: u32,
    #[serde(default = "min_interval_seconds")]
    min_interval_seconds: NonZeroU32,
    #[serde(default = "max_interval_seconds")]
    max_interval_seconds: u32,
    #[serde(default = "max_age_seconds")]
    max_age_seconds: u32,
    #[serde(default = "max_pending_per_user")]
    max_pending_per_user: u32,
    #[serde(default = "max_dispatched_per_day_per_user")]
    max_dispatched_per_day_per_user: u32,
    #[serde(default = "max_reactivations")]
    max_reactivations: u32,
    #[serde(deserialize_with = "outcome::list")]
    eligible_outcomes: Vec<O>,
}

/// What a price plan changes in the [`Defaults`]. Every field is optional. Read from a configuration file, or built.
///
/// ```
/// use account_retry_policy::Plan;
///
/// let read: Plan = serde_json::from_str(r#"{"max_retries_cap":10}"#)?;
/// assert_eq!(read, Plan::new().max_retries_cap(10));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[doc(alias = "tier")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default, bound = "O: Outcome")]
pub struct Plan<O = String> {
    max_retries_cap: Option<u32>,
    min_interval_seconds: Option<NonZeroU32>,
    max_interval_seconds: Option<u32>,
    max_age_seconds: Option<u32>,
    max_pending_per_user: Option<u32>,
    max_dispatched_per_day_per_user: Option<u32>,
    max_reactivations: Option<u32>,
    #[serde(deserialize_with = "outcome::optional_list")]
    eligible_outcomes: Option<Vec<O>>,
}

/// The caps of one customer: a plan merged over the defaults, and checked.
///
/// Under these caps, every policy that [`RetryPolicyInput::parse`](crate::RetryPolicyInput::parse) grants is tried at least
/// once, unless its work succeeds before. Serialises to an object of the eight names below.
///
/// ```
/// use account_retry_policy::{Caps, Defaults, Plan};
///
/// let defaults = Defaults::new(["busy".to_owned()]);
/// let pro = Caps::merge(&defaults, &Plan::new().max_retries_cap(10))?;
/// assert_eq!((pro.max_retries_cap(), pro.max_interval_seconds()), (10, 86_400));
/// # Ok::<(), account_retry_policy::CapsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps<O = String> {
    merged: Defaults<O>,
}

/// The setters of `Defaults` and `Plan`. `$wrap` is `Some` for a plan.
macro_rules! setters {
    ($($wrap:ident)?) => {
        /// Sets the maximum of `max_retries` in a policy. With 0, retries cannot be enabled.
        #[must_use]
        pub fn max_retries_cap(mut self, count: u32) -> Self {
            self.max_retries_cap = $($wrap)?(count);
            self
        }

        /// Sets the shortest interval, in seconds. It is never 0: retries without a pause are not offered.
        #[must_use]
        pub fn min_interval_seconds(mut self, seconds: NonZeroU32) -> Self {
            self.min_interval_seconds = $($wrap)?(seconds);
            self
        }

        /// Sets the longest interval, in seconds. Not more than the age.
        #[must_use]
        pub fn max_interval_seconds(mut self, seconds: u32) -> Self {
            self.max_interval_seconds = $($wrap)?(seconds);
            self
        }

        /// Sets the age of a piece of work, in seconds, after which no attempt is made.
        #[must_use]
        pub fn max_age_seconds(mut self, seconds: u32) -> Self {
            self.max_age_seconds = $($wrap)?(seconds);
            self
        }

        /// Sets the maximum of pending retry cycles per user.
        #[must_use]
        pub fn max_pending_per_user(mut self, count: u32) -> Self {
            self.max_pending_per_user = $($wrap)?(count);
            self
        }

        /// Sets the maximum of dispatched attempts per user and day.
        #[must_use]
        pub fn max_dispatched_per_day_per_user(mut self, count: u32) -> Self {
            self.max_dispatched_per_day_per_user = $($wrap)?(count);
            self
        }

        /// Sets how often an ended cycle can be started again.
        #[must_use]
        pub fn max_reactivations(mut self, count: u32) -> Self {
            self.max_reactivations = $($wrap)?(count);
            self
        }

        /// Sets the outcomes a policy can name. With none, retries cannot be enabled.
        #[must_use]
        pub fn eligible_outcomes(mut self, outcomes: impl IntoIterator<Item = O>) -> Self {
            self.eligible_outcomes = $($wrap)?(outcomes.into_iter().collect());
            self
        }
    };
}

impl<O> Defaults<O> {
    /// Returns the defaults listed above, with these eligible outcomes.
    pub fn new(eligible_outcomes: impl IntoIterator<Item = O>) -> Self {
        Self {
            max_retries_cap: max_retries_cap(),
            min_interval_seconds: min_interval_seconds(),
            max_interval_seconds: max_interval_seconds(),
            max_age_seconds: max_age_seconds(),
            max_pending_per_user: max_pending_per_user(),
            max_dispatched_per_day_per_user: max_dispatched_per_day_per_user(),
            max_reactivations: max_reactivations(),
            eligible_outcomes: eligible_outcomes.into_iter().collect(),
        }
    }

    setters!();
}

impl<O> Plan<O> {
    /// Returns a plan that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    setters!(Some);
}

/// Changes nothing.
impl<O> Default for Plan<O> {
    fn default() -> Self {
        Self {
            max_retries_cap: None,
            min_interval_seconds: None,
            max_interval_seconds: None,
            max_age_seconds: None,
            max_pending_per_user: None,
            max_dispatched_per_day_per_user: None,
            max_reactivations: None,
            eligible_outcomes: None,
        }
    }
}

impl<O: Outcome> Caps<O> {
    /// Merges the plan over the defaults: each field that the plan leaves out comes from the defaults.
    ///
    /// # Errors
    ///
    /// The merged caps contradict themselves, or can grant a policy that is never tried. [`CapsErrorKind`] lists the ways.
    ///
    /// ```
    /// use account_retry_policy::{Caps, CapsErrorKind, Defaults, Plan};
    ///
    /// let defaults = Defaults::new(["busy".to_owned()]);
    /// let hour = Plan::new().max_age_seconds(3_600);
    /// let error = Caps::merge(&defaults, &hour.clone()).unwrap_err();
    /// assert_eq!(error.kind(), CapsErrorKind::AgeBelowInterval); // an interval of a day was still allowed
    /// assert!(Caps::merge(&defaults, &hour.max_interval_seconds(1_800)).is_ok());
    /// ```
    pub fn merge(defaults: &Defaults<O>, plan: &Plan<O>) -> Result<Self, CapsError> {
        let d = defaults;
        let merged = Defaults {
            max_retries_cap: plan.max_retries_cap.unwrap_or(d.max_retries_cap),
            min_interval_seconds: plan.min_interval_seconds.unwrap_or(d.min_interval_seconds),
            max_interval_seconds: plan.max_interval_seconds.unwrap_or(d.max_interval_seconds),
            max_age_seconds: plan.max_age_seconds.unwrap_or(d.max_age_seconds),
            max_pending_per_user: plan.max_pending_per_user.unwrap_or(d.max_pending_per_user),
            max_dispatched_per_day_per_user: plan
                .max_dispatched_per_day_per_user
                .unwrap_or(d.max_dispatched_per_day_per_user),
            max_reactivations: plan.max_reactivations.unwrap_or(d.max_reactivations),
            eligible_outcomes: plan.eligible_outcomes.as_ref().unwrap_or(&d.eligible_outcomes).clone(),
        };
        check::check(&merged)?;
        Ok(Self { merged })
    }
}

impl<O> Caps<O> {
    /// Returns the maximum of `max_retries` in a policy. With 0, retries cannot be enabled.
    pub const fn max_retries_cap(&self) -> u32 {
        self.merged.max_retries_cap
    }

    /// Returns the shortest interval, in seconds: at least 1.
    pub const fn min_interval_seconds(&self) -> u32 {
        self.merged.min_interval_seconds.get()
    }

    /// Returns the longest interval, in seconds: not less than the shortest, not more than the age.
    pub const fn max_interval_seconds(&self) -> u32 {
        self.merged.max_interval_seconds
    }

    /// Returns the age of a piece of work, in seconds, after which no attempt is made.
    pub const fn max_age_seconds(&self) -> u32 {
        self.merged.max_age_seconds
    }

    /// Returns the maximum of pending retry cycles per user. Not enforced here: counting them takes a store.
    pub const fn max_pending_per_user(&self) -> u32 {
        self.merged.max_pending_per_user
    }

    /// Returns the maximum of dispatched attempts per user and day. Not enforced here.
    pub const fn max_dispatched_per_day_per_user(&self) -> u32 {
        self.merged.max_dispatched_per_day_per_user
    }

    /// Returns how often an ended cycle can be started again. Not enforced here.
    pub const fn max_reactivations(&self) -> u32 {
        self.merged.max_reactivations
    }

    /// Returns the outcomes a policy can name, in the order of the configuration, without duplicates.
    pub fn eligible_outcomes(&self) -> &[O] {
        &self.merged.eligible_outcomes
    }
}

impl<O: Outcome> Serialize for Caps<O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Caps", 8)?;
        object.serialize_field("max_retries_cap", &self.max_retries_cap())?;
        object.serialize_field("min_interval_seconds", &self.min_interval_seconds())?;
        object.serialize_field("max_interval_seconds", &self.max_interval_seconds())?;
        object.serialize_field("max_age_seconds", &self.max_age_seconds())?;
        object.serialize_field("max_pending_per_user", &self.max_pending_per_user())?;
        object.serialize_field("max_dispatched_per_day_per_user", &self.max_dispatched_per_day_per_user())?;
        object.serialize_field("max_reactivations", &self.max_reactivations())?;
        object.serialize_field("eligible_outcomes", &Texts(self.eligible_outcomes()))?;
        object.end()
    }
}

const fn max_retries_cap() -> u32 {
    5
}

const fn min_interval_seconds() -> NonZeroU32 {
    const { NonZeroU32::new(300).unwrap() } // evaluated by the compiler
}

const fn max_interval_seconds() -> u32 {
    86_400
}

const fn max_age_seconds() -> u32 {
    7 * 86_400
}

const fn max_pending_per_user() -> u32 {
    1_000
}

const fn max_dispatched_per_day_per_user() -> u32 {
    10_000
}

const fn max_reactivations() -> u32 {
    3
}
