//! A server that goes and comes back, and connections that end.

use std::time::Duration;

use idempotency_layer::{Claim, Store, StoreErrorKind};
use private_postgres::Postgres;
use sqlx::Executor;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::support::{WRITERS, ask, complete, cycle, fresh, number, rival, run, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_unavailable_and_found_again_when_it_is_back() {
    let server = spawn_blocking(Postgres::start).await.unwrap();
    let store = store(&server.fresh_database());
    store.migrate().await.unwrap();
    let (done, running) = (cycle(&store, 100).await, ask());
    let fence = run(&store, running).await.fence;

    let server = spawn_blocking(move || {
        server.kill();
        server
    });
    let server = server.await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.claim(rival(done)).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }

    let _server = spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    // Nothing that was acknowledged is lost.
    assert!(matches!(store.claim(rival(done)).await.unwrap(), Claim::Replay { .. }));
    assert!(matches!(store.claim(rival(running)).await.unwrap(), Claim::InFlight { .. }));
    assert_eq!(run(&store, running).await.fence, fence, "its own token");
    complete(&store, running, fence, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_ended_while_it_rested_costs_no_verb() {
    let store = store(&fresh().await);
    let request = cycle(&store, 10).await;
    assert_eq!(number(store.pool(), WRITERS).await, 1);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'idempotency-layer'";
    store.pool().execute(end).await.unwrap();
    until(store.pool(), WRITERS, |writers| writers == 0).await;
    // Longer than it takes the writer to ask a connection whether it is there.
    sleep(Duration::from_millis(1100)).await;
    assert!(matches!(store.claim(rival(request)).await.unwrap(), Claim::Replay { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_connection_ends_with_the_last_clone_and_is_made_by_the_first_verb() {
    let store = store(&fresh().await);
    let (pool, clone) = (store.pool().clone(), store.clone());
    assert_eq!(number(&pool, WRITERS).await, 0);
    cycle(&store, 10).await;
    drop(store);
    cycle(&clone, 10).await;
    assert_eq!(number(&pool, WRITERS).await, 1);
    drop(clone);
    until(&pool, WRITERS, |writers| writers == 0).await;
}
