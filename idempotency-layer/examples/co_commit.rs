//! A payment and its answer in one transaction: `kill -9` at any moment, and a retry finds both or runs again.
//!
//! ```sh
//! cargo run -p idempotency-layer --example co_commit --features axum,sqlite
//! curl -i 127.0.0.1:3000/payments -H 'Idempotency-Key: "order-17"' -d 10   # runs
//! curl -i 127.0.0.1:3000/payments -H 'Idempotency-Key: "order-17"' -d 10   # idempotent-replayed: true
//! curl -i 127.0.0.1:3000/payments                                          # one payment
//! ```
//!
//! On PostgreSQL it is the same with `PostgresStore::new(pool)`, `store.migrate()` and `CoCommit<Postgres>`.

use std::error::Error;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use idempotency_layer::{CoCommit, Contract, IdempotencyLayer, KeySyntax, SqliteStore};
use sqlx::{Sqlite, SqlitePool};

/// Both are committed when this answers below 500; after a 5xx, or a panic, neither is.
async fn pay(co_commit: CoCommit<Sqlite>, amount: String) -> Result<(StatusCode, String), StatusCode> {
    let amount: i64 = amount.trim().parse().map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    // Slow calls belong here, before the transaction begins.
    let mut transaction = co_commit.begin().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let id: i64 = sqlx::query_scalar("INSERT INTO payments (amount) VALUES ($1) RETURNING id")
        .bind(amount)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, format!("payment {id} of {amount}\n")))
}

async fn count(State(pool): State<SqlitePool>) -> Result<String, StatusCode> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM payments")
        .fetch_one(&pool)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("{count} payments\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open("sqlite://payments.db").await?;
    store.migrate().await?;
    let pool = store.pool().clone();
    sqlx::query("CREATE TABLE IF NOT EXISTS payments (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)")
        .execute(&pool)
        .await?;

    let idempotency = IdempotencyLayer::builder(store)
        .contract(Contract::ietf().key(KeySyntax::structured(1..=255).or_bare()))
        .single_tenant() // yours says whose key it is: `.scope(…)`
        .build();
    let app = Router::new()
        .route("/payments", post(pay).layer(idempotency.clone()).get(count))
        .with_state(pool.clone());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // Requests whose clients went away are finished first.
    idempotency.shutdown().await;
    pool.close().await;
    Ok(())
}
