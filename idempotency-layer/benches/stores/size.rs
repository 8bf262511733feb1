//! Each SQL store with many records compared with the same store without records, and the speed of its purge.
//!
//! Runs only if `BENCH_RECORDS` is set, for example `BENCH_RECORDS=1000000 cargo bench …`.

use std::fs;
use std::sync::Arc;

use idempotency_layer::{PostgresStore, Purge, SqliteStore, Store};
use private_postgres::Postgres;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tokio::time::Instant;

use crate::load::{CLIENTS, RESPONSE, compare, cycles, runtime};

/// The limit of one call of the purge.
const PURGED_AT_ONCE: usize = 1000;
/// The number of expired records for the purge.
const PURGED: u32 = 50_000;

pub(crate) fn run() {
    let Ok(records) = std::env::var("BENCH_RECORDS") else { return };
    let records: u32 = records.parse().expect("BENCH_RECORDS is a number");
    let runtime = runtime();

    let server = Postgres::start();
    let [empty, full] = [(), ()].map(|()| {
        runtime.block_on(async {
            let pool = PgPool::connect(&server.fresh_database()).await.unwrap();
            let store = PostgresStore::new(pool);
            store.migrate().await.unwrap();
            store
        })
    });
    runtime.block_on(async {
        full.pool().execute(AssertSqlSafe(fill_postgres(records))).await.unwrap();
        full.pool().execute("VACUUM ANALYZE idempotency_records").await.unwrap();
    });
    measure("PostgreSQL", records, empty, full);

    let folder = tempfile::tempdir().unwrap();
    let [empty, full] = ["empty", "full"].map(|name| {
        let url = format!("sqlite:{}", folder.path().join(name).display());
        runtime.block_on(SqliteStore::open(&url)).unwrap()
    });
    runtime.block_on(full.pool().execute(AssertSqlSafe(fill_sqlite(records)))).unwrap();
    measure("SQLite", records, empty, full);
    drop(runtime);
    fs::remove_dir_all(folder.path()).unwrap();
}

fn measure<S: Store + Purge>(name: &str, records: u32, empty: S, full: S) {
    let runtime = runtime();
    let (empty, full) = (Arc::new(empty), Arc::new(full));
    for clients in CLIENTS {
        let name = format!("{name}, {records}");
        let without = || runtime.block_on(cycles(empty.clone(), clients));
        compare(&name, clients, without, || runtime.block_on(cycles(full.clone(), clients)));
    }
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    let now = Instant::now;
    runtime.block_on(async {
        let (start, mut dropped) = (now(), 0);
        while dropped < PURGED as usize {
            let purged = full.purge_expired(PURGED_AT_ONCE).await.unwrap();
            assert!(purged > 0, "{dropped} of {PURGED} were expired");
            dropped += purged;
        }
        println!("{name}: purged {:.0} a second", f64::from(PURGED) / start.elapsed().as_secs_f64());
    });
}

/// Inserts complete records, of which the first have expired.
fn fill_postgres(records: u32) -> String {
    format!(
        "INSERT INTO idempotency_records
            (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint, response)
        SELECT sha256(i::text::bytea), now() + CASE WHEN i <= {PURGED} THEN interval '-1 hour' ELSE interval '1 day' END,
            now(), nextval('idempotency_fences'), 1, 2, false, substr(sha256(i::text::bytea), 1, 16),
            '\\x01'::bytea || sha256(i::text::bytea), convert_to(repeat('x', {RESPONSE}), 'UTF8')
        FROM generate_series(1, {records}) i"
    )
}

fn fill_sqlite(records: u32) -> String {
    format!(
        "WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < {records})
        INSERT INTO idempotency_records
            (record, fence, expires_at, lease_ends, attempt, state, orphan, token, fingerprint, response)
        SELECT randomblob(32), 1, (unixepoch() + CASE WHEN i <= {PURGED} THEN -3600 ELSE 86400 END) * 1000, 0,
            1, 2, 0, randomblob(16), randomblob(33), zeroblob({RESPONSE})
        FROM number"
    )
}
