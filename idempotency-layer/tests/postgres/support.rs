//! Databases, requests and answers.

use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, Fence, Fenced, Fingerprint, Outcome, PostgresStore, RecordId, Run,
    Store, StoredResponse,
};
use private_postgres::shared_database;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, query_scalar};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

pub(crate) const LONG: Duration = Duration::from_mins(10);

/// The URL of a database that has the store's tables and nothing in them.
pub(crate) async fn fresh() -> String {
    let url = spawn_blocking(shared_database).await.unwrap();
    store(&url).migrate().await.unwrap();
    url
}

/// A store as one process has it.
pub(crate) fn store(url: &str) -> PostgresStore {
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(5)).connect_lazy(url).unwrap();
    PostgresStore::new(pool)
}

pub(crate) fn ask() -> ClaimRequest {
    let token = ClaimToken::new();
    let record = RecordId::from_bytes(Sha256::digest(token.as_bytes()).into());
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    ClaimRequest::new(record, fingerprint, token, LONG, LONG)
}

/// Expired as soon as no lease holds.
pub(crate) fn expired(mut of: ClaimRequest) -> ClaimRequest {
    of.ttl = Duration::ZERO;
    of
}

/// Without a lease, and expired.
pub(crate) fn over(of: ClaimRequest) -> ClaimRequest {
    ClaimRequest::new(of.record, of.fingerprint, of.token, Duration::ZERO, Duration::ZERO)
}

/// As another asker comes for the same record.
pub(crate) fn rival(mut of: ClaimRequest) -> ClaimRequest {
    of.token = ClaimToken::new();
    of
}

pub(crate) fn outcome(bytes: usize) -> Outcome {
    Outcome::Response(StoredResponse::from_bytes(Bytes::from(vec![7; bytes])))
}

pub(crate) async fn run(store: &PostgresStore, request: ClaimRequest) -> Run {
    match store.claim(request).await.unwrap() {
        Claim::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn complete(store: &PostgresStore, request: ClaimRequest, fence: Fence, bytes: usize) {
    assert_eq!(store.complete(request.record, fence, outcome(bytes)).await.unwrap(), Fenced::Held);
}

/// A new record from claim to response.
pub(crate) async fn cycle(store: &PostgresStore, bytes: usize) -> ClaimRequest {
    let request = ask();
    let run = run(store, request).await;
    complete(store, request, run.fence, bytes).await;
    request
}

pub(crate) async fn number(pool: &PgPool, statement: &str) -> i64 {
    query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await.unwrap()
}

/// Until the statement gives such a number.
pub(crate) async fn until(pool: &PgPool, statement: &str, wanted: impl Fn(i64) -> bool) {
    let come = async {
        while !wanted(number(pool, statement).await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), come).await.expect(statement);
}

/// The stores' own connections to the database.
pub(crate) const WRITERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'idempotency-layer'";
