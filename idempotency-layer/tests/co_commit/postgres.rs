//! What only PostgreSQL can do: abort a transaction in its middle.

use idempotency_layer::RejectionKind;
use sqlx::{Executor, Postgres};

use crate::database::Bench;
use crate::proxy::behind_proxy;
use crate::rig::{self, Count, Rig, post, post_without_key, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_goes_on_after_a_failed_statement_is_no_success() {
    for request in [post("key"), post_without_key()] {
        let (rig, runs) = (Rig::<Postgres>::new().await, Count::default());
        let service = rig.serve(&runs, |run, co_commit| async move {
            let mut transaction = co_commit.begin().await.unwrap();
            Postgres::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            if run == 1 {
                transaction.execute("SELECT 1 / 0").await.unwrap_err();
            }
            rig::answer(201, run)
        });
        let answer = send(&service, request).await;
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
        assert!(rig.rows().await.is_empty());
        assert_eq!(send(&service, post("key")).await.text, "run 2");
        assert_eq!(rig.rows().await, ["run 2"]);
    }
}

/// What co-commit costs beside the same handler with a transaction of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_two_statements_and_one_commit_more_than_its_handler() {
    let (proxy, _, layer) = behind_proxy().await;
    let runs = Count::default();
    let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(201, run)
    });
    // The first ones prepare their statements on each connection.
    for n in 0..4 {
        assert_eq!(send(&service, post(&format!("first-{n}"))).await.status, 201);
    }
    proxy.take_counts();
    assert_eq!(send(&service, post("key")).await.status, 201);
    // The claim; BEGIN, the handler's row, the completion, COMMIT.
    assert_eq!(proxy.take_counts().0, 1 + 4);
    assert!(send(&service, post("key")).await.replay);
    assert_eq!(proxy.take_counts().0, 1);
    assert_eq!(send(&service, post_without_key()).await.status, 201);
    // BEGIN, the row, whether it can be committed, COMMIT.
    assert_eq!(proxy.take_counts().0, 4);
}
