//! Retries of HTTP clients, by a clock that stands still until somebody waits.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "the clock is held by the test")]

mod budgets;
mod deadlines;
mod keys;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod retry_after;
mod rules;
mod server;
mod waits;
