//! Claims that are the handler's transaction. `co_commit.rs` has the scenarios of both ways to claim.

#[path = "in_transaction/crash.rs"]
mod crash;
#[path = "in_transaction/mixed.rs"]
mod mixed;
#[path = "in_transaction/postgres.rs"]
mod postgres;
#[path = "in_transaction/raw.rs"]
pub(crate) mod raw;
#[path = "in_transaction/round_trips.rs"]
mod round_trips;
#[path = "in_transaction/shared_commits.rs"]
mod shared_commits;
#[path = "in_transaction/sqlite.rs"]
mod sqlite;

use std::time::Duration;

use idempotency_layer::{Builder, CoCommit, CoCommitError, OnDisconnect, RejectionKind};

use crate::database::Bench;
use crate::rig::{self, Count, Gate, Rig, leave_during, post, post_without_key, send, start};

#[cfg(feature = "layered")]
mod layered {
    use super::behind_a_memory_the_promises_are_the_same;

    on_both! {
        behind_a_memory_the_promises_are_the_same
    }
}

on_both! {
    a_stored_refusal_is_stored_alone_unless_the_handler_keeps_its_rows
    what_is_not_stored_leaves_nothing_and_the_retry_runs_at_once
    a_handler_that_gives_up_its_rows_keeps_the_claim
    a_savepoint_that_is_left_open_rolls_back_before_it_is_answered
    a_handler_that_takes_too_long_is_rolled_back_before_it_is_answered
    a_rollback_beside_the_end_of_its_request_does_not_open_the_transaction_again
    a_client_that_leaves_under_cancel_leaves_nothing
    beyond_the_bound_a_client_that_leaves_takes_its_handler_along
    without_a_key_nothing_is_begun_before_it_is_asked_for
}

async fn rig<DB: Bench>() -> Rig<DB> {
    Rig::with(Builder::claim_in_transaction).await
}

async fn a_stored_refusal_is_stored_alone_unless_the_handler_keeps_its_rows<DB: Bench>() {
    for keeps in [false, true] {
        let (rig, runs) = (rig::<DB>().await, Count::default());
        let service = rig.serve(&runs, move |run, co_commit| async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
            if keeps {
                co_commit.keep_on_error();
            }
            rig::answer(409, run)
        });
        for replay in [false, true] {
            let answer = send(&service, post("key")).await;
            assert_eq!((answer.status, answer.replay), (409, replay), "{answer:?}");
        }
        assert_eq!((rig.rows().await.len(), rig.records().await), (usize::from(keeps), 1));
    }
}

async fn what_is_not_stored_leaves_nothing_and_the_retry_runs_at_once<DB: Bench>() {
    let (rig, runs) = (rig::<DB>().await, Count::default());
    let service = rig.writing(&runs, 503);
    for run in 1..=20 {
        let answer = send(&service, post("key")).await;
        assert_eq!((answer.status, answer.text), (503, format!("run {run}")));
        assert_eq!((rig.rows().await.len(), rig.records().await), (0, 0));
    }
}

async fn a_handler_that_gives_up_its_rows_keeps_the_claim<DB: Bench>() {
    let (rig, runs, gate) = (rig::<DB>().await, Count::default(), Gate::closed());
    let door = gate.clone();
    let service = rig.serve(&runs, move |run, co_commit| {
        let door = door.clone();
        async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), "given up").await.unwrap();
            co_commit.roll_back().await.unwrap();
            door.pass().await;
            DB::insert(&mut *co_commit.begin().await.unwrap(), "kept").await.unwrap();
            rig::answer(201, run)
        }
    });
    let first = start(&service, post("key"));
    runs.reaches(1).await;
    assert_eq!(send(&service, post("key")).await.kind, Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!(first.await.unwrap().status, 201);
    assert_eq!(rig.rows().await, ["kept"]);
}

async fn a_savepoint_that_is_left_open_rolls_back_before_it_is_answered<DB: Bench>() {
    let (rig, runs) = (rig::<DB>().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        DB::insert(&mut transaction, &format!("run {run}")).await.unwrap();
        if run % 2 == 1 {
            DB::leave_savepoint_open(&mut transaction).await;
        }
        rig::answer(201, run)
    });
    for round in 1..=20 {
        let key = format!("key-{round}");
        let answer = send(&service, post(&key)).await;
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
        let retry = send(&service, post(&key)).await;
        assert_eq!(retry.text, format!("run {}", 2 * round), "{retry:?}");
        assert_eq!(rig.rows().await.len(), round);
    }
}

async fn a_handler_that_takes_too_long_is_rolled_back_before_it_is_answered<DB: Bench>() {
    let (rig, runs) = (rig::<DB>().await, Count::default());
    let hasty =
        |builder: Builder<_, _>| builder.claim_in_transaction().transaction_time(Duration::from_millis(100));
    let hasty = rig.another(hasty).await;
    let handler = |run, co_commit: CoCommit<DB>| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        if run % 2 == 1 {
            std::future::pending::<()>().await;
        }
        rig::answer(201, run)
    };
    let hasty = rig::serve(&hasty, &runs, handler);
    // A retry has time, however busy the machine is.
    let service = rig.serve(&runs, handler);
    for round in 1..=20 {
        let key = format!("key-{round}");
        let answer = send(&hasty, post(&key)).await;
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
        let retry = send(&service, post(&key)).await;
        assert_eq!(retry.text, format!("run {}", 2 * round), "{retry:?}");
        assert_eq!(rig.rows().await.len(), round);
    }
}

async fn a_client_that_leaves_under_cancel_leaves_nothing<DB: Bench>() {
    let runs = Count::default();
    let rig =
        Rig::<DB>::with(|builder| builder.claim_in_transaction().on_disconnect(OnDisconnect::Cancel)).await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        if run == 1 {
            std::future::pending::<()>().await;
        }
        rig::answer(201, run)
    });
    leave_during(&service, post("key"), &runs).await;
    rig.detached_are_done().await;
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

async fn beyond_the_bound_a_client_that_leaves_takes_its_handler_along<DB: Bench>() {
    let runs = Count::default();
    let rig = Rig::<DB>::with(|builder| builder.claim_in_transaction().max_detached(0)).await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        if run == 1 {
            std::future::pending::<()>().await;
        }
        rig::answer(201, run)
    });
    leave_during(&service, post("key"), &runs).await;
    // A server finds out by itself that the connection was closed.
    let retry = tokio::time::timeout(Duration::from_secs(2), async {
        loop {
            let retry = send(&service, post("key")).await;
            if retry.kind != Some(RejectionKind::InProgress) {
                return retry;
            }
        }
    });
    assert_eq!(retry.await.unwrap().text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

#[cfg(feature = "layered")]
async fn behind_a_memory_the_promises_are_the_same<DB: Bench>() {
    let (_place, store, pool) = DB::open().await;
    let store = idempotency_layer::Layered::new(store, 1 << 20);
    let layer = rig::builder(store).claim_in_transaction().build();
    let runs = Count::default();
    let service = rig::serve::<DB, _, _, _>(&layer, &runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(if run == 1 { 503 } else { 201 }, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 503);
    assert!(DB::rows(&pool).await.is_empty());
    for replay in [false, true, true] {
        let answer = send(&service, post("key")).await;
        assert_eq!((&*answer.text, answer.replay), ("run 2", replay));
    }
    assert_eq!(DB::rows(&pool).await, ["run 2"]);
}

async fn without_a_key_nothing_is_begun_before_it_is_asked_for<DB: Bench>() {
    let (rig, runs) = (rig::<DB>().await, Count::default());
    let service = rig.writing(&runs, 201);
    assert_eq!(send(&service, post_without_key()).await.status, 201);
    assert_eq!((rig.rows().await.len(), rig.records().await), (1, 0));
}

/// A task that outlives the handler rolls back again and again, and so meets the end of the request at every moment.
async fn a_rollback_beside_the_end_of_its_request_does_not_open_the_transaction_again<DB: Bench>() {
    let (rig, runs) = (rig::<DB>().await, Count::default());
    let (told, mut tasks) = tokio::sync::mpsc::unbounded_channel();
    let service = rig.serve(&runs, move |run, co_commit| {
        let told = told.clone();
        async move {
            drop(co_commit.begin().await.unwrap());
            let task = tokio::spawn(async move {
                while !matches!(co_commit.roll_back().await, Err(CoCommitError::Over)) {
                    tokio::task::yield_now().await;
                }
                co_commit.begin().await.map(drop)
            });
            told.send(task).unwrap();
            tokio::task::yield_now().await;
            rig::answer(201, run)
        }
    });
    for round in 0..100 {
        let answer = send(&service, post(&format!("key-{round}"))).await;
        assert!([201, 503].contains(&answer.status), "{answer:?}");
        let ended = tokio::time::timeout(Duration::from_secs(20), tasks.recv().await.unwrap());
        let begun = ended.await.expect("the handle is over with its request").unwrap();
        assert!(matches!(begun, Err(CoCommitError::Over)), "{begun:?}");
    }
}
