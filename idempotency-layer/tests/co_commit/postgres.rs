//! What only PostgreSQL can do: abort a transaction in its middle, and lose the answer to a COMMIT on the network.

use idempotency_layer::{IdempotencyLayer, PostgresStore, RejectionKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgPool, Postgres};

use crate::database::Bench;
use crate::proxy::{Cut, Proxy};
use crate::rig::{self, Count, Rig, builder, post, post_without_key, send};

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

/// A layer whose every connection goes through a proxy.
async fn behind_proxy() -> (Proxy, PgPool, IdempotencyLayer<PostgresStore>) {
    let ((), _, direct) = Postgres::open().await;
    let server = direct.connect_options();
    let proxy = Proxy::before(server.get_port()).await;
    let options: PgConnectOptions = (*server).clone().host("127.0.0.1").port(proxy.port());
    let pool = PgPoolOptions::new().test_before_acquire(false).connect_with(options).await.unwrap();
    (proxy, direct, builder(PostgresStore::new(pool)).build())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_answer_to_a_commit_is_lost_the_record_tells_whether_it_was_one() {
    for round in 0..10 {
        let cut = if round % 2 == 0 { Cut::After } else { Cut::Before };
        let (proxy, direct, layer) = behind_proxy().await;
        let runs = Count::default();
        let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
            Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            rig::answer(201, run)
        });
        proxy.cut_next_commit(cut);
        let answer = send(&service, post("key")).await;
        assert!(proxy.has_cut());
        match cut {
            Cut::After => assert_eq!((answer.status, &*answer.text), (201, "run 1")),
            Cut::Before => assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack))),
        }
        let retry = send(&service, post("key")).await;
        let run = if cut == Cut::After { "run 1" } else { "run 2" };
        assert_eq!((&*retry.text, retry.replay), (run, cut == Cut::After));
        assert_eq!(Postgres::rows(&direct).await, [run]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nobody_can_be_asked_and_the_answer_says_so() {
    for (cut, rows) in [(Cut::After, 1), (Cut::Before, 0)] {
        let (proxy, direct, layer) = behind_proxy().await;
        let runs = Count::default();
        let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
            Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            rig::answer(201, run)
        });
        proxy.cut_next_commit(cut);
        let answer = send(&service, post_without_key()).await;
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::CommitUnknown)));
        // What was sent is carried out, sooner or later.
        let mut tries = 0;
        while Postgres::rows(&direct).await.len() != rows {
            tries += 1;
            assert!(tries < 1000, "{cut:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
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
