//! What the worker does, seen from outside, in paused time.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "worker/clock.rs"]
mod clock;
#[path = "worker/support.rs"]
mod support;
#[path = "worker/watched.rs"]
mod watched;

#[path = "worker/drain.rs"]
mod drain;
#[path = "worker/errors.rs"]
mod errors;
#[path = "worker/failures.rs"]
mod failures;
#[path = "worker/fairness.rs"]
mod fairness;
#[path = "worker/gates.rs"]
mod gates;
#[path = "worker/keys.rs"]
mod keys;
#[path = "worker/leases.rs"]
mod leases;
#[cfg(feature = "metrics")]
#[path = "worker/metrics.rs"]
mod metrics;
#[path = "worker/outage.rs"]
mod outage;
#[path = "worker/poison.rs"]
mod poison;
#[path = "worker/running.rs"]
mod running;
#[cfg(feature = "tracing")]
#[path = "worker/tracing.rs"]
mod tracing;
#[path = "worker/upkeep.rs"]
mod upkeep;
