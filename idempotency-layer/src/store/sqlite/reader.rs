//! A read-only connection beside the writer.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection, query_scalar};
use tokio::sync::Mutex;

use super::error::store_error;
use super::statements::TEXTS;
use super::{answers, packed};
use crate::error::StoreError;
use crate::store::batch::{Answer, Reply};
use crate::store::{Claim, ClaimRequest};

/// Reads records without the writer, which a lent transaction may hold for as long as a handler
/// runs. In WAL mode, readers and the writer do not wait for each other.
///
/// The first read opens the connection. A database in memory has no second connection.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: SqliteConnectOptions,
    connection: Mutex<Reading>,
}

#[derive(Debug)]
enum Reading {
    Unopened,
    Open(SqliteConnection),
    InMemory,
}

impl Reader {
    /// Creates a reader with the options of the writer.
    pub(crate) fn new(options: SqliteConnectOptions) -> Self {
        // A reader would wait for the locks of a shared cache, and would keep a database in memory
        // alive.
        let options = options.read_only(true).shared_cache(false);
        Self(Arc::new(Shared { options, connection: Mutex::new(Reading::Unopened) }))
    }

    /// Returns the answer to a claim that cannot run, as of the last commit.
    ///
    /// `None`: the claim may run, or the database is in memory. Ask the writer.
    ///
    /// # Errors
    ///
    /// When the database cannot be opened or read. The next read opens it again.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind. A statement that is on its way ends by itself.
    pub(crate) async fn look(&self, request: &ClaimRequest) -> Result<Option<Claim>, StoreError> {
        let mut reading = self.0.connection.lock().await;
        if let Reading::Unopened = *reading {
            *reading = open(&self.0.options).await.map_err(store_error)?;
        }
        let Reading::Open(connection) = &mut *reading else { return Ok(None) };
        let answer = peek(connection, request).await;
        if answer.is_err() {
            *reading = Reading::Unopened;
        }
        answer
    }

    /// Returns whether the last read found that the database is in memory.
    pub(crate) async fn is_in_memory(&self) -> bool {
        matches!(*self.0.connection.lock().await, Reading::InMemory)
    }
}

/// Returns the answer to a claim that cannot run, as this connection sees it.
pub(super) async fn peek(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
) -> Result<Option<Claim>, StoreError> {
    let row = packed::claim(&TEXTS.peek, request).fetch_optional(connection).await.map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    Ok(match answers::claim(&row)? {
        Reply::Done(Answer::Claim(Claim::Run(_), _) | Answer::Fenced(_)) | Reply::Locked(_) => None,
        Reply::Done(Answer::Claim(claim, _)) => Some(claim),
    })
}

async fn open(options: &SqliteConnectOptions) -> Result<Reading, sqlx::Error> {
    let mut connection = options.connect().await?;
    // In memory, this is another database, which is empty.
    let is_file = query_scalar("SELECT file <> '' FROM pragma_database_list WHERE name = 'main'")
        .fetch_one(&mut connection)
        .await?;
    Ok(if is_file { Reading::Open(connection) } else { Reading::InMemory })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions};
    use sqlx::{Executor, Row};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::fingerprint::Fingerprint;
    use crate::response::StoredResponse;
    use crate::store::sqlite::complete_in;
    use crate::store::{
        Checkpoint, ClaimToken, Fence, Fenced, Inspect, Outcome, RecordId, SqliteStore, Store, Tombstone,
    };

    fn ask(number: u8) -> ClaimRequest {
        ClaimRequest {
            record: RecordId::from_bytes([number; 32]),
            fingerprint: Fingerprint::from_bytes([1; Fingerprint::LEN]),
            token: ClaimToken::new(),
            lease: Duration::from_mins(1),
            ttl: Duration::from_hours(1),
        }
    }

    async fn run(store: &SqliteStore, ask: ClaimRequest) -> Fence {
        let Claim::Run(run) = store.claim(ask).await.unwrap() else { panic!("not to be had") };
        run.fence
    }

    fn response() -> Outcome {
        Outcome::Response(StoredResponse::from_bytes(Bytes::from_static(b"done")))
    }

    fn reader_of(store: &SqliteStore) -> Reader {
        Reader::new(SqliteConnectOptions::clone(&store.pool().connect_options()))
    }

    /// A store that opened its pool, and one on a pool of the application.
    async fn stores() -> [(TempDir, SqliteStore); 2] {
        let (opened, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = |folder: &TempDir| {
            let options = SqliteConnectOptions::new().filename(folder.path().join("a.db"));
            options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)
        };
        let store = SqliteStore::open_with(options(&opened)).await.unwrap();
        let pool = SqlitePoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let on_own = SqliteStore::new(pool.connect_with(options(&own)).await.unwrap());
        on_own.migrate().await.unwrap();
        [(opened, store), (own, on_own)]
    }

    async fn look(store: &SqliteStore, request: ClaimRequest) -> Option<Claim> {
        let request = ClaimRequest { token: ClaimToken::new(), ..request };
        timeout(Duration::from_secs(5), reader_of(store).look(&request))
            .await
            .expect("it waits for nobody")
            .unwrap()
    }

    #[tokio::test]
    async fn what_a_record_answers_is_read_beside_an_open_transaction() {
        for (_folder, store) in stores().await {
            let [finished, tombstone, running, lapsed, released, expired, late] =
                [1, 2, 3, 4, 5, 6, 7].map(ask);
            let outcomes = [
                (finished, response()),
                (tombstone, Outcome::Tombstone(Tombstone::Unknown)),
                (expired, response()),
            ];
            for (ask, outcome) in outcomes {
                let fence = run(&store, ask).await;
                assert_eq!(store.complete(ask.record, fence, outcome).await.unwrap(), Fenced::Held);
            }
            store
                .pool()
                .execute("UPDATE idempotency_records SET expires_at = 1 WHERE substr(record, 1, 1) = x'06'")
                .await
                .unwrap();
            run(&store, running).await;
            run(&store, ClaimRequest { lease: Duration::ZERO, ..lapsed }).await;
            let fence = run(&store, released).await;
            let kept = Checkpoint { name: "kept".to_owned(), data: Bytes::new() };
            assert_eq!(store.checkpoint(released.record, fence, kept).await.unwrap(), Fenced::Held);
            assert_eq!(store.release(released.record, fence).await.unwrap(), Fenced::Held);
            let fence = run(&store, late).await;

            let mut transaction = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
            assert_eq!(
                complete_in(&mut transaction, late.record, fence, &response()).await.unwrap(),
                Fenced::Held
            );
            assert!(matches!(look(&store, finished).await, Some(Claim::Replay { .. })));
            assert!(matches!(look(&store, tombstone).await, Some(Claim::Tombstone(Tombstone::Unknown))));
            for in_flight in [running, late] {
                assert!(matches!(look(&store, in_flight).await, Some(Claim::InFlight { .. })));
            }
            for to_be_had in [lapsed, released, expired, ask(99)] {
                let found = look(&store, to_be_had).await;
                assert!(found.is_none(), "{found:?}");
                assert!(!store.is_taken(to_be_had.record).await.unwrap(), "{to_be_had:?}");
            }
            for taken in [finished, tombstone, running, late] {
                assert!(store.is_taken(taken.record).await.unwrap(), "{taken:?}");
            }
            let mut other = [2; Fingerprint::LEN];
            other[0] = 1;
            let other = |ask| ClaimRequest { fingerprint: Fingerprint::from_bytes(other), ..ask };
            for not_its_own in [finished, tombstone, running, lapsed, released] {
                assert!(matches!(look(&store, other(not_its_own)).await, Some(Claim::Mismatch)));
            }
            assert!(look(&store, other(expired)).await.is_none());
            transaction.commit().await.unwrap();
            assert!(matches!(look(&store, late).await, Some(Claim::Replay { .. })));
        }
    }

    #[tokio::test]
    async fn a_database_in_memory_is_not_read_beside() {
        let opened = SqliteStore::open("sqlite::memory:").await.unwrap();
        let pool = SqlitePoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let on_own = SqliteStore::new(pool.connect("sqlite::memory:").await.unwrap());
        on_own.migrate().await.unwrap();
        for store in [opened, on_own] {
            let ask = ask(1);
            let fence = run(&store, ask).await;
            assert_eq!(store.complete(ask.record, fence, response()).await.unwrap(), Fenced::Held);
            let mut transaction = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
            transaction.execute("CREATE TABLE payments (amount INTEGER)").await.unwrap();
            for _ in 0..2 {
                assert!(look(&store, ask).await.is_none());
            }
            transaction.commit().await.unwrap();
            let claim = store.claim(ClaimRequest { token: ClaimToken::new(), ..ask }).await.unwrap();
            assert!(matches!(claim, Claim::Replay { .. }), "{claim:?}");
            assert!(store.is_taken(ask.record).await.unwrap(), "the writer says so");
            assert!(!store.is_taken(RecordId::from_bytes([99; 32])).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_read_that_is_over_or_was_dropped_does_not_hold_the_log() {
        for (_folder, store) in stores().await {
            let ask = ask(1);
            let fence = run(&store, ask).await;
            assert_eq!(store.complete(ask.record, fence, response()).await.unwrap(), Fenced::Held);
            look(&store, ask).await;
            let reader = reader_of(&store);
            for _ in 0..100 {
                let mut dropped = Box::pin(reader.look(&ask));
                tokio::select! { biased; _ = &mut dropped => {}, () = std::future::ready(()) => {} }
            }
            assert!(matches!(look(&store, ask).await, Some(Claim::Replay { .. })));
            let moved = store.pool().fetch_one("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
            assert_eq!(moved.get::<i64, _>(0), 0, "somebody reads");
        }
    }
}
