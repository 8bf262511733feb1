//! Shared by the tests: the outcomes and the caps of an API that validates payments.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use account_retry_policy::{Caps, Defaults, Field, Plan, Reason, RetryPolicy, RetryPolicyInput, Violations};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    NotFound,
    CepUnavailable,
    Error,
}

pub(crate) const VERDICTS: [Verdict; 3] = [Verdict::NotFound, Verdict::CepUnavailable, Verdict::Error];

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not_found",
            Self::CepUnavailable => "cep_unavailable",
            Self::Error => "error",
        })
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        VERDICTS.into_iter().find(|verdict| verdict.to_string() == text).ok_or_else(|| text.to_owned())
    }
}

pub(crate) fn defaults() -> Defaults<Verdict> {
    Defaults::new(VERDICTS)
}

pub(crate) fn caps(plan: &Plan<Verdict>) -> Caps<Verdict> {
    Caps::merge(&defaults(), plan).unwrap()
}

/// Five retries, 300 to 86,400 seconds, all three verdicts.
pub(crate) fn basic() -> Caps<Verdict> {
    caps(&Plan::new())
}

pub(crate) fn seconds(seconds: u32) -> NonZeroU32 {
    NonZeroU32::new(seconds).unwrap()
}

pub(crate) fn read(json: &str) -> RetryPolicyInput {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

pub(crate) fn parse(json: &str, caps: &Caps<Verdict>) -> Result<RetryPolicy<Verdict>, Violations> {
    read(json).parse(caps)
}

/// What is wrong with `json`, as (field, entry, reason).
pub(crate) fn faults(json: &str, caps: &Caps<Verdict>) -> Vec<(Field, Option<usize>, Reason)> {
    match parse(json, caps) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(|v| (v.field(), v.index(), v.reason())).collect(),
    }
}

pub(crate) fn policy(max_retries: u32, interval_seconds: u32, outcomes: &[Verdict]) -> RetryPolicy<Verdict> {
    RetryPolicyInput::new()
        .enabled(true)
        .max_retries(max_retries)
        .interval_seconds(interval_seconds)
        .outcomes(outcomes)
        .restore()
        .unwrap()
}
