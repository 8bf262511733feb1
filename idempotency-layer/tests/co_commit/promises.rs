//! What the table of promises says of claims in the transaction, and no other test here shows.

use idempotency_layer::{Builder, CheckpointError, Idempotency, OnOrphan};
use tower::util::BoxCloneSyncService;
use tower::{Layer, service_fn};

use crate::database::Bench;
use crate::rig::{self, Body, Count, Rig, post, send};

on_both! {
    a_panic_in_a_claim_that_is_a_transaction_leaves_nothing_under_any_policy
    a_checkpoint_in_a_claim_that_is_a_transaction_is_an_error
}

async fn a_panic_in_a_claim_that_is_a_transaction_leaves_nothing_under_any_policy<DB: Bench>() {
    for policy in [OnOrphan::Rerun, OnOrphan::Halt] {
        let rig = Rig::<DB>::with(|builder| builder.claim_in_transaction().on_orphan(policy)).await;
        let service = rig.serve(&Count::default(), |run, co_commit| async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            assert!(run > 1, "run {run} broke");
            rig::answer(201, run)
        });
        let first = service.clone();
        let broken = tokio::spawn(async move { send(&first, post("key")).await });
        assert!(broken.await.unwrap_err().is_panic());
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
