//! `SqliteStore` compared with one connection of sqlx that commits each statement.

use std::fs;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, Fence, Fenced, Outcome, RecordId, Run, SqliteStore, Store, StoreError,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, query, query_scalar};
use tokio::sync::Mutex;

use super::load::{CLIENTS, compare, cycles, runtime};

pub(crate) fn run() {
    let runtime = runtime();
    let folder = std::env::temp_dir().join(format!("stores-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let url = |name: &str| format!("sqlite:{}", folder.join(name).display());
    for clients in CLIENTS {
        let [theirs, ours] = ["yardstick", "store"].map(|name| url(&format!("{name}-{clients}.db")));
        let yardstick = Arc::new(runtime.block_on(OneByOne::open(&theirs)));
        let store = Arc::new(runtime.block_on(SqliteStore::open(&ours)).unwrap());
        compare(
            "SQLite",
            clients,
            || runtime.block_on(cycles(yardstick.clone(), clients)),
            || runtime.block_on(cycles(store.clone(), clients)),
        );
    }
    drop(runtime);
    fs::remove_dir_all(folder).unwrap();
}

/// The minimum of a claim and its completion: by primary key, in the tables of the store.
struct OneByOne(Mutex<SqliteConnection>);

impl OneByOne {
    async fn open(url: &str) -> Self {
        drop(SqliteStore::open(url).await.unwrap());
        let options = SqliteConnectOptions::from_str(url)
            .unwrap()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        Self(Mutex::new(options.connect().await.unwrap()))
    }
}

impl Store for OneByOne {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        let claim = "INSERT INTO idempotency_records
                (record, fence, expires_at, lease_ends, attempt, state, orphan, token, fingerprint)
            VALUES ($1, 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) + $2,
                CAST(unixepoch('subsec') * 1000 AS INTEGER) + $3, 1, 0, 0, $4, $5)
            ON CONFLICT (record) DO NOTHING
            RETURNING fence";
        let fence: i64 = query_scalar(claim)
            .bind(request.record.as_bytes().to_vec())
            .bind(i64::try_from(request.ttl.as_millis()).unwrap())
            .bind(i64::try_from(request.lease.as_millis()).unwrap())
            .bind(request.token.as_bytes().to_vec())
            .bind(request.fingerprint.to_bytes().to_vec())
            .fetch_one(&mut *self.0.lock().await)
            .await
            .unwrap();
        let fence = Fence(u64::try_from(fence).unwrap());
        Ok(Claim::Run(Run::new(fence, 1)))
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let complete = "UPDATE idempotency_records SET state = 2, lease_ends = 0, response = $1
            WHERE record = $2 AND fence = $3 AND state = 0";
        let Outcome::Response(response) = outcome else { unreachable!("a response") };
        let completed = query(complete)
            .bind(response.as_bytes().to_vec())
            .bind(record.as_bytes().to_vec())
            .bind(i64::try_from(fence.0).unwrap())
            .execute(&mut *self.0.lock().await)
            .await
            .unwrap();
        Ok(if completed.rows_affected() == 1 { Fenced::Held } else { Fenced::Stale })
    }

    async fn release(&self, _: RecordId, _: Fence) -> Result<Fenced, StoreError> {
        unreachable!("not measured")
    }

    async fn extend(&self, _: RecordId, _: Fence, _: Duration) -> Result<Fenced, StoreError> {
        unreachable!("not measured")
    }

    async fn checkpoint(&self, _: RecordId, _: Fence, _: Checkpoint) -> Result<Fenced, StoreError> {
        unreachable!("not measured")
    }
}
