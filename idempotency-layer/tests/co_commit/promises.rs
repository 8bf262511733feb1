//! Cells of the tables of promises that no other test here shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempotency_layer::{Builder, CheckpointError, Idempotency, OnOrphan, Reconciled};
use sqlx::{Postgres, query_scalar};
use tower::util::BoxCloneSyncService;
use tower::{Layer, service_fn};

use crate::database::Bench;
use crate::rig::{self, Body, Count, Gate, Rig, leave_during, post, send, start};

on_both! {
    a_panic_in_a_claim_that_is_a_transaction_leaves_nothing_under_any_policy
    a_checkpoint_in_a_claim_that_is_a_transaction_is_an_error
    an_outside_call_of_a_claim_in_the_transaction_that_died_is_not_noticed
}

async fn a_panic_in_a_claim_that_is_a_transaction_leaves_nothing_under_any_policy<DB: Bench>() {
    for policy in [OnOrphan::Rerun, OnOrphan::Halt] {
        let rig = Rig::<DB>::with(|builder| builder.claim_in_transaction().on_orphan(policy)).await;
        let service = rig.serve(&Count::default(), |run, co_commit| async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            assert!(run > 1, "run {run} broke");
            rig::answer(201, run)
        });
        assert!(start(&service, post("key")).await.unwrap_err().is_panic());
        assert_eq!((rig.rows().await.len(), rig.records().await), (0, 0));
        assert_eq!(send(&service, post("key")).await.text, "run 2");
        assert_eq!(rig.rows().await, ["run 2"]);
    }
}

async fn a_checkpoint_in_a_claim_that_is_a_transaction_is_an_error<DB: Bench>() {
    let rig = Rig::<DB>::with(Builder::claim_in_transaction).await;
    let service = service_fn(|request: http::Request<Body>| async move {
        let idempotency = request.extensions().get::<Idempotency>().unwrap();
        let refused = idempotency.checkpoint("charged", "").await;
        assert!(matches!(refused, Err(CheckpointError::Store(_))), "{refused:?}");
        Ok::<_, std::convert::Infallible>(rig::answer(201, 1))
    });
    let service = BoxCloneSyncService::new(rig.layer.layer(service));
    assert_eq!(send(&service, post("key")).await.status, 201);
    assert!(send(&service, post("key")).await.replay);
}

/// A run is dropped as the end of its process drops it: its connection is closed, and nothing else is done.
async fn an_outside_call_of_a_claim_in_the_transaction_that_died_is_not_noticed<DB: Bench>() {
    let (asked, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let policy = OnOrphan::reconcile(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Reconciled::Rerun }
    });
    let rig = Rig::<DB>::with(|builder| {
        builder.claim_in_transaction().max_detached(0).on_orphan(policy).wait(Duration::from_secs(10))
    })
    .await;
    let (runs, outside) = (Count::default(), calls.clone());
    let service = rig.serve(&runs, move |run, _| {
        let outside = outside.clone();
        async move {
            outside.fetch_add(1, Ordering::Relaxed);
            if run == 1 {
                std::future::pending::<()>().await;
            }
            rig::answer(201, run)
        }
    });
    leave_during(&service, post("key"), &runs).await;
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!((asked.load(Ordering::Relaxed), calls.load(Ordering::Relaxed)), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_handler_with_a_leased_claim_holds_a_connection_from_its_begin() {
    const HELD: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'idle in transaction'";
    let (rig, runs, begun) = (Rig::<Postgres>::new().await, Count::default(), Count::default());
    let (before, after) = (Gate::closed(), Gate::closed());
    let (to_begin, counted, to_answer) = (before.clone(), begun.clone(), after.clone());
    let service = rig.serve(&runs, move |run, co_commit| {
        let (to_begin, counted, to_answer) = (to_begin.clone(), counted.clone(), to_answer.clone());
        async move {
            to_begin.pass().await;
            let transaction = co_commit.begin().await.unwrap();
            counted.one();
            to_answer.pass().await;
            drop(transaction);
            rig::answer(201, run)
        }
    });
    let clients: Vec<_> = (0..8).map(|n| start(&service, post(&format!("key-{n}")))).collect();
    let mut beside = Postgres::beside(&rig.pool).await;
    runs.reaches(8).await;
    assert_eq!(query_scalar::<_, i64>(HELD).fetch_one(&mut beside).await.unwrap(), 0);
    before.open();
    begun.reaches(8).await;
    assert_eq!(query_scalar::<_, i64>(HELD).fetch_one(&mut beside).await.unwrap(), 8);
    after.open();
    for client in clients {
        assert_eq!(client.await.unwrap().status, 201);
    }
    Postgres::nobody_is_in_a_transaction(&mut beside).await;
}
