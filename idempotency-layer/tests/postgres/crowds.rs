//! Many at once.

use std::time::Duration;

use futures_util::future::join_all;
use idempotency_layer::{Claim, ClaimRequest, Fenced, PostgresStore, Store};
use tokio::time::timeout;

use crate::support::{ask, complete, cycle, fresh, number, outcome, rival, run, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_cycles_at_once_all_end_well() {
    let store = store(&fresh().await);
    let cycle = |_| {
        let store = store.clone();
        tokio::spawn(async move { cycle(&store, 200).await })
    };
    for cycle in (0..10_000).map(cycle).collect::<Vec<_>>() {
        cycle.await.unwrap();
    }
    let complete = "SELECT count(*) FROM idempotency_records WHERE state = 2";
    assert_eq!(number(store.pool(), complete).await, 10_000);
}

/// Two processes ask for the same records, in every order: none waits for the other in a circle, and each record runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_of_several_processes_never_deadlock() {
    let url = fresh().await;
    let stores = [store(&url), store(&url), store(&url)];
    for round in 0..30 {
        let asked: Vec<ClaimRequest> = (0..200).map(|_| ask()).collect();
        let claims = |(at, store): (usize, &PostgresStore)| {
            let order = (0..asked.len()).map(|n| asked[(n * [1, 199, 7][at]) % asked.len()]);
            let claim = |request| {
                let store = store.clone();
                tokio::spawn(async move {
                    let Claim::Run(run) = store.claim(rival(request)).await.unwrap() else { return 0 };
                    // Every other one is given up, so that the others get it, and is completed by whoever has it then.
                    if round % 2 == 0 && run.attempt == 1 && request.record.as_bytes()[0] % 2 == 0 {
                        let _ = store.release(request.record, run.fence).await.unwrap();
                        return 0;
                    }
                    complete(&store, request, run.fence, 50).await;
                    1
                })
            };
            order.map(claim).collect::<Vec<_>>()
        };
        let claims: Vec<_> = stores.iter().enumerate().flat_map(claims).collect();
        let mut completed = 0;
        for claim in claims {
            completed += claim.await.unwrap();
        }
        assert!(completed <= asked.len(), "{completed} of {}", asked.len());
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(stores[0].pool(), deadlocks).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_response_comes_back_whole_and_does_not_hold_up_small_ones() {
    let store = store(&fresh().await);
    let large = join_all((0..8).map(|_| cycle(&store, 3 * 1024 * 1024)));
    let small = join_all((0..100).map(|_| cycle(&store, 10)));
    let (large, _) = tokio::join!(large, small);
    for request in large {
        let Claim::Replay { response, .. } = store.claim(rival(request)).await.unwrap() else { panic!() };
        assert!(response.as_bytes().len() == 3 * 1024 * 1024 && response.as_bytes().iter().all(|b| *b == 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_the_database_cannot_hold_is_refused_alone() {
    let store = store(&fresh().await);
    let (too_large, good) = (ask(), ask());
    let fences = [run(&store, too_large).await.fence, run(&store, good).await.fence];
    let (refused, held) = tokio::join!(
        store.complete(too_large.record, fences[0], outcome(256 * 1024 * 1024 + 1)),
        store.complete(good.record, fences[1], outcome(1))
    );
    assert_eq!(refused.unwrap_err().kind(), idempotency_layer::StoreErrorKind::Invalid);
    assert_eq!(held.unwrap(), Fenced::Held);
    complete(&store, too_large, fences[0], 10).await;
}

/// A store made outside of a runtime, used in one that ends, and in the next.
#[test]
fn it_outlives_a_runtime() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let store = {
        let _entered = first.enter();
        first.block_on(async { store(&fresh().await) })
    };
    let request = first.block_on(cycle(&store, 10));
    drop(first);
    let second = runtime();
    let replay =
        second.block_on(async { timeout(Duration::from_secs(10), store.claim(rival(request))).await });
    assert!(matches!(replay.unwrap().unwrap(), Claim::Replay { .. }));
}
