//! The state that the handlers share.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::config::Config;
use super::engines::Engines;
use super::envelope::Context;
use super::errors::Failure;
use super::events;
use super::user::User;
use platform::Platform;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::webhooks::CallbackSender;
use platform::{clock, failpoint};

/// A request to this API.
pub(crate) type Call = platform::call::Call<Api, User, Context>;

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(super) database: Database,
    /// The cycles of background verifications.
    pub(super) cycles: Cycles,
    /// Sends the webhook events of verifications.
    pub(super) callbacks: Arc<CallbackSender>,
    /// The engines behind the checks.
    pub(super) engines: Engines,
    /// The lifetime of a session.
    pub(super) session_life: Duration,
}

impl Api {
    /// Creates the state.
    ///
    /// # Errors
    /// If the HTTP client for the webhooks cannot be built.
    pub(crate) fn new(platform: &Platform, engines: Engines, config: &Config) -> reqwest::Result<Self> {
        Ok(Self {
            database: platform.database.clone(),
            cycles: platform.cycles.clone(),
            callbacks: Arc::new(CallbackSender::new(platform, events::callback_config(config))?),
            engines,
            session_life: config.session_life(),
        })
    }
}

/// Runs a check, and returns its result and its duration in whole milliseconds. Counts the
/// successful checks.
pub(super) async fn timed<T, E>(
    check: &'static str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<(T, u64), E> {
    let began = clock::now();
    failpoint::hit("after-claim").await;
    let answer = future.await?;
    failpoint::hit("engine-answered").await;
    metrics::counter!("txcloud_checks_total", "check" => check).increment(1);
    Ok((answer, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// Renders the response of a handler that has written nothing.
pub(super) fn respond<T: Serialize>(context: &Context, result: Result<(StatusCode, T), Failure>) -> Response {
    match result {
        Ok((status, body)) => context.answer(status, &body),
        Err(failure) => context.fail(&failure),
    }
}
