//! The retries a customer may ask for: a policy from a request body, judged by the caps of a plan.
//!
//! An API that retries work on a customer's behalf lets the customer say how: how often, how far apart, and after which
//! outcomes. This crate turns what was sent, whatever it was, into a [`RetryPolicy`] that cannot be invalid, or into
//! [`Violations`]: all of them, each with its field, a reason for machines and the allowed range. With it come the two
//! other parts of retrying that are pure calculation: [`Backoff`] and [`RetryAfter`].
//!
//! # What it promises, and where that ends
//!
//! | | promised | not |
//! |---|---|---|
//! | [`RetryPolicyInput`] | takes any JSON value without an error or a panic, in bounded memory | syntax the JSON reader refuses |
//! | [`RetryPolicyInput::parse`] | valid under the caps to the letter, nothing clamped; or every field that is broken | [`RetryPolicyInput::restore`] asks no plan: only for what was parsed before |
//! | [`effective()`] | strict for a request; a saved policy is tightened, never refused, and stays as saved | it does not fetch either |
//! | [`Caps`] | make sense, or are an error when merged | the caps that count things (pending, dispatched, reactivations) are carried, not enforced: that takes a store |
//! | [`Backoff`] | never past its cap, jitter included, for any attempt; the same for the same seed, in every version | a source of seeds |
//! | [`RetryAfter`] | never waits less than was asked | a bound on what was asked |
//! | [`Schedule`] | no attempt past the age, none too many | that anybody runs them |
//!
//! There is no async runtime, no I/O and no clock in it: times are passed in. All of that begins with the feature `client`,
//! whose module is for those who call an API, and tries their requests again so that they happen once.
//!
//! # Example
//!
//! ```
//! use account_retry_policy::{Caps, Defaults, Plan, RetryPolicyInput};
//!
//! let caps: Caps = Caps::merge(&Defaults::new(["busy".to_owned(), "timeout".to_owned()]), &Plan::new())?;
//!
//! let body = r#"{"enabled":true,"max_retries":7,"interval_seconds":"often","outcomes":["busy"]}"#;
//! let violations = serde_json::from_str::<RetryPolicyInput>(body)?.parse(&caps).unwrap_err();
//! assert_eq!(
//!     violations.to_string(),
//!     "max_retries must be an integer from 1 to 5; interval_seconds must be an integer from 300 to 86400",
//! );
//! assert_eq!(
//!     serde_json::to_value(&violations)?[0],
//!     serde_json::json!({"field": "max_retries", "reason": "above_max", "min": 1, "max": 5}),
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Customised: an enum of outcomes, plans from a file, a saved policy
//!
//! ```
//! use std::{fmt, str::FromStr, time::{Duration, SystemTime}};
//! use account_retry_policy::{Caps, Defaults, Plan, RetryPolicyInput, Source, Tightening, effective};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Eq)]
//! enum Outcome { NotFound, Error }
//!
//! impl fmt::Display for Outcome {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str(match self { Self::NotFound => "not_found", Self::Error => "error" })
//!     }
//! }
//!
//! impl FromStr for Outcome {
//!     type Err = ();
//!     fn from_str(text: &str) -> Result<Self, ()> {
//!         match text { "not_found" => Ok(Self::NotFound), "error" => Ok(Self::Error), _ => Err(()) }
//!     }
//! }
//!
//! let defaults: Defaults<Outcome> = serde_json::from_str(r#"{"eligible_outcomes":["not_found","error"]}"#)?;
//! let pro = Caps::merge(&defaults, &serde_json::from_str(r#"{"max_retries_cap":10}"#)?)?;
//! let basic = Caps::merge(&defaults, &Plan::new().max_interval_seconds(1_000).max_age_seconds(1_000).eligible_outcomes([Outcome::Error]))?;
//!
//! // Saved under the larger plan, and read back from where it was saved.
//! let sent = RetryPolicyInput::new().enabled(true).max_retries(5).interval_seconds(400).outcomes(["error", "not_found"]);
//! let saved = serde_json::to_string(&sent.parse(&pro)?)?;
//! let account = serde_json::from_str::<RetryPolicyInput>(&saved)?.restore()?;
//!
//! // Used under the smaller one.
//! let today = effective(None, Some(&account), &basic)?;
//! assert_eq!(today.source(), Source::Account);
//! assert_eq!(today.tightened(), [Tightening::Outcomes { removed: vec![Outcome::NotFound] }]);
//! assert!(today.policy().retries_on(&Outcome::Error));
//!
//! // Five retries were granted; the age leaves time for two.
//! let start = SystemTime::UNIX_EPOCH;
//! let due: Vec<_> = today.policy().schedule(&basic, start).collect();
//! assert_eq!(due, [start + Duration::from_secs(400), start + Duration::from_secs(800)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reasons
//!
//! | [`Reason`] | on | means | with |
//! |---|---|---|---|
//! | `required` | every field | missing | the range, or `allowed` |
//! | `wrong_type` | every field, the whole, an entry | another JSON type, `null` included | the range, or `allowed` |
//! | `below_min`, `above_max` | the two integers | out of range | `min`, `max` |
//! | `empty` | `outcomes` | no entry | `allowed` |
//! | `too_many` | `outcomes` | more than [`MAX_OUTCOMES`] entries; the rest is not looked at | `min`, `max` (of entries), `allowed` |
//! | `duplicate` | an entry | it repeats an earlier one | `allowed` |
//! | `not_eligible` | an entry | unknown, or not allowed by the caps | `allowed` |
//! | `plan_allows_none` | `max_retries`, `outcomes` | the plan leaves no room: a cap of 0, or no eligible outcome | `max` of 0, or `allowed` |
//!
//! `enabled` and the whole carry neither range nor `allowed`: what they take is always the same.
//!
//! # Features
//!
//! | feature | what | brings |
//! |---|---|---|
//! | `client` | the module `client`: retries for HTTP clients, as a Tower layer and a `tower::retry::Policy` | tower, tokio (timers), http |
//! | `reqwest` | the same for `reqwest::Client` itself; includes `client` | reqwest, without its default features |
//!
//! None by default.
//!
//! # Minimum supported Rust version
//!
//! 1.95. Raising it is a minor release.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod caps;
#[cfg(feature = "client")]
pub mod client;
mod effective;
mod outcome;
mod policy;
mod retry_after;
mod schedule;
mod violation;

pub use backoff::{Backoff, Delays, Jitter};
pub use caps::{Caps, CapsError, CapsErrorKind, Defaults, Plan};
pub use effective::{Effective, Source, Tightening, effective};
pub use outcome::{MAX_OUTCOME_BYTES, MAX_OUTCOMES, Outcome};
pub use policy::{RetryPolicy, RetryPolicyInput};
pub use retry_after::{RetryAfter, RetryAfterError, RetryAfterErrorKind};
pub use schedule::Schedule;
pub use violation::{Field, Reason, Violation, Violations};

#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
