//! The reference server: an example deployment of the idempotency layer.
//!
//! The whole program is [`run`]; `main.rs` only calls it. The README describes how it starts, what
//! it reads and what it promises. This crate assembles the APIs of all vendors. Each vendor builds
//! on the crate `platform`, which knows no vendor.
//!
//! | module | contents |
//! |---|---|
//! | `config`, `options` | the configuration file and the command line |
//! | `key_commands` | `keys create`, `keys list`, `keys revoke`, `keys rotate` |
//! | `router` | all routes |
//! | `services` | the public service and the one for operators |

mod config;
mod key_commands;
mod options;
mod router;
mod services;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use platform::api::Definition;
use platform::db::{Database, backup};
use platform::server::{self, Signals};
use platform::stack::ApiBuilder;
use platform::worker::{self, Handlers};
use platform::{BoxError, Platform, accounts, openapi, ops};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use config::Config;
use options::Command;
pub use options::Options;
pub use platform::ops::report_error;
use services::Services;

/// The APIs that are served. A request that belongs to none of them is answered by the first.
const APIS: &[Definition] = &[vendor_veriko::API, vendor_txcloud::API, vendor_mintfax::API];

/// The part of the grace period that is reserved for the process to exit.
const TO_EXIT: Duration = Duration::from_millis(200);
/// The part of it in which the worker stops running attempts and releases their leases.
const TO_HAND_BACK: Duration = Duration::from_secs(3);

/// Runs the given command. Serving, the default, returns once the server has shut down cleanly.
///
/// # Errors
/// If an option or a key of the configuration file is refused, or the database or the address is
/// not available. The message is meant for the operator.
///
/// # Cancel safety
/// If the future is dropped, the server stops at once and running requests are lost.
pub async fn run(options: Options) -> Result<(), BoxError> {
    options.check()?;
    ops::survive_file_size_limit()?;
    if let Some(Command::Openapi) = options.command {
        return print_document();
    }
    if let Some(Command::Backup { file }) = &options.command {
        return Ok(backup::back_up(options.database(), file).await?);
    }
    let config = Config::load(options.config.as_deref(), APIS)?;
    let _log = ops::install_log(options.log)?;
    let database = Database::open(options.database()).await?;
    let done = match &options.command {
        Some(Command::Keys { command }) => key_commands::run(&options, &database, command).await,
        Some(Command::Openapi | Command::Backup { .. }) | None => {
            Box::pin(serve(&options, config, &database)).await
        }
    };
    database.close().await;
    done
}

/// Returns the `OpenAPI` document of each API.
fn documents() -> Vec<openapi::ApiDocument> {
    APIS.iter().map(|api| (api.document)()).collect()
}

/// Prints the `OpenAPI` document. It does not depend on the options or the configuration file.
fn print_document() -> Result<(), BoxError> {
    writeln!(std::io::stdout(), "{:#}", openapi::whole(&documents()))?;
    Ok(())
}

/// Serves until a signal arrives.
async fn serve(options: &Options, config: Config, database: &Database) -> Result<(), BoxError> {
    let metrics = ops::install_metrics()?;
    tokio::spawn(ops::run_upkeep(metrics.clone()));
    let sealer = Arc::new(options.sealer()?);
    let concurrency = config.scheduler.concurrency.get();
    let platform = Platform::new(database.clone(), options.storage(), sealer, concurrency, options.demo);
    let _purge = database.purge_records();

    let mut builder = ApiBuilder::new(config.idempotency, &config.limits, &platform);
    let mut handlers = Handlers::default();
    let (mut apis, mut built) = (Vec::new(), Vec::new());
    for open in config.apis {
        let api = open(&platform)?;
        api.check_secrets().await?;
        api.register_handlers(&mut handlers);
        built.push(api.build(&mut builder));
        apis.push(api);
    }
    if !options.demo && accounts::has_no_keys(database).await? {
        tracing::warn!(
            "there are no keys, so every request gets 401; create one with `keys create`, or start with --demo"
        );
    }

    let grace = config.shutdown_grace.saturating_sub(TO_EXIT);
    let to_end = grace.saturating_sub(TO_HAND_BACK);
    let worker =
        worker::worker(&platform.cycles, platform.worker.clone(), handlers, &config.scheduler, to_end);
    let health = ops::health_routes(ops::Readiness::new(database.clone(), worker.handle()));
    let services = Services::new(options, &config.limits, &health, ops::metrics_routes(metrics), built);
    let admin = admin_listener(options, services.admin).await?;
    let signals = Signals::listen()?;
    let listener = listen(options).await?;

    let stopping = CancellationToken::new();
    let working = tokio::spawn(worker.run(stopping.clone()));
    let mut maintenance = JoinSet::new();
    maintenance.spawn(ops::keep_database(database.clone()));
    if let Some((listener, service)) = admin {
        let signals = Signals::listen()?;
        maintenance.spawn(async move { drop(server::serve(listener, service, signals).await) });
    }
    for api in apis {
        maintenance.spawn(async move { api.run_maintenance().await });
    }
    let (connections, requests) = server::serve(listener, services.public, signals).await;
    tracing::info!("stopped accepting connections; finishing running requests");
    stopping.cancel();
    maintenance.abort_all();
    let finished = async {
        server::finish(connections, requests).await;
        // A handler whose client has disconnected keeps running: a retry will ask for its response.
        builder.shutdown().await;
        // Running attempts are finished, or their leases are released.
        if let Err(error) = working.await {
            tracing::error!(%error, "the worker failed");
        }
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("dropped requests that did not finish in time");
    }
    Ok(())
}

/// Binds the address of the service for operators, if there is one.
async fn admin_listener(
    options: &Options,
    service: Option<server::Service>,
) -> Result<Option<(TcpListener, server::Service)>, BoxError> {
    let (Some(address), Some(service)) = (options.admin_listen, service) else { return Ok(None) };
    let listener = bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening for operators");
    Ok(Some((listener, service)))
}

/// Binds the public address and prints it on the first line of standard output.
async fn listen(options: &Options) -> Result<TcpListener, BoxError> {
    let listener = bind(options.listen).await?;
    let address = listener.local_addr()?;
    if let Err(error) = ops::write_line(&std::io::stdout(), &format!("listening on http://{address}")) {
        tracing::warn!(%address, %error, "could not write the address to standard output; serving anyway");
    }
    if options.demo {
        log_demo_examples(address);
    }
    Ok(listener)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BoxError> {
    Ok(TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?)
}

/// Logs a request to try for each API, with keys that are public.
fn log_demo_examples(address: SocketAddr) {
    // The shell expands the key, so that the log does not contain the whole key.
    tracing::info!(
        "Veriko: curl -H \"Authorization: Bearer mxcep_$(printf '1%.0s' {{1..64}})\" http://{address}/v1/users/me"
    );
    tracing::info!(
        "TXCloud: curl -H 'Authorization: Bearer txc_test_abc123def456' -H 'Idempotency-Key: my-first-screening' \
         -d '{{\"entity\":{{\"type\":\"individual\",\"name\":\"Boris Fictivov\"}}}}' http://{address}/watchlist/screen"
    );
    tracing::info!(
        "mintfax: curl -H 'Authorization: Bearer mfx_test_abc123def456' http://{address}/v1/account/balance"
    );
    tracing::info!("all operations: http://{address}/docs");
}

#[cfg(test)]
mod architecture_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod openapi_tests;
