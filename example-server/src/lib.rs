//! The reference server: what a deployment of the idempotency layer looks like.
//!
//! [`run`] is the whole program; `main.rs` only calls it. How it starts, what it reads and what it promises stands in the
//! README. Where to look:
//!
//! | module | what |
//! |---|---|
//! | `app` | every route, and the order of what stands before them |
//! | `veriko` | the API: frame, errors, retry policy |
//! | `auth`, `accounts` | who calls |
//! | `rate_limit` | how often |
//! | `config`, `options` | what the operator says |
//! | `server` | connections and shutdown |
//! | `ops` | log, metrics, health |

mod accounts;
mod app;
mod auth;
mod clock;
mod config;
mod language;
mod ops;
mod options;
mod rate_limit;
mod server;
mod veriko;

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use accounts::Accounts;
use config::Config;
pub use options::Options;
use server::Signals;

/// What is left of the grace for the program to end in.
const TO_EXIT: Duration = Duration::from_millis(200);

/// Starts the server and returns once it has stopped in good order.
///
/// # Errors
/// An option or a key of the configuration file is refused, or the address cannot be had. The message is for the operator.
///
/// # Cancel safety
/// Dropped, it stops at once; requests that run are lost.
pub async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    options.check()?;
    let config = Config::load(options.config.as_deref())?;
    ops::install_log(options.log);
    let metrics = ops::install_metrics()?;

    let accounts = Arc::new(if options.demo { Accounts::demo(&config.veriko) } else { Accounts::default() });
    let records = app::records();
    let idempotency = app::idempotency(&config.idempotency, Arc::clone(&records));
    tokio::spawn(ops::keep_up(metrics.clone(), records));
    let router = app::stack(
        veriko::routes(),
        ops::routes(metrics),
        Arc::clone(&accounts),
        &idempotency,
        config.idempotency.max_body_bytes,
    );

    let signals = Signals::listen()?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|fault| format!("cannot listen on {}: {fault}", options.listen))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    tracing::warn!("data lives in memory in this version and is gone when the server stops");
    if accounts.is_empty() {
        tracing::warn!("there are no accounts, so every call is answered 401: start with --demo");
    }

    let (connections, requests) = server::serve(listener, router, signals).await;
    tracing::info!("stopped accepting, finishing what runs");
    let finished = async {
        server::finish(connections, requests).await;
        // Handlers whose clients went away run on without a connection; their answers are owed to a retry.
        idempotency.shutdown().await;
    };
    if tokio::time::timeout(config.shutdown_grace().saturating_sub(TO_EXIT), finished).await.is_err() {
        tracing::warn!("some requests did not finish in time and are dropped");
    }
    Ok(())
}
