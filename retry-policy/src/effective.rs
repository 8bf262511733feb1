use crate::caps::Caps;
use crate::outcome::Outcome;
use crate::policy::{RetryPolicy, RetryPolicyInput};
use crate::violation::Violations;

/// Returns the policy for a new piece of work: the request's own, else the account's, else none.
///
/// | `request` | `account` | policy | source |
/// |---|---|---|---|
/// | valid under `caps` | any | the request's, disabled if it says so | [`Source::Request`] |
/// | not valid | any | none; the violations | |
/// | none | some | the account's, [tightened](RetryPolicy::tightened) to `caps` | [`Source::Account`] |
/// | none | none | disabled | [`Source::None`] |
///
/// The request is checked strictly. A policy that was granted once is never refused, only tightened to the caps of today. The
/// account's stored policy is not changed.
///
/// # Errors
///
/// Returns the violations of [`RetryPolicyInput::parse`] for the request.
///
/// ```
/// use account_retry_policy::{Caps, Defaults, Plan, RetryPolicyInput, Tightening, effective};
///
/// let defaults = Defaults::new(["busy".to_owned()]);
/// let pro = Caps::merge(&defaults, &Plan::new().max_retries_cap(10))?;
/// let saved = RetryPolicyInput::new().enabled(true).max_retries(8).interval_seconds(600).outcomes(["busy"]).parse(&pro)?;
///
/// let basic = Caps::merge(&defaults, &Plan::new())?;
/// let today = effective(None, Some(&saved), &basic)?;
/// assert_eq!(today.policy().max_retries(), 5);
/// assert_eq!(today.tightened(), [Tightening::MaxRetries { from: 8, to: 5 }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn effective<O: Outcome>(
    request: Option<&RetryPolicyInput>,
    account: Option<&RetryPolicy<O>>,
    caps: &Caps<O>,
) -> Result<Effective<O>, Violations> {
    let (source, (policy, tightened)) = match (request, account) {
        (Some(request), _) => (Source::Request, (request.parse(caps)?, Vec::new())),
        (None, Some(account)) => (Source::Account, account.tightened(caps)),
        (None, None) => (Source::None, (RetryPolicy::disabled(), Vec::new())),
    };
    Ok(Effective { policy, source, tightened })
}

/// The result of [`effective()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective<O = String> {
    policy: RetryPolicy<O>,
    source: Source,
    tightened: Vec<Tightening<O>>,
}

impl<O> Effective<O> {
    /// Returns the policy, which is valid under the caps.
    pub const fn policy(&self) -> &RetryPolicy<O> {
        &self.policy
    }

    /// Returns the policy by value.
    pub fn into_policy(self) -> RetryPolicy<O> {
        self.policy
    }

    /// Returns where the policy comes from.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Returns what was tightened; empty unless the account's policy exceeds the caps.
    pub fn tightened(&self) -> &[Tightening<O>] {
        &self.tightened
    }
}

/// Where an effective policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The request's own.
    Request,
    /// The one saved for the account.
    Account,
    /// Neither has one: disabled.
    None,
}

/// One change to a saved policy that exceeds the caps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tightening<O = String> {
    /// Fewer retries. If the plan allows none, `to` is 0 and the policy is disabled.
    MaxRetries {
        /// The saved value.
        from: u32,
        /// The new value.
        to: u32,
    },
    /// Another interval: longer if the saved one was too short, shorter if it was too long.
    IntervalSeconds {
        /// The saved value.
        from: u32,
        /// The new value.
        to: u32,
    },
    /// Outcomes that are no longer eligible. If none is left, the policy is disabled.
    Outcomes {
        /// The removed ones, in the saved order.
        removed: Vec<O>,
    },
}

impl<O: Outcome> RetryPolicy<O> {
    /// Tightens this policy to `caps`, and returns it with all changes, also if the result is disabled.
    ///
    /// The result is always valid under `caps`, and tightening it again changes nothing.
    pub fn tightened(&self, caps: &Caps<O>) -> (Self, Vec<Tightening<O>>) {
        let mut changes = Vec::new();
        if !self.is_enabled() {
            return (Self::disabled(), changes);
        }

        let max_retries = self.max_retries().min(caps.max_retries_cap());
        if max_retries != self.max_retries() {
            changes.push(Tightening::MaxRetries { from: self.max_retries(), to: max_retries });
        }
        let saved = self.interval_seconds();
        let interval_seconds = saved.max(caps.min_interval_seconds()).min(caps.max_interval_seconds());
        if interval_seconds != saved {
            changes.push(Tightening::IntervalSeconds { from: saved, to: interval_seconds });
        }
        let (outcomes, removed): (Vec<O>, Vec<O>) =
            self.outcomes().iter().cloned().partition(|outcome| caps.eligible_outcomes().contains(outcome));
        if !removed.is_empty() {
            changes.push(Tightening::Outcomes { removed });
        }

        let policy = if max_retries == 0 || outcomes.is_empty() {
            Self::disabled()
        } else {
            Self::from_checked(max_retries, interval_seconds, outcomes)
        };
        (policy, changes)
    }
}
