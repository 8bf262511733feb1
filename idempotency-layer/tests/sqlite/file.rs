//! The file: what is in it, what it is opened as, and what survives.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use idempotency_layer::{Checkpoint, ClaimRequest, Fenced, Purge, SqliteStore, Store, StoreErrorKind};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, Executor, SqliteConnection, query_scalar};
use tokio::time::sleep;

use crate::support::{Folder, again, ask, complete, finish, replay, response, run};

/// The folder is copied as it is at a moment, which is what a machine finds that lost its power.
#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let (folder, copy) = (Folder::new(), Folder::new());
    let store = folder.store().await;
    let asked = join_all((0..100).map(|_| finish(&store, response(500)))).await;
    let running = ask();
    let fence = run(&store, running).await.fence;
    fs::copy(folder.file(), copy.file()).unwrap();
    fs::copy(folder.log(), copy.log()).unwrap();

    let recovered = copy.store().await;
    for ask in asked {
        assert_eq!(replay(&recovered, ask).await, response(500));
    }
    complete(&recovered, running, fence, response(5)).await;
}

/// As a process that reads the file without the store finds it.
async fn value(folder: &Folder, sql: &'static str) -> i64 {
    let mut reader = SqliteConnection::connect(&folder.url()).await.expect("a database");
    query_scalar(sql).fetch_one(&mut reader).await.expect("a value")
}

#[tokio::test]
async fn the_fences_of_a_record_grow_whoever_deletes_its_row() {
    let folder = Folder::new();
    let store = folder.store().await;
    let living = ask();
    let mut last = run(&store, living).await.fence;
    for _ in 0..5 {
        assert_eq!(store.release(living.record, last).await.unwrap(), Fenced::Held);
        let next = run(&store, again(living)).await.fence;
        assert!(next > last, "{next:?} after {last:?}");
        last = next;
    }
    store.pool().execute("DELETE FROM idempotency_records").await.unwrap();
    let next = run(&store, again(living)).await.fence;
    assert!(next > last, "{next:?} after {last:?}, when its row was deleted");
    assert_eq!(store.release(living.record, last).await.unwrap(), Fenced::Stale);
}

/// Alone, and in a batch.
#[tokio::test]
async fn a_released_record_leaves_a_row_only_for_its_checkpoint() {
    let folder = Folder::new();
    let store = folder.store().await;
    for together in [1, 60] {
        let asked: Vec<ClaimRequest> = (0..together).map(|_| ask()).collect();
        let runs = join_all(asked.iter().map(|ask| run(&store, *ask))).await;
        let release = |n: usize| store.release(asked[n].record, runs[n].fence);
        let before = folder.commits();
        for fenced in join_all((0..together).map(release)).await {
            assert_eq!(fenced.unwrap(), Fenced::Held);
        }
        let commits = folder.commits() - before;
        assert!(commits <= 5, "{together} releases took {commits} commits");
        assert_eq!(value(&folder, "SELECT count(*) FROM idempotency_records").await, 0);
        for fenced in join_all((0..together).map(release)).await {
            assert_eq!(fenced.unwrap(), Fenced::Stale, "there is nothing to release");
        }

        let runs = join_all(asked.iter().map(|ask| run(&store, *ask))).await;
        let kept = |n: usize| Checkpoint::new(format!("step {n}"), Bytes::new());
        let checkpoint = |n: usize| store.checkpoint(asked[n].record, runs[n].fence, kept(n));
        for fenced in join_all((0..together).step_by(2).map(checkpoint)).await {
            assert_eq!(fenced.unwrap(), Fenced::Held);
        }
        for fenced in join_all((0..together).map(|n| store.release(asked[n].record, runs[n].fence))).await {
            assert_eq!(fenced.unwrap(), Fenced::Held);
        }
        let rows = value(&folder, "SELECT count(*) FROM idempotency_records").await;
        assert_eq!(rows, i64::try_from(together.div_ceil(2)).unwrap());
        for (n, (ask, before)) in asked.iter().zip(&runs).enumerate() {
            let next = run(&store, again(*ask)).await;
            assert!(next.fence > before.fence, "{n}: {next:?} after {before:?}");
            let (attempt, checkpoint) = if n % 2 == 0 { (2, Some(kept(n))) } else { (1, None) };
            assert_eq!((next.attempt, next.checkpoint, next.orphan), (attempt, checkpoint, false), "{n}");
            complete(&store, *ask, next.fence, response(1)).await;
        }
        store.pool().execute("DELETE FROM idempotency_records").await.unwrap();
    }
}

#[tokio::test]
async fn a_purge_keeps_to_its_limit_also_among_records_that_expire_together() {
    let folder = Folder::new();
    let store = folder.store().await;
    let short = || {
        let mut short = ask();
        (short.lease, short.ttl) = (Duration::ZERO, Duration::from_millis(1));
        short
    };
    join_all((0..100).map(|_| run(&store, short()))).await;
    let kept = finish(&store, response(10)).await;
    // Held beyond its time, in front of the others.
    let mut held = short();
    held.lease = Duration::from_mins(1);
    let fence = run(&store, held).await.fence;
    while value(
        &folder,
        "SELECT max(expires_at) < unixepoch('subsec') * 1000 FROM idempotency_records WHERE response IS NULL",
    )
    .await
        == 0
    {
        sleep(Duration::from_millis(1)).await;
    }
    let mut dropped = 0;
    for limit in [0, 1, 7, 92, 50] {
        let now = store.purge_expired(limit).await.unwrap();
        assert!(now <= limit, "{now} of at most {limit}");
        dropped += now;
    }
    assert_eq!(dropped, 100);
    assert_eq!(replay(&store, kept).await, response(10));
    complete(&store, held, fence, response(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_create_the_tables_once() {
    for _ in 0..12 {
        let folder = Folder::new();
        let url = folder.url();
        let opened = (0..16).map(|_| {
            let url = url.clone();
            tokio::spawn(async move { SqliteStore::open(&url).await })
        });
        for store in join_all(opened).await {
            finish(&store.unwrap().unwrap(), response(10)).await;
        }
        assert_eq!(value(&folder, "SELECT count(*) FROM idempotency_migrations").await, 1);
    }
}

#[tokio::test]
async fn the_migrations_are_apart_from_those_of_the_application() {
    let folder = Folder::new();
    let store = folder.store().await;
    let own = sqlx::migrate::Migrator::with_migrations(vec![sqlx::migrate::Migration::new(
        1,
        "payments".into(),
        sqlx::migrate::MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str("CREATE TABLE payments (amount INTEGER NOT NULL)"),
        false,
    )]);
    own.run(store.pool()).await.unwrap();
    store.migrate().await.unwrap();
    own.run(store.pool()).await.unwrap();
    finish(&folder.store().await, response(1)).await;
}

#[tokio::test]
async fn a_database_whose_text_is_not_utf_8_is_refused() {
    let folder = Folder::new();
    fs::write(folder.file(), b"").unwrap();
    let mut other = SqliteConnection::connect(&folder.url()).await.unwrap();
    other.execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE payments (amount INTEGER)").await.unwrap();
    let refused = SqliteStore::open(&folder.url()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
}

#[tokio::test]
async fn what_cannot_be_opened_is_unavailable() {
    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    assert_eq!(SqliteStore::open(&folder.url()).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let other = Folder::new();
    fs::write(other.file(), vec![7; 10_000]).unwrap();
    let error = SqliteStore::open(&other.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(error.to_string(), "the idempotency store was not reached");
}

/// The pool's connection is taken for longer than the store waits.
#[tokio::test]
async fn a_store_that_was_unavailable_works_again() {
    let folder = Folder::new();
    drop(folder.store().await);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_millis(50))
        .connect(&folder.url())
        .await
        .unwrap();
    let store = SqliteStore::new(pool.clone());
    let kept = finish(&store, response(10)).await;
    let taken = pool.acquire().await.unwrap();
    for claim in join_all((0..10).map(|_| store.claim(ask()))).await {
        assert_eq!(claim.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    drop(taken);
    assert_eq!(replay(&store, kept).await, response(10));
    finish(&store, response(10)).await;
}

/// What a runtime leaves behind that ends with verbs on their way.
#[test]
fn a_store_outlives_the_runtime_that_used_it_first() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = Folder::new();
    let first = runtime();
    let store = first.block_on(folder.store());
    let kept = first.block_on(finish(&store, response(10)));
    for _ in 0..20 {
        let dying = runtime();
        let spawned = store.clone();
        dying.spawn(async move {
            loop {
                join_all((0..32).map(|_| finish(&spawned, response(1000)))).await;
            }
        });
        dying.block_on(finish(&store, response(10)));
        dying.shutdown_background();
        let next = runtime();
        // One that was on its way with the last one may be told that it was lost.
        let survived = next.block_on(async {
            let claim = store.claim(again(kept)).await;
            if claim.is_ok() { claim } else { store.claim(again(kept)).await }
        });
        survived.unwrap();
    }
    first.block_on(async {
        assert_eq!(replay(&store, kept).await, response(10));
        // Nothing is locked, and nothing was left half done.
        finish(&folder.store().await, response(10)).await;
    });
}

const MIB: u64 = 1024 * 1024;

/// Writes so many MiB of responses without a pause, and says how large the log was at most.
async fn write(folder: &Folder, store: &SqliteStore, mib: u64) -> u64 {
    let client = async || {
        let mut most = 0;
        for _ in 0..mib / 4 {
            finish(store, response(64 * 1024)).await;
            most = most.max(fs::metadata(folder.log()).expect("a log").len() / MIB);
        }
        most
    };
    join_all((0..64).map(|_| client())).await.into_iter().max().unwrap_or(0)
}

fn size(folder: &Folder) -> u64 {
    fs::metadata(folder.file()).expect("a file").len() / MIB
}

/// Long before SQLite would do it within a commit.
#[tokio::test]
async fn the_log_is_moved_into_the_file_beside_the_writer() {
    let folder = Folder::new();
    let store = folder.store().await;
    assert!(write(&folder, &store, 30).await < 50, "else this says nothing");
    for _ in 0..3000 {
        if size(&folder) >= 10 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("a file of {} MiB", size(&folder));
}

#[tokio::test]
async fn the_log_stays_bounded() {
    let folder = Folder::new();
    let store = folder.store().await;
    let most = write(&folder, &store, 200).await;
    assert!(most < 100, "a log of {most} MiB");
    assert!(size(&folder) > 50, "a file of {} MiB", size(&folder));
}

/// What the application writes is nothing that the store counts.
#[tokio::test]
async fn the_log_of_the_application_stays_bounded_too() {
    let folder = Folder::new();
    let store = folder.store().await;
    store.pool().execute("CREATE TABLE faxes (pages BLOB NOT NULL)").await.unwrap();
    let mut most = 0;
    for _ in 0..120 {
        store.pool().execute("INSERT INTO faxes VALUES (randomblob(1048576))").await.unwrap();
        most = most.max(fs::metadata(folder.log()).expect("a log").len() / MIB);
    }
    assert!(most < 80, "a log of {most} MiB");
    assert!(size(&folder) > 50, "a file of {} MiB", size(&folder));
}
