//! What is computed in two places, and has to be the same.

use private_postgres::shared_database;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, query_scalar};
use tokio::task::spawn_blocking;

use super::transaction::Names;
use super::*;
use crate::fingerprint::Fingerprint;
use crate::store::{ClaimToken, Tombstone};

/// In a schema whose name has to be quoted, and one that needs no quotes.
#[tokio::test]
async fn the_key_of_a_records_lock_is_the_same_in_every_statement_and_another_in_each_schema() {
    let url = spawn_blocking(shared_database).await.unwrap();
    let mut keys = Vec::new();
    for schema in ["public", "Co\"mmits"] {
        let quoted = schema.replace('"', "\"\"");
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let set = format!("CREATE SCHEMA IF NOT EXISTS \"{quoted}\"; SET search_path TO \"{quoted}\"");
        connection.execute(AssertSqlSafe(set)).await.unwrap();
        connection.execute("CREATE TABLE idempotency_records (record bytea)").await.unwrap();
        let names = Names::find(&mut connection).await.unwrap();
        for bytes in [[0; 32], [0xff; 32], [0x80; 32], std::array::from_fn(|n| u8::try_from(n).unwrap())] {
            let key: i64 =
                query_scalar(statements::LOCK_KEY).bind(bytes).fetch_one(&mut connection).await.unwrap();
            let lock = AssertSqlSafe(format!("SELECT {}", names.lock_of(RecordId::from_bytes(bytes))));
            assert_eq!(query_scalar::<_, i64>(lock).fetch_one(&mut connection).await.unwrap(), key);
            keys.push(key);
        }
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

/// What a claim would find, without one.
#[tokio::test]
async fn a_record_is_taken_while_a_claim_of_it_would_be_answered() {
    let pool = PgPool::connect(&spawn_blocking(shared_database).await.unwrap()).await.unwrap();
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let ask = |number: u8, lease| {
        let (record, print) = (RecordId::from_bytes([number; 32]), [1; Fingerprint::LEN]);
        let ttl = Duration::from_hours(1);
        ClaimRequest::new(record, Fingerprint::from_bytes(print), ClaimToken::new(), lease, ttl)
    };
    let run = async |ask: ClaimRequest| {
        let Claim::Run(run) = store.claim(ask).await.unwrap() else { panic!("not to be had") };
        run.fence
    };
    let [finished, running, lapsed, renewed, expired, unknown] =
        [101, 102, 103, 104, 105, 106].map(|number| ask(number, Duration::from_mins(1)));
    for ask in [finished, expired] {
        let fence = run(ask).await;
        let outcome = Outcome::Tombstone(Tombstone::Unreplayable);
        assert_eq!(store.complete(ask.record, fence, outcome).await.unwrap(), Fenced::Held);
    }
    let expire = query("UPDATE idempotency_records SET expires_at = now() WHERE record = $1");
    expire.bind(*expired.record.as_bytes()).execute(&pool).await.unwrap();
    run(running).await;
    run(ClaimRequest { lease: Duration::ZERO, ..lapsed }).await;
    let fence = run(ClaimRequest { lease: Duration::ZERO, ..renewed }).await;
    let lease = Duration::from_mins(1);
    assert_eq!(store.extend(renewed.record, fence, lease).await.unwrap(), Fenced::Held);
    for (ask, is_taken) in [
        (finished, true),
        (running, true),
        (lapsed, false),
        (renewed, true),
        (expired, false),
        (unknown, false),
    ] {
        assert_eq!(store.is_taken(ask.record).await.unwrap(), is_taken, "{ask:?}");
    }
}
