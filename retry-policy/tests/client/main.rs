//! Retries of HTTP clients. Without a real connection, the clock is paused and moves only while everything waits.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "the test controls the clock")]

mod bodies;
mod budgets;
mod deadlines;
#[cfg(feature = "hyper")]
mod errors;
mod keys;
#[cfg(feature = "hyper")]
mod listener;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod responses;
mod retry_after;
mod rules;
mod server;
mod waits;
