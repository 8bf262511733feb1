//! Requests over loopback: an axum handler alone, and behind the layer, on each store and in each mode.
//!
//! ```text
//! cargo bench -p idempotency-layer --features axum,postgres,sqlite --bench requests
//! ```
//!
//! There are 64 connections, or `BENCH_CONNECTIONS`. Each sends its next request after the last answer: 1 KiB in and out, with
//! a new key. Client and server share the machine. The variants take turns of a few seconds. Each ratio is taken within a
//! turn, and the table shows the median. Databases are durable: a commit is on the disk before it is answered. `BENCH_TABLE`
//! runs only the tables whose title contains it, such as `PostgreSQL`.
//!
//! The last column is the latency that a tenth of the requests stay below, in the median turn. Other work on the machine
//! affects it less than the mean.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails says so")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Router};
use idempotency_layer::{
    ClaimsInTransaction, CoCommit, Contract, IdempotencyLayer, MemoryStore, PostgresStore, SqliteStore, Store,
};
use private_postgres::Postgres as Server;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TURNS: usize = 5;
const SPAN: Duration = Duration::from_secs(3);
const BODY: usize = 1024;
const TABLE: &str = "CREATE TABLE payments (body TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO payments (body) VALUES ($1)";

#[tokio::main]
async fn main() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let wanted = std::env::var("BENCH_TABLE").unwrap_or_default();
    if NOTHING.contains(&wanted) {
        nothing_written(&server, folder.path()).await;
    }
    if SQLITE.contains(&wanted) {
        on_sqlite(folder.path()).await;
    }
    if POSTGRES.contains(&wanted) {
        on_postgres(&server).await;
    }
}

const NOTHING: &str = "nothing is written by the handler";
const SQLITE: &str = "SQLite: the handler writes a row";
const POSTGRES: &str = "PostgreSQL: the handler writes a row";

async fn nothing_written(server: &Server, folder: &Path) {
    let layer = |store| IdempotencyLayer::builder(store).contract(Contract::veriko()).single_tenant().build();
    let bare = || Router::new().route("/payments", post(echo));
    table(
        NOTHING,
        "bare handler",
        &[
            ("bare handler", serve(bare()).await),
            ("MemoryStore", serve(bare().layer(layer(MemoryStore::default()))).await),
            ("SqliteStore", serve(keyed(bare(), sqlite(folder, "plain").await)).await),
            ("PostgresStore", serve(keyed(bare(), postgres(server).await)).await),
        ],
    )
    .await;
}

async fn on_sqlite(folder: &Path) {
    let pool = sqlite(folder, "own").await.pool().clone();
    let store = sqlite(folder, "co-commit").await;
    let in_transaction = sqlite(folder, "in-transaction").await;
    let alone = sqlite(folder, "co-commit-alone").await.share_commits(false);
    let in_transaction_alone = sqlite(folder, "in-transaction-alone").await.share_commits(false);
    let co_committed = || Router::new().route("/payments", post(co_committed_sqlite));
    table(
        SQLITE,
        "own transaction",
        &[
            (
                "own transaction",
                serve(Router::new().route("/payments", post(own_sqlite)).with_state(pool)).await,
            ),
            ("co-commit, leased", serve(keyed(co_committed(), store)).await),
            ("co-commit, claim in the transaction", serve(claimed(co_committed(), in_transaction)).await),
            ("leased, each commits alone", serve(keyed(co_committed(), alone)).await),
            (
                "in the transaction, each commits alone",
                serve(claimed(co_committed(), in_transaction_alone)).await,
            ),
        ],
    )
    .await;
}

async fn on_postgres(server: &Server) {
    let pool = postgres(server).await.pool().clone();
    let (separate, store) = (postgres(server).await, postgres(server).await);
    let in_transaction = postgres(server).await;
    let app = Router::new().route("/payments", post(own_postgres));
    table(
        POSTGRES,
        "own transaction",
        &[
            ("own transaction", serve(app.clone().with_state(pool)).await),
            ("own transaction, and the layer", {
                let pool = separate.pool().clone();
                serve(keyed(app.with_state(pool), separate)).await
            }),
            (
                "co-commit, leased",
                serve(keyed(Router::new().route("/payments", post(co_committed_postgres)), store)).await,
            ),
            (
                "co-commit, claim in the transaction",
                serve(claimed(Router::new().route("/payments", post(co_committed_postgres)), in_transaction))
                    .await,
            ),
        ],
    )
    .await;
}

async fn echo(body: Bytes) -> (StatusCode, Bytes) {
    (StatusCode::CREATED, body)
}

async fn own_sqlite(State(pool): State<SqlitePool>, body: String) -> (StatusCode, String) {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query(INSERT).bind(&body).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    (StatusCode::CREATED, body)
}

async fn co_committed_sqlite(
    Extension(work): Extension<CoCommit<Sqlite>>,
    body: String,
) -> (StatusCode, String) {
    let mut transaction = work.begin().await.unwrap();
    sqlx::query(INSERT).bind(&body).execute(&mut *transaction).await.unwrap();
    (StatusCode::CREATED, body)
}

async fn own_postgres(State(pool): State<PgPool>, body: String) -> (StatusCode, String) {
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query(INSERT).bind(&body).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    (StatusCode::CREATED, body)
}

async fn co_committed_postgres(
    Extension(work): Extension<CoCommit<Postgres>>,
    body: String,
) -> (StatusCode, String) {
    let mut transaction = work.begin().await.unwrap();
    sqlx::query(INSERT).bind(&body).execute(&mut *transaction).await.unwrap();
    (StatusCode::CREATED, body)
}

fn keyed<St: Store>(router: Router, store: St) -> Router {
    router.layer(IdempotencyLayer::builder(store).contract(Contract::veriko()).single_tenant().build())
}

/// A layer with claims in the transaction.
fn claimed<St: ClaimsInTransaction>(router: Router, store: St) -> Router {
    let layer = IdempotencyLayer::builder(store).contract(Contract::veriko()).single_tenant();
    router.layer(layer.claim_in_transaction().build())
}

async fn sqlite(folder: &Path, name: &str) -> SqliteStore {
    let store = SqliteStore::open(&format!("sqlite://{}/{name}.db", folder.display())).await.unwrap();
    sqlx::query(TABLE).execute(store.pool()).await.unwrap();
    store
}

/// Creates a store on its own database.
async fn postgres(server: &Server) -> PostgresStore {
    let options = PgPoolOptions::new().max_connections(32).test_before_acquire(false);
    let pool = options.connect(&server.fresh_database()).await.unwrap();
    sqlx::query(TABLE).execute(&pool).await.unwrap();
    let store = PostgresStore::new(pool);
    store.migrate().await.unwrap();
    store
}

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

/// Measures the variants in turns, and prints each beside the first.
async fn table(title: &str, first: &str, variants: &[(&str, u16)]) {
    let (mut rates, mut latencies) = (vec![Vec::new(); variants.len()], vec![Vec::new(); variants.len()]);
    for (_, port) in variants {
        rate(*port, SPAN / 3).await;
    }
    for turn in 0..TURNS {
        for place in 0..variants.len() {
            let place = (place + turn) % variants.len();
            let (rate, latency) = rate(variants[place].1, SPAN).await;
            rates[place].push(rate);
            latencies[place].push(latency);
        }
    }
    println!("\n{title:<40}{:>12}{:>24}{:>16}", "requests/s", format!("beside {first}"), "latency p10, µs");
    for (((name, _), of), latencies) in variants.iter().zip(&rates).zip(latencies) {
        let ratios = of.iter().zip(&rates[0]).map(|(rate, first)| rate / first).collect();
        println!("{name:<40}{:>12.0}{:>24.2}{:>16.0}", median(of.clone()), median(ratios), median(latencies));
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Returns the number of requests in a second, and the latency in microseconds that a tenth of them stay below.
async fn rate(port: u16, span: Duration) -> (f64, f64) {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let connections =
        std::env::var("BENCH_CONNECTIONS").map_or(64, |connections| connections.parse().unwrap());
    let clients: Vec<_> =
        (0..connections).map(|_| tokio::spawn(client(port, over.clone(), count.clone()))).collect();
    tokio::time::sleep(span).await;
    over.store(true, Ordering::Relaxed);
    let answered = count.load(Ordering::Relaxed);
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.unwrap());
    }
    let tenth = latencies.len() / 10;
    let (_, tenth, _) = latencies.select_nth_unstable(tenth);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let answered = answered as f64;
    (answered / span.as_secs_f64(), tenth.as_secs_f64() * 1e6)
}

async fn client(port: u16, over: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Vec<Duration> {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let body = "x".repeat(BODY);
    let (mut buffer, mut latencies) = (vec![0; 16 * 1024], Vec::new());
    while !over.load(Ordering::Relaxed) {
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let request = format!(
            "POST /payments HTTP/1.1\r\nhost: localhost\r\nidempotency-key: key-{key:032}\r\n\
             content-length: {BODY}\r\n\r\n{body}"
        );
        let sent = now();
        stream.write_all(request.as_bytes()).await.unwrap();
        // The head, and a body of the same length as that of the request.
        let mut read = 0;
        let end = loop {
            read += stream.read(&mut buffer[read..]).await.unwrap();
            if let Some(head) = buffer[..read].windows(4).position(|window| window == b"\r\n\r\n") {
                break head + 4 + BODY;
            }
        };
        assert!(buffer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&buffer[..read]));
        while read < end {
            read += stream.read(&mut buffer[read..]).await.unwrap();
        }
        latencies.push(sent.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    latencies
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
