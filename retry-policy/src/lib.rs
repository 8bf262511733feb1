//! Retry policies that customers may set, checked against the caps of their plan; and retries for HTTP clients.
//!
//! An API that retries work for its customers lets them choose how often, how far apart, and after which outcomes. This crate
//! parses such a policy from a request, whatever the request holds. The result is a [`RetryPolicy`] that cannot be invalid, or
//! [`Violations`]: all of them, each with its field, a reason for machines and the allowed range. With it come the other parts
//! of retrying that are pure calculation: [`Backoff`], [`RetryAfter`] and [`Schedule`].
//!
//! The other side, a client that calls an API and sends its requests again, is the module `client` (feature `client`).
//!
//! # What it promises, and where that ends
//!
//! | | promised | not promised |
//! |---|---|---|
//! | [`RetryPolicyInput`] | takes any JSON value without an error or a panic, in bounded memory | syntax that the JSON reader refuses |
//! | [`RetryPolicyInput::parse`] | a policy that is valid under the caps, with nothing clamped, or a violation for every invalid field | [`RetryPolicyInput::restore`] checks no plan: use it only for what was parsed before |
//! | [`effective()`] | strict for a request; a saved policy is tightened, never refused, and stays as saved | it fetches neither |
//! | [`Caps`] | consistent, and every policy they grant has at least one attempt; or an error when merged | the caps that count things (pending, dispatched, reactivations) are carried, not enforced: that takes a store |
//! | [`Backoff`] | never longer than its cap, jitter included, for any attempt; the same for the same seed, in every version | a source of seeds |
//! | [`RetryAfter`] | never less than was asked | a bound on what was asked |
//! | [`Schedule`] | no attempt past the age, and at most `max_retries` | that anybody runs the attempts |
//!
//! Without the feature `client`, there is no async runtime, no I/O and no clock: the caller passes times in.
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
//! // Saved under the larger plan, and read back.
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
//! | [`Reason`] | of | means | with |
//! |---|---|---|---|
//! | `required` | every field | the field is missing | the range, or `allowed` |
//! | `wrong_type` | every field, the whole, an entry | another JSON type, `null` included | the range, or `allowed` |
//! | `below_min`, `above_max` | the two integers | out of range | `min`, `max` |
//! | `empty` | `outcomes` | no entry | `allowed` |
//! | `too_many` | `outcomes` | more than [`MAX_OUTCOMES`] entries; the excess is not checked | `min`, `max` (of entries), `allowed` |
//! | `duplicate` | an entry | the entry repeats an earlier one | `allowed` |
//! | `not_eligible` | an entry | unknown, or not allowed by the caps | `allowed` |
//! | `plan_allows_none` | `max_retries`, `outcomes` | the plan allows no retries: a cap of 0, or no eligible outcome | `max` of 0, or `allowed` |
//!
//! `enabled` and the policy as a whole carry neither a range nor `allowed`: what they take is always the same.
//!
//! # Features
//!
//! | feature | adds | dependencies |
//! |---|---|---|
//! | `client` | the module `client`: retries for HTTP clients, as a Tower layer and a `tower::retry::Policy` | tower, tokio (timers), http |
//! | `hyper` | `client`, and the errors of hyper and hyper-util | hyper, hyper-util |
//! | `http2` | `hyper`, and the errors of HTTP/2 | h2 |
//! | `reqwest` | `hyper`, and `client::ReqwestClient` | reqwest, without its default features |
//!
//! None is on by default.
//!
//! # Minimum supported Rust version
//!
//! 1.85. The feature `reqwest` needs 1.88, because of its dependencies. Raising either is a minor release.

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

#[doc(no_inline)]
pub use serde;

#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
