//! What a claim in the transaction sends to PostgreSQL, and which of it the answer waits for.

use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{Checkpoint, Claim, Fenced, Fingerprint, PostgresStore, Store};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use super::raw::{InTransaction, ask, claim, rival};
use crate::database::Bench;
use crate::proxy::{before, claims_behind_proxy, store_behind_proxy};
use crate::rig::{self, Count, post, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_two_round_trips_and_no_commit_more_than_its_handler() {
    // One connection: a second one would prepare its statements first.
    let ((), _, direct) = Postgres::open().await;
    let (proxy, options) = before(&direct).await;
    let pool = PgPoolOptions::new().test_before_acquire(false).max_connections(1).connect_with(options);
    let pool = pool.await.unwrap();
    let layer = rig::builder(PostgresStore::new(pool.clone())).claim_in_transaction().build();
    let runs = Count::default();
    let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(if run == 6 { 422 } else { 201 }, run)
    });
    // The first ones prepare their statements.
    for n in 0..4 {
        assert_eq!(send(&service, post(&format!("first-{n}"))).await.status, 201);
    }
    proxy.take_counts();
    proxy.take_commits();
    assert_eq!(send(&service, post("key")).await.status, 201);
    // BEGIN, the read; the handler's row; the completion, COMMIT. Its own transaction takes BEGIN, the row and COMMIT.
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((3 + 2, 3 + 2), 1));
    assert!(send(&service, post("key")).await.replay);
    // BEGIN, the read, ROLLBACK. The last one is over when the connection is back.
    pool.acquire().await.unwrap();
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((3, 3), 0));
    // A rollback to the savepoint comes in.
    assert_eq!(send(&service, post("refused")).await.status, 422);
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((6, 6), 1));
}

/// Otherwise the client's next try could meet its own lock.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_that_is_not_stored_waits_for_its_rollback() {
    let (proxy, _, layer) = claims_behind_proxy().await;
    let service = rig::serve::<Postgres, _, _, _>(&layer, &Count::default(), |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(503, run)
    });
    let mut held = proxy.hold("ROLLBACK");
    let answer = tokio::spawn(async move { send(&service, post("key")).await });
    held.arrives().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.is_finished());
    drop(held);
    assert_eq!(answer.await.unwrap().status, 503);
}

/// A completed record is replayed whether its lock is held or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_wait_for_its_rollback() {
    let (proxy, direct, layer) = claims_behind_proxy().await;
    let service = rig::serve::<Postgres, _, _, _>(&layer, &Count::default(), |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 201);
    for _ in 0..10 {
        let mut held = proxy.hold("ROLLBACK");
        let replay = timeout(Duration::from_secs(5), send(&service, post("key")));
        assert!(replay.await.expect("the replay does not wait").replay);
        held.arrives().await;
        // Beside the transaction that is still open.
        assert!(send(&service, post("key")).await.replay);
        drop(held);
    }
    Postgres::nobody_is_in_a_transaction(&mut Postgres::beside(&direct).await).await;
}

/// Otherwise the right request could meet the lock of the wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_of_a_record_that_can_run_waits_for_its_rollback() {
    let (proxy, direct, store) = store_behind_proxy().await;
    let other = Postgres::open_again(&direct).await;
    let request = ask();
    let Claim::Run(run) = other.claim(request).await.unwrap() else { panic!("it is new") };
    let kept = Checkpoint::new("charged".to_owned(), Bytes::new());
    assert_eq!(other.checkpoint(request.record, run.fence, kept).await.unwrap(), Fenced::Held);
    assert_eq!(other.release(request.record, run.fence).await.unwrap(), Fenced::Held);

    let mut wrong = rival(request);
    let mut bytes = request.fingerprint.to_bytes();
    bytes[Fingerprint::LEN - 1] ^= 1;
    wrong.fingerprint = Fingerprint::from_bytes(bytes);
    let mut held = proxy.hold("ROLLBACK");
    let asking =
        tokio::spawn(async move { claim::<Postgres>(&store, wrong).await.map(|claimed| claimed.run) });
    held.arrives().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asking.is_finished());
    drop(held);
    let asked = asking.await.unwrap();
    assert!(matches!(asked, Err(Claim::Mismatch)), "{asked:?}");
    InTransaction::<Postgres>::begin(&other, rival(request)).await;
}
