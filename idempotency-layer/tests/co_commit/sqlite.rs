//! What only SQLite can do: end a transaction by itself, and have one writer.

use std::time::Duration;

use idempotency_layer::RejectionKind;
use sqlx::{Executor, Sqlite};
use tokio::time::timeout;

use crate::database::Bench;
use crate::rig::{self, Count, Gate, Rig, post, post_without_key, send};

/// What SQLite does when it has no space left: the whole transaction is gone, and the connection goes on outside of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_database_ended_is_not_completed_outside_of_it() {
    for request in [post("key"), post_without_key()] {
        let (rig, runs) = (Rig::<Sqlite>::new().await, Count::default());
        let service = rig.serve(&runs, |run, co_commit| async move {
            let mut transaction = co_commit.begin().await.unwrap();
            Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            if run == 1 {
                transaction.execute("ROLLBACK").await.unwrap();
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

/// The same where nobody is left to roll it back: the writer is not lost with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_such_a_transaction_leaves_a_writer_that_writes() {
    let (rig, runs) = (Rig::<Sqlite>::new().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
        if run == 1 {
            transaction.execute("ROLLBACK").await.unwrap();
            assert!(run > 1, "run {run} broke");
        }
        rig::answer(201, run)
    });
    let first = service.clone();
    assert!(
        tokio::spawn(async move { send(&first, post_without_key()).await }).await.unwrap_err().is_panic()
    );
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_handler_writes_waits_and_is_not_refused() {
    let (rig, runs, gate) = (Rig::<Sqlite>::new().await, Count::default(), Gate::closed());
    let door = gate.clone();
    let service = rig.serve(&runs, move |run, co_commit| {
        let door = door.clone();
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            if run == 1 {
                door.pass().await;
            }
            rig::answer(201, run)
        }
    });
    let clients = (0..32).map(|n| {
        let service = service.clone();
        tokio::spawn(async move { send(&service, post(&format!("key-{n}"))).await })
    });
    let clients: Vec<_> = clients.collect();
    runs.reaches(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap().status, 201);
    }
    assert_eq!(rig.rows().await.len(), 32);
}

/// The BEGIN goes on in SQLite's thread after the handler gave it up, and must not leave the writer inside a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_times_out_behind_another_process_leaves_a_writer_that_writes() {
    for begins_again in [false, true] {
        let (rig, runs, given_up) = (Rig::<Sqlite>::new().await, Count::default(), Gate::closed());
        let door = given_up.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let given_up = door.clone();
            async move {
                let begun = timeout(Duration::from_millis(20), co_commit.begin()).await;
                assert!(begun.is_err(), "another process holds the write lock");
                given_up.open();
                if begins_again {
                    Sqlite::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
                }
                rig::answer(201, run)
            }
        });
        let mut another_process = Sqlite::beside(&rig.pool).await;
        another_process.execute("BEGIN IMMEDIATE").await.unwrap();
        let (answer, ()) = tokio::join!(send(&service, post_without_key()), async {
            given_up.pass().await;
            another_process.execute("COMMIT").await.unwrap();
        });
        assert_eq!(answer.status, 201);
        assert_eq!(rig.rows().await.len(), usize::from(begins_again));
        rig.writes_are_visible("autocommit").await;
    }
}
