//! Rows that another transaction holds: a handler's, between its completion and the end of the commit.

use std::time::Duration;

use futures_util::future::join_all;
use idempotency_layer::{
    Claim, ClaimRequest, Fence, Fenced, PostgresStore, Purge, Run, Store, StoreErrorKind,
};
use sqlx::{Executor, PgPool, Postgres, Transaction, query};
use tokio::time::sleep;

use crate::support::{LONG, ask, complete, cycle, fresh, number, outcome, rival, run, store};

const SHORT: Duration = Duration::from_millis(50);

/// A handler's transaction that completed the record, or has it locked in another way, and does not end.
async fn hold(pool: &PgPool, request: ClaimRequest) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    let written = query("UPDATE idempotency_records SET state = 3 WHERE record = $1")
        .bind(*request.record.as_bytes())
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(written.rows_affected(), 1);
    transaction
}

async fn orphan(store: &PostgresStore) -> (ClaimRequest, Run) {
    let mut request = ask();
    request.lease = SHORT;
    let run = run(store, request).await;
    sleep(SHORT).await;
    (request, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_need_not_write_does_not_wait() {
    let store = store(&fresh().await);
    let request = ask();
    let fence = run(&store, request).await.fence;
    let held = hold(store.pool(), request).await;
    for _ in 0..20 {
        // Who had waited in vain would be told a millisecond.
        let claim = store.claim(rival(request)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { lease_left } if lease_left > LONG / 2), "{claim:?}");
        let stale = Fence(fence.0 + 1);
        assert_eq!(store.extend(request.record, stale, LONG).await.unwrap(), Fenced::Stale);
    }
    held.commit().await.unwrap();
    assert!(matches!(store.claim(rival(request)).await.unwrap(), Claim::Tombstone(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_holds_up_nobody_else() {
    let store = store(&fresh().await);
    let requests = [ask(), ask(), ask()];
    let mut verbs = Vec::new();
    let mut held = Vec::new();
    for (n, request) in requests.into_iter().enumerate() {
        let fence = run(&store, request).await.fence;
        held.push(hold(store.pool(), request).await);
        let store = store.clone();
        verbs.push(tokio::spawn(async move {
            match n {
                0 => store.extend(request.record, fence, LONG).await,
                1 => store.complete(request.record, fence, outcome(10)).await,
                _ => store.release(request.record, fence).await,
            }
        }));
    }
    for _ in 0..3 {
        join_all((0..10).map(|_| cycle(&store, 100))).await;
    }
    // They give up after a second.
    assert!(verbs.iter().all(|verb| !verb.is_finished()));
    // What the verbs get is what they would have got after it.
    for held in held {
        held.commit().await.unwrap();
    }
    let mut answers = Vec::new();
    for verb in verbs {
        answers.push(verb.await.unwrap().unwrap());
    }
    assert_eq!(answers, [Fenced::Stale, Fenced::Held, Fenced::Stale]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_is_being_completed_is_taken_over_only_if_that_fails() {
    let store = store(&fresh().await);
    for commits in [true, false] {
        let (request, first) = orphan(&store).await;
        let held = hold(store.pool(), request).await;
        let claim = tokio::spawn({
            let store = store.clone();
            async move { store.claim(rival(request)).await.unwrap() }
        });
        cycle(&store, 10).await;
        assert!(!claim.is_finished());
        if commits {
            held.commit().await.unwrap();
            assert!(matches!(claim.await.unwrap(), Claim::Tombstone(_)));
        } else {
            held.rollback().await.unwrap();
            let Claim::Run(heir) = claim.await.unwrap() else { panic!("no heir") };
            assert!(heir.orphan && heir.attempt == 2 && heir.fence > first.fence);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_stays_locked_is_in_flight_to_others_and_unavailable_to_its_owner() {
    let store = store(&fresh().await);
    let (request, first) = orphan(&store).await;
    let held = hold(store.pool(), request).await;
    let (other, own, extended) = tokio::join!(
        store.claim(rival(request)),
        store.claim(request),
        store.extend(request.record, first.fence, LONG)
    );
    assert!(matches!(other.unwrap(), Claim::InFlight { lease_left } if !lease_left.is_zero()));
    // It cannot be told to run, nor that somebody else does.
    assert_eq!(own.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(extended.unwrap_err().kind(), StoreErrorKind::Unavailable);
    drop(held);
    let again = run(&store, request).await;
    assert_eq!((again.fence, again.attempt, again.orphan), (first.fence, 1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_what_is_locked_and_waits_for_nothing() {
    let store = store(&fresh().await);
    let mut requests = Vec::new();
    for _ in 0..5 {
        let mut request = ask();
        (request.lease, request.ttl) = (SHORT, SHORT);
        run(&store, request).await;
        requests.push(request);
    }
    sleep(SHORT).await;
    let held = hold(store.pool(), requests[2]).await;
    assert_eq!(store.purge_expired(100).await.unwrap(), 4);
    held.rollback().await.unwrap();
    assert_eq!(store.purge_expired(100).await.unwrap(), 1);
    assert_eq!(number(store.pool(), "SELECT count(*) FROM idempotency_records").await, 0);
}

/// Nothing gets through: the verbs end all the same, and the store works as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_unavailable_in_bounded_time() {
    let store = store(&fresh().await);
    let (request, new) = (ask(), ask());
    let fence = run(&store, request).await.fence;
    let mut lock = store.pool().begin().await.unwrap();
    lock.execute("LOCK TABLE idempotency_records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (claimed, completed) =
        tokio::join!(store.claim(new), store.complete(request.record, fence, outcome(10)));
    assert_eq!(claimed.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(completed.unwrap_err().kind(), StoreErrorKind::Unavailable);
    lock.rollback().await.unwrap();
    run(&store, new).await;
    complete(&store, request, fence, 10).await;
}
