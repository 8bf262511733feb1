//! Makes each order once, through lost responses, impatient clients and `kill -9`. `docs/RETRY-SAFELY.md` walks through it.

use std::error::Error;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use idempotency_layer::{
    CoCommit, Contract, Idempotency, IdempotencyLayer, KeySyntax, PurgeTask, Rejection, Scope, SqliteStore,
};
use sqlx::{Sqlite, SqlitePool};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone)]
struct Account(&'static str);

/// Makes an order. The row is committed together with the response on success, and rolled back on any other response.
async fn order(
    Extension(Account(account)): Extension<Account>,
    idempotency: Idempotency,
    co_commit: CoCommit<Sqlite>,
    item: String,
) -> Result<(StatusCode, String), StatusCode> {
    // Call other services before the transaction begins. A retry repeats the call with the same derived key.
    reserve(&item, &idempotency.derive("reserve")).await?;
    let mut transaction = co_commit.begin().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let id: i64 = sqlx::query_scalar("INSERT INTO orders (account, item) VALUES ($1, $2) RETURNING id")
        .bind(account)
        .bind(&item)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, format!("order {id} of {account}: {item}\n")))
}

/// Stands for a call to another service, which can be slow, or down.
async fn reserve(_item: &str, _key: &str) -> Result<(), StatusCode> {
    match std::env::var("WAREHOUSE").as_deref() {
        Ok("slow") => tokio::time::sleep(Duration::from_mins(1)).await,
        Ok("down") => return Err(StatusCode::SERVICE_UNAVAILABLE),
        _ => {}
    }
    Ok(())
}

/// Lists all orders.
async fn list(State(pool): State<SqlitePool>) -> Result<String, StatusCode> {
    let orders = "SELECT coalesce(group_concat('order ' || id || ' of ' || account || ': ' || item || char(10), ''), '')
        FROM orders";
    sqlx::query_scalar(orders).fetch_one(&pool).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Stands for your authentication: it puts the account into the extensions of the request.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let account = match request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes) {
        Some(b"Bearer alice") => Account("alice"),
        Some(b"Bearer bob") => Account("bob"),
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    request.extensions_mut().insert(account);
    next.run(request).await
}

/// Stands for your metrics: logs what the layer did with each request.
async fn watch(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let outcome = match response.extensions().get::<Rejection>() {
        Some(rejection) => rejection.code(),
        None if response.headers().contains_key("idempotent-replayed") => "replayed",
        None => "ran",
    };
    eprintln!("{} {outcome}", response.status().as_u16());
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open("sqlite://orders.db").await?;
    let pool = store.pool().clone();
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, account TEXT, item TEXT)")
        .execute(&pool)
        .await?;
    let _purge = PurgeTask::spawn(store.clone(), Duration::from_mins(1), 1000);
    let idempotency = IdempotencyLayer::builder(store)
        .contract(Contract::ietf().key(KeySyntax::structured(1..=255).or_bare()).required())
        .scope(|request| request.extensions.get::<Account>().map(|account| Scope::of(account.0)))
        .lease(Duration::from_secs(2))
        .build();
    let app = Router::new()
        .route("/orders", post(order))
        .route_layer(idempotency.clone()) // not for paths without a route: a 404 is not stored
        .route_layer(from_fn(watch))
        .route_layer(from_fn(authenticate)) // the last one is the outermost
        .route("/list", get(list))
        .with_state(pool);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async move { _ = terminate.recv().await };
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    idempotency.shutdown().await; // waits for requests whose clients disconnected
    Ok(())
}
