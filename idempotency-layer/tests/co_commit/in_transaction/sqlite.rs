//! What only SQLite has: one writer, and transactions that end by themselves.

use std::time::Duration;

use idempotency_layer::{Builder, CoCommit, RejectionKind};
use sqlx::{Executor, Sqlite};

use super::raw::{InTransaction, ask, claim, is_in_flight, rival};
use crate::database::Bench;
use crate::rig::{self, Count, Gate, Rig, now, post, send};

async fn rig() -> Rig<Sqlite> {
    Rig::with(Builder::claim_in_transaction).await
}

/// Lets a transaction end by itself in the middle of a handler.
async fn ends_by_itself(co_commit: &CoCommit<Sqlite>, how: &'static str) {
    let mut transaction = co_commit.begin().await.unwrap();
    if how == "FULL" {
        transaction.execute("PRAGMA max_page_count = 1").await.unwrap();
        let error = transaction.execute("INSERT INTO rows (row) VALUES (hex(zeroblob(10000000)))").await;
        transaction.execute("PRAGMA max_page_count = 1000000").await.unwrap();
        let error = error.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "13", "{error:?}");
    } else {
        Sqlite::insert(&mut transaction, "twice").await.unwrap();
        transaction.execute("INSERT OR ROLLBACK INTO rows (row) VALUES ('twice')").await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_the_database_ended_the_transaction_is_not_there() {
    for how in ["FULL", "OR ROLLBACK"] {
        for writes_on in [false, true] {
            let (rig, runs) = (rig().await, Count::default());
            let service = rig.serve(&runs, move |run, co_commit| async move {
                if run == 1 {
                    ends_by_itself(&co_commit, how).await;
                }
                let mut transaction = co_commit.begin().await.unwrap();
                if run > 1 || writes_on {
                    let written = Sqlite::insert(&mut transaction, &format!("run {run}")).await;
                    assert!(written.is_ok() == (run > 1), "{written:?}");
                }
                rig::answer(201, run)
            });
            let answer = send(&service, post("key")).await;
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)), "{how}");
            assert_eq!((rig.rows().await.len(), rig.records().await), (0, 0), "{how}");
            assert_eq!(send(&service, post("key")).await.text, "run 2");
            assert_eq!(rig.rows().await, ["run 2"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_the_handler_is_a_rollback() {
    let (rig, runs) = (rig().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
        if run == 1 {
            transaction.execute("COMMIT").await.unwrap_err();
        }
        rig::answer(201, run)
    });
    let answer = send(&service, post("key")).await;
    assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

/// In this process, and in another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_a_409_beside_a_running_handler_wait_for_nobody() {
    let (rig, runs, gate) = (rig().await, Count::default(), Gate::closed());
    let door = gate.clone();
    let handler = move |run, co_commit: CoCommit<Sqlite>| {
        let door = door.clone();
        async move {
            Sqlite::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            if run == 2 {
                door.pass().await;
            }
            rig::answer(201, run)
        }
    };
    let other = rig.another(Builder::claim_in_transaction).await;
    let other = rig::serve::<Sqlite, _, _, _>(&other, &runs, handler.clone());
    let service = rig.serve(&runs, handler);
    assert_eq!(send(&service, post("done")).await.status, 201);
    let running = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("running")).await }
    });
    runs.reaches(2).await;
    // On a busy machine one may be late: the quickest of some says what is waited for.
    let (mut replay, mut other_replay, mut refusal) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        for (service, key, quickest) in [
            (&service, "done", &mut replay),
            (&other, "done", &mut other_replay),
            (&service, "running", &mut refusal),
        ] {
            let begun = now();
            let answer = send(service, post(key)).await;
            *quickest = begun.elapsed().min(*quickest);
            let in_progress = answer.kind == Some(RejectionKind::InProgress);
            assert!(answer.replay && key == "done" || in_progress && key == "running", "{answer:?}");
        }
    }
    assert!(replay.max(other_replay).max(refusal) < Duration::from_millis(50));
    gate.open();
    assert_eq!(running.await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_runs_in_another_process_is_not_run_beside_it() {
    let (_place, store, pool) = Sqlite::open().await;
    let other = Sqlite::open_again(&pool).await;
    for n in 0..10 {
        let request = ask();
        let mut transaction = InTransaction::<Sqlite>::begin(&store, request).await;
        transaction.write(&format!("row {n}")).await;
        let waiting = tokio::spawn({
            let other = other.clone();
            async move { claim::<Sqlite>(&other, rival(request)).await.map(|claimed| claimed.run) }
        });
        assert!(is_in_flight(&claim::<Sqlite>(&store, rival(request)).await));
        transaction.complete("done").await;
        let replay = waiting.await.unwrap();
        assert!(matches!(replay, Err(idempotency_layer::Claim::Replay { .. })), "{replay:?}");
    }
    assert_eq!(Sqlite::rows(&pool).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_a_slow_transaction_beside_it() {
    let (lease, slow) = (Duration::from_secs(2), Duration::from_millis(900));
    let (rig, runs) = (Rig::<Sqlite>::with(|builder| builder.lease(lease)).await, Count::default());
    let leased = rig.serve(&runs, move |run, co_commit| async move {
        tokio::time::sleep(3 * lease / 2).await;
        Sqlite::insert(&mut *co_commit.begin().await.unwrap(), &format!("leased {run}")).await.unwrap();
        rig::answer(201, run)
    });
    let in_transaction = idempotency_layer::IdempotencyLayer::clone(
        &rig.another(|builder| builder.claim_in_transaction().transaction_time(lease / 2)).await,
    );
    let others = Count::default();
    let slowly = rig::serve::<Sqlite, _, _, _>(&in_transaction, &others, move |run, co_commit| async move {
        Sqlite::insert(&mut *co_commit.begin().await.unwrap(), &format!("slow {run}")).await.unwrap();
        tokio::time::sleep(slow).await;
        rig::answer(201, run)
    });
    let first = tokio::spawn({
        let leased = leased.clone();
        async move { send(&leased, post("leased")).await }
    });
    runs.reaches(1).await;
    for n in 0..3 {
        assert_eq!(send(&slowly, post(&format!("slow-{n}"))).await.status, 201);
        let retry = send(&leased, post("leased")).await;
        assert!(retry.kind == Some(RejectionKind::InProgress) || retry.replay, "{retry:?}");
    }
    assert_eq!(first.await.unwrap().text, "run 1");
    assert_eq!(runs.get(), 1);
}
