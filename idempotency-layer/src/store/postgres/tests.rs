//! What is computed in two places, and has to be the same.

use private_postgres::shared_database;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, query_scalar};
use tokio::task::spawn_blocking;

use super::transaction::Names;
use super::*;

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
