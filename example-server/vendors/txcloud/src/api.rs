//! What the handlers share.

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
use platform::Platform;
use platform::cycles::Cycles;
use platform::db::Database;
use platform::webhooks::CallbackSender;
use platform::{clock, failpoint};

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(super) database: Database,
    /// Verifications in the background.
    pub(super) cycles: Cycles,
    /// Who is told of verifications.
    pub(super) callbacks: Arc<CallbackSender>,
    /// Who judges.
    pub(super) engines: Engines,
    /// How long a session is open.
    pub(super) session_life: Duration,
}

impl Api {
    /// # Errors
    /// There is no client to send webhooks with.
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

/// What a check took, in whole milliseconds, and that there was one.
pub(super) async fn timed<T, E>(
    check: &'static str,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<(T, u64), E> {
    let began = clock::now();
    failpoint::hit("after-claim").await;
    let answer = asking.await?;
    failpoint::hit("engine-answered").await;
    metrics::counter!("txcloud_checks_total", "check" => check).increment(1);
    Ok((answer, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// The answer of a handler that has written nothing.
pub(super) fn respond<T: Serialize>(context: &Context, done: Result<(StatusCode, T), Failure>) -> Response {
    match done {
        Ok((status, body)) => context.answer(status, &body),
        Err(failure) => context.fail(&failure),
    }
}
