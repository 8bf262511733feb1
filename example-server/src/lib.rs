//! The reference server: what a deployment of the idempotency layer looks like.
//!
//! [`run`] is the whole program; `main.rs` only calls it. How it starts, what it reads and what it promises stands in the
//! README. Where to look:
//!
//! | module | what |
//! |---|---|
//! | `app` | every route, and the order of what stands before them |
//! | `mintfax` | the API for faxes: documents, carriers, deliveries, money |
//! | `txcloud` | another API: checks of identities, transactions, borrowers, businesses and names |
//! | `veriko` | the API: frame, errors, retry policy, what a validation is asked for and shown as |
//! | `cep` | payments, and who can say whether they arrived |
//! | `ocr` | receipts that are pictures |
//! | `auth`, `accounts` | who calls |
//! | `key_commands` | `keys create`, `list`, `revoke`, `rotate` |
//! | `rate_limit`, `bodies` | how often, and how much at a time |
//! | `host`, `content` | what is wrong with a request's head, whatever it asks for |
//! | `frame` | what the frames around the answers of all APIs share |
//! | `vendor` | what differs from one API to the next in what stands before it |
//! | `config`, `options` | what the operator says |
//! | `webhooks`, `seal` | who is told of what, and the telling; secrets as they are kept |
//! | `outbound`, `tls`, `retry_after` | calls to URLs that customers give; whom TLS trusts; waits that others ask for |
//! | `openapi` | the descriptions of the APIs, made of the routes |
//! | `route`, `worker` | one operation; who makes the attempts of a cycle |
//! | `db` | SQLite or PostgreSQL, one SQL text for both |
//! | `server` | connections and shutdown |
//! | `ops` | log, metrics, health |

mod accounts;
mod app;
mod auth;
mod bodies;
pub mod cep;
mod clock;
mod config;
mod content;
mod cycles;
mod db;
mod fault;
mod frame;
mod hex;
mod host;
mod json;
mod key_commands;
mod language;
mod mintfax;
pub mod ocr;
mod openapi;
mod ops;
mod options;
mod outbound;
mod owner;
mod rate_limit;
mod retry_after;
mod route;
mod seal;
mod server;
mod tls;
mod txcloud;
mod utc;
mod vendor;
pub mod veriko;
mod webhooks;
mod worker;

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use app::Stacks;
use axum::middleware::from_fn_with_state;
use config::Config;
use db::Database;
use host::Hosts;
use mintfax::Mintfax;
use options::Command;
pub use options::Options;
use outbound::{Outbound, Rules};
use seal::Sealer;
use server::Signals;
use tokio_util::sync::CancellationToken;
use txcloud::Txcloud;
use veriko::{Api, Veriko};
use webhooks::Telling;
use worker::Handlers;

/// What is left of the grace for the program to end in.
const TO_EXIT: Duration = Duration::from_millis(200);
/// What is left of it for the worker to stop what still runs then, and to give the leases back.
const TO_HAND_BACK: Duration = Duration::from_secs(3);

/// Carries out the command; serving is the one that takes a while, and returns once it has stopped in good order.
///
/// # Errors
/// An option or a key of the configuration file is refused, or the database or the address cannot be had. The message is
/// for the operator.
///
/// # Cancel safety
/// Dropped, it stops at once; requests that run are lost.
pub async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    options.check()?;
    if let Some(Command::Openapi) = options.command {
        return print_document();
    }
    let config = Config::load(options.config.as_deref())?;
    ops::install_log(options.log);
    let database = Database::open(options.database()).await?;
    let done = match &options.command {
        Some(Command::Keys { command }) => key_commands::run(&options, &database, command).await,
        Some(Command::Openapi) | None => serve(&options, config, &database).await,
    };
    database.close().await;
    done
}

/// Prints the `OpenAPI` document, which is the program's own and depends on nothing that the operator says.
fn print_document() -> Result<(), Box<dyn Error>> {
    writeln!(std::io::stdout(), "{:#}", openapi::whole())?;
    Ok(())
}

/// What the handlers of faxes share. Their worker is everybody's.
fn faxes(
    options: &Options,
    config: &mintfax::Config,
    database: &Database,
    veriko: &Api,
    telling: Telling,
) -> Result<mintfax::Api, Box<dyn Error>> {
    let uploads = mintfax::Uploads::configured(config, options.database());
    Ok(mintfax::Api::new(database.clone(), config.clone(), uploads, telling, veriko.worker.clone())?)
}

/// What it takes to tell whoever a request names. Deliveries of all APIs share the places there are.
fn telling(options: &Options, veriko: &Api, sealer: &Arc<Sealer>) -> Result<Telling, Box<dyn Error>> {
    let outbound = Outbound::new(Rules { allow_http: options.demo, allow_private: options.demo })?;
    let in_flight = Arc::clone(&veriko.webhooks.in_flight);
    Ok(Telling { outbound, sealer: Arc::clone(sealer), demo: options.demo, in_flight })
}

/// Serves until a signal comes.
async fn serve(options: &Options, config: Config, database: &Database) -> Result<(), Box<dyn Error>> {
    let metrics = ops::install_metrics()?;
    let grace = config.shutdown_grace().saturating_sub(TO_EXIT);
    let large_at_a_time = config.veriko.ocr.bodies.get();
    let mut stacks = Stacks::new(config.idempotency, database.clone(), options.demo, large_at_a_time);
    let _purge = database.purge_records();
    tokio::spawn(ops::keep_up(metrics.clone()));

    let terms = Arc::new(config.veriko);
    let sealer = Arc::new(options.sealer()?);
    let webhooks = veriko::webhooks(database.clone(), Arc::clone(&sealer), options.demo, &terms.webhooks)?;
    webhooks.check_secrets().await?;
    let mut handlers = Handlers::default();
    webhooks.attempts(&mut handlers, config.scheduler.concurrency.get());
    let api = Arc::new(Api::new(database.clone(), &terms, webhooks, Arc::clone(&sealer))?);
    let recogniser = Arc::clone(&api.recogniser);
    tokio::spawn(async move { recogniser.prepare().await });
    veriko::attempts(&api, &mut handlers);
    // A validation whose retries ended can be retried again, under the counts of its cycle.
    handlers.keep_ended(terms.longest_age());
    let engines = txcloud::engines::Engines::sandbox();
    let told = telling(options, &api, &sealer)?;
    let checks = txcloud::Api::new(database.clone(), api.worker.clone(), engines, told, &config.txcloud);
    let checks = Arc::new(checks);
    txcloud::attempts(&checks, &mut handlers);
    let faxes = Arc::new(faxes(options, &config.mintfax, database, &api, telling(options, &api, &sealer)?)?);
    faxes.check_secrets().await?;
    mintfax::attempts(&faxes, &mut handlers);
    let to_end = grace.saturating_sub(TO_HAND_BACK);
    let worker = worker::worker(&api.cycles, api.worker.clone(), handlers, &config.scheduler, to_end);
    let health = ops::Health { database: database.clone(), worker: worker.handle() };
    if !options.demo && accounts::are_none(database).await? {
        tracing::warn!(
            "there are no keys, so every call is answered 401: make one with `keys create`, or start with --demo"
        );
    }
    let operations = veriko::routes().into_iter().map(|route| route.with_state(&api)).collect();
    let veriko = stacks.stack(Veriko(terms), operations);
    let operations = txcloud::routes().into_iter().map(|route| route.with_state(&checks)).collect();
    let txcloud = stacks.stack(Txcloud::new(&config.txcloud), operations);
    let operations = mintfax::routes().into_iter().map(|route| route.with_state(&faxes)).collect();
    let mintfax = stacks.stack(Mintfax(config.mintfax), operations);
    let root = txcloud.operations.clone();
    let described = openapi::routes(&openapi::documents());
    let router =
        app::app(ops::routes(metrics, health).merge(described), vec![veriko, txcloud, mintfax], root);
    let hosts = if options.demo { Hosts::Loopback } else { Hosts::All };
    let router = router.layer(from_fn_with_state(hosts, host::check));

    let signals = Signals::listen()?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|fault| format!("cannot listen on {}: {fault}", options.listen))?;
    let mut stdout = std::io::stdout();
    let address = listener.local_addr()?;
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    if options.demo {
        invite(address);
    }

    let stopping = CancellationToken::new();
    let working = tokio::spawn(worker.run(stopping.clone()));
    let keeping_up = stopping.clone();
    tokio::spawn(async move {
        let both = async { tokio::join!(veriko::keep_up(&api), faxes.keep_up()) };
        Box::pin(keeping_up.run_until_cancelled(both)).await
    });
    let (connections, requests) = server::serve(listener, router, signals).await;
    tracing::info!("stopped accepting, finishing what runs");
    stopping.cancel();
    let finished = async {
        server::finish(connections, requests).await;
        // Handlers whose clients went away run on without a connection; their answers are owed to a retry.
        stacks.shutdown().await;
        // Attempts that run are finished, or given back.
        if let Err(fault) = working.await {
            tracing::error!(%fault, "the worker ended badly");
        }
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("some requests did not finish in time and are dropped");
    }
    Ok(())
}

/// Says what whoever has just started the demo can try, with keys that are public.
fn invite(address: SocketAddr) {
    // The key as the shell writes it out: no log has it whole.
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
