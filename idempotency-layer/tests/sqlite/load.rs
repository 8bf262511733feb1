//! Many verbs at once, and others who write to the same file.

use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, Fence, Fenced, Fingerprint, Outcome, SqliteStore, Store, StoreErrorKind,
    Tombstone,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::time::sleep;

use crate::support::{Folder, again, ask, complete, finish, replay, response, run};

#[tokio::test]
async fn verbs_that_come_at_once_share_their_commits() {
    let folder = Folder::new();
    let store = folder.store().await;
    finish(&store, response(10)).await;
    let before = folder.commits();

    let asked: Vec<ClaimRequest> = (0..500).map(|_| ask()).collect();
    let runs = join_all(asked.iter().map(|ask| run(&store, *ask))).await;
    let claimed = folder.commits() - before;
    assert!((1..=10).contains(&claimed), "500 claims took {claimed} commits");

    let completions =
        asked.iter().zip(&runs).map(|(ask, run)| complete(&store, *ask, run.fence, response(1000)));
    join_all(completions).await;
    let completed = folder.commits() - before - claimed;
    assert!((1..=10).contains(&completed), "500 completions took {completed} commits");
}

#[tokio::test]
async fn a_claim_and_a_completion_are_one_commit_each_and_a_replay_is_none() {
    let folder = Folder::new();
    let store = folder.store().await;
    let (ask, before) = (ask(), folder.commits());
    let fence = run(&store, ask).await.fence;
    assert_eq!(folder.commits(), before + 1);
    complete(&store, ask, fence, response(1000)).await;
    assert_eq!(folder.commits(), before + 2);
    replay(&store, ask).await;
    let mut mismatch = ask;
    mismatch.fingerprint = other();
    assert!(matches!(store.claim(mismatch).await, Ok(Claim::Mismatch)));
    assert_eq!(store.release(ask.record, Fence(7)).await.unwrap(), Fenced::Stale);
    assert_eq!(folder.commits(), before + 2, "nothing was written");
}

fn other() -> Fingerprint {
    let mut bytes = [2; Fingerprint::LEN];
    bytes[0] = 1;
    Fingerprint::from_bytes(bytes)
}

#[tokio::test]
async fn a_batch_of_every_verb_is_one_commit() {
    let folder = Folder::new();
    let store = folder.store().await;
    let asked: Vec<ClaimRequest> = (0..80).map(|_| ask()).collect();
    let runs = join_all(asked.iter().map(|ask| run(&store, *ask))).await;
    // The first verb goes alone, and the others come while it is on its way.
    let before = folder.commits();
    let verbs = asked.iter().zip(&runs).enumerate().map(|(n, (ask, run))| {
        let (store, record, fence) = (&store, ask.record, run.fence);
        let name = format!("step \0 {n}");
        async move {
            match n % 5 {
                0 => store.complete(record, fence, Outcome::Response(response(n))).await,
                1 => store.complete(record, fence, Outcome::Tombstone(Tombstone::Unknown)).await,
                2 => store.release(record, fence).await,
                3 => store.extend(record, fence, Duration::from_hours(2)).await,
                _ => {
                    store
                        .checkpoint(record, fence, Checkpoint::new(name, response(n).as_bytes().clone()))
                        .await
                }
            }
        }
    });
    let claims = (0..20).map(|_| run(&store, ask()));
    let (fenced, _) = tokio::join!(join_all(verbs), join_all(claims));
    assert!(fenced.into_iter().all(|fenced| fenced.unwrap() == Fenced::Held));
    let commits = folder.commits() - before;
    assert!(commits <= 5, "100 verbs took {commits} commits");

    for (n, (ask, run)) in asked.iter().zip(&runs).enumerate() {
        let claim = store.claim(again(*ask)).await.unwrap();
        let good = match (n % 5, &claim) {
            (0, Claim::Replay { response: replay, .. }) => *replay == response(n),
            (2, Claim::Run(next)) => next.attempt == 1 && next.fence > run.fence,
            (3, Claim::InFlight { lease_left }) => *lease_left > ask.lease,
            (1, Claim::Tombstone(Tombstone::Unknown)) | (4, Claim::InFlight { .. }) => true,
            _ => false,
        };
        assert!(good, "{n}: {claim:?}");
        if n % 5 == 4 {
            assert_eq!(store.release(ask.record, run.fence).await.unwrap(), Fenced::Held);
            let Claim::Run(next) = store.claim(again(*ask)).await.unwrap() else { panic!("not released") };
            let kept = next.checkpoint.expect("a checkpoint");
            assert_eq!((kept.name, kept.data), (format!("step \0 {n}"), response(n).as_bytes().clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_at_once_are_all_answered() {
    let folder = Folder::new();
    let store = folder.store().await;
    let lives = (0..10_000_usize).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let ask = finish(&store, response(n % 700)).await;
            assert_eq!(replay(&store, ask).await, response(n % 700));
        })
    });
    for life in join_all(lives).await {
        life.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_busy_processes_and_a_third_that_holds_the_lock_for_a_second_are_no_error() {
    let folder = Folder::new();
    let stores = [folder.store().await, folder.store().await];
    let clients = stores.iter().flat_map(|store| (0..16).map(move |_| store.clone())).map(|store| {
        tokio::spawn(async move {
            for n in 0..40 {
                let ask = finish(&store, response(n)).await;
                assert_eq!(replay(&store, ask).await, response(n));
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut third = SqliteConnection::connect(&folder.url()).await.unwrap();
    while third.execute("BEGIN IMMEDIATE; DELETE FROM idempotency_records WHERE id < 0").await.is_err() {}
    sleep(Duration::from_secs(1)).await;
    third.execute("COMMIT").await.unwrap();
    for client in clients {
        client.await.unwrap();
    }
}

/// SQLite itself gives up at once here; alone and in batches.
#[tokio::test]
async fn a_lock_of_another_process_is_waited_for_beyond_the_patience_of_sqlite() {
    let folder = Folder::new();
    drop(folder.store().await);
    let options =
        SqliteConnectOptions::from_str(&folder.url()).unwrap().busy_timeout(Duration::from_millis(1));
    let store = SqliteStore::new(SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options));
    let mut other = SqliteConnection::connect(&folder.url()).await.unwrap();
    for verbs in [1, 50] {
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        let mut lives = tokio::spawn({
            let store = store.clone();
            async move { join_all((0..verbs).map(|_| finish(&store, response(10)))).await }
        });
        let early = tokio::time::timeout(Duration::from_millis(300), &mut lives).await;
        assert!(early.is_err(), "written under another one's lock, or given up");
        other.execute("COMMIT").await.unwrap();
        lives.await.unwrap();
    }
}

/// On one record, by two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_processes_one_gets_each_record() {
    let folder = Folder::new();
    let stores = [folder.store().await, folder.store().await];
    for _ in 0..50 {
        let asked: Vec<ClaimRequest> = (0..20).map(|_| ask()).collect();
        let claims = |store: usize| {
            let (store, asked) = (stores[store].clone(), asked.clone());
            tokio::spawn(async move { join_all(asked.iter().map(|ask| store.claim(again(*ask)))).await })
        };
        let (here, there) = (claims(0), claims(1));
        for (here, there) in here.await.unwrap().into_iter().zip(there.await.unwrap()) {
            let runs = [here, there].into_iter().filter(|claim| matches!(claim, Ok(Claim::Run(_)))).count();
            assert_eq!(runs, 1);
        }
    }
}

#[tokio::test]
async fn the_application_and_the_store_take_turns() {
    let store = SqliteStore::open("sqlite::memory:").await.unwrap();
    store.pool().execute("CREATE TABLE payments (amount INTEGER NOT NULL)").await.unwrap();
    let load = (0..200).map(|_| finish(&store, response(100)));
    let payments = (0..50).map(|amount| {
        let store = &store;
        async move {
            let mut transaction = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
            sqlx::query("INSERT INTO payments VALUES ($1)")
                .bind(amount)
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
    });
    tokio::join!(join_all(load), join_all(payments));
    let paid: i64 =
        sqlx::query_scalar("SELECT count(*) FROM payments").fetch_one(store.pool()).await.unwrap();
    assert_eq!(paid, 50);
}

#[tokio::test]
async fn what_is_too_large_for_one_batch_is_written_all_the_same() {
    let folder = Folder::new();
    let store = folder.store().await;
    let sizes = [0, 1, 4095, 4096, 1 << 20, 5 << 20, 1 << 20, 3 << 20];
    let asked = join_all(sizes.map(|size| finish(&store, response(size)))).await;
    for (ask, size) in asked.into_iter().zip(sizes) {
        assert!(replay(&store, ask).await == response(size), "{size} bytes");
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_spares_who_still_fits() {
    let folder = Folder::new();
    let store = folder.store().await;
    let claims = join_all((0..8).map(|_| async {
        let ask = ask();
        (ask, run(&store, ask).await.fence)
    }));
    let claims = claims.await;
    store.pool().execute("PRAGMA max_page_count = 40").await.unwrap();
    let completions = claims.iter().enumerate().map(|(n, (ask, fence))| {
        let size = if n == 3 { 1_000_000 } else { 10 };
        store.complete(ask.record, *fence, Outcome::Response(response(size)))
    });
    for (n, fenced) in join_all(completions).await.into_iter().enumerate() {
        match fenced {
            Ok(fenced) => assert!(n != 3 && fenced == Fenced::Held, "{n}"),
            Err(error) => assert!(n == 3 && error.kind() == StoreErrorKind::Full, "{n}: {error:?}"),
        }
    }
    let (ask, fence) = claims[3];
    assert!(matches!(store.claim(again(ask)).await, Ok(Claim::InFlight { .. })), "nothing was written");
    store.pool().execute("PRAGMA max_page_count = 100000").await.unwrap();
    complete(&store, ask, fence, response(1_000_000)).await;
}
