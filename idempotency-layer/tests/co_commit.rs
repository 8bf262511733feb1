//! Co-commit on real databases: the handler's rows and the stored response are committed together, or not at all.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

/// Makes a test of each scenario on each database.
macro_rules! on_both {
    ($($(#[$note:meta])* $scenario:ident)*) => {
        mod on_postgres { $($(#[$note])* #[tokio::test(flavor = "multi_thread")] async fn $scenario() { super::$scenario::<sqlx::Postgres>().await })* }
        mod on_sqlite { $($(#[$note])* #[tokio::test(flavor = "multi_thread")] async fn $scenario() { super::$scenario::<sqlx::Sqlite>().await })* }
    };
}

#[path = "co_commit/database.rs"]
mod database;
#[path = "co_commit/proxy.rs"]
mod proxy;
#[path = "co_commit/random.rs"]
mod random;
#[path = "co_commit/rig.rs"]
mod rig;

#[path = "co_commit/commit_answers.rs"]
mod commit_answers;
#[path = "co_commit/drops.rs"]
mod drops;
#[path = "co_commit/grpc.rs"]
mod grpc;
#[path = "co_commit/in_transaction.rs"]
mod in_transaction;
#[path = "co_commit/on_commit.rs"]
mod on_commit;
#[path = "co_commit/pgbouncer.rs"]
mod pgbouncer;
#[path = "co_commit/postgres.rs"]
mod postgres;
#[path = "co_commit/promises.rs"]
mod promises;
#[path = "co_commit/random_drops.rs"]
mod random_drops;
#[path = "co_commit/raw_sql.rs"]
mod raw_sql;
#[path = "co_commit/session.rs"]
mod session;
#[path = "co_commit/sqlite.rs"]
mod sqlite;
#[path = "co_commit/sqlite_shared_commits.rs"]
mod sqlite_shared_commits;
#[path = "co_commit/sqlite_unknown_commits.rs"]
mod sqlite_unknown_commits;

use std::time::Duration;

use http::StatusCode;
use idempotency_layer::{CoCommitError, OnOrphan, RejectionKind, Tombstone};

use self::database::Bench;
use self::rig::{Count, Gate, Rig, leave_during, post, post_without_key, send, start};

on_both! {
    a_stored_answer_has_its_row_and_a_replay_adds_none
    what_is_not_stored_leaves_no_row
    a_panic_leaves_no_row_and_the_retry_runs
    of_many_requests_at_once_with_one_key_one_leaves_a_row
    the_rows_of_a_run_that_was_taken_over_are_refused
    a_handler_that_begins_nothing_is_stored_all_the_same
    without_a_key_the_same_rule_decides
    a_client_that_leaves_finds_row_and_answer
    a_request_that_gives_up_its_rows_is_stored_without_them
    one_transaction_is_one_however_often_it_is_asked_for
    a_transaction_in_other_hands_is_not_committed
    a_constraint_that_fails_at_the_commit_leaves_nothing
    a_failure_within_a_savepoint_is_no_failure_of_the_request
    under_halt_what_was_rolled_back_is_not_run_again
}

async fn a_stored_answer_has_its_row_and_a_replay_adds_none<DB: Bench>() {
    for status in [200, 201, 303] {
        for rig in Rig::<DB>::both_ways().await {
            let runs = Count::default();
            let service = rig.writing(&runs, status);
            for replay in [false, true, true] {
                let answer = send(&service, post("key")).await;
                assert_eq!((answer.status, &*answer.text, answer.replay), (status, "run 1", replay));
            }
            assert_eq!((rig.rows().await, rig.records().await), (vec!["run 1".to_owned()], 1));
        }
    }
}

async fn what_is_not_stored_leaves_no_row<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.writing(&runs, 503);
    for run in 1..=3 {
        let answer = send(&service, post("key")).await;
        assert_eq!((answer.status, answer.text), (503, format!("run {run}")));
        assert!(rig.rows().await.is_empty());
    }
}

async fn a_panic_leaves_no_row_and_the_retry_runs<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        assert!(run > 1, "run {run} broke");
        rig::answer(201, run)
    });
    assert!(start(&service, post("key")).await.unwrap_err().is_panic());
    assert!(rig.rows().await.is_empty());
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

async fn of_many_requests_at_once_with_one_key_one_leaves_a_row<DB: Bench>() {
    for rig in Rig::<DB>::both_ways().await {
        let runs = Count::default();
        let service = rig.writing(&runs, 201);
        for round in 0..20 {
            let clients: Vec<_> = (0..16).map(|_| start(&service, post(&format!("key-{round}")))).collect();
            let mut answered = 0;
            for client in clients {
                let answer = client.await.unwrap();
                assert!(answer.status == 201 || answer.kind == Some(RejectionKind::InProgress), "{answer:?}");
                answered += usize::from(answer.status == 201);
            }
            assert!(answered >= 1);
            assert_eq!(rig.rows().await.len(), round + 1);
        }
        assert_eq!(runs.get(), 20);
    }
}

async fn the_rows_of_a_run_that_was_taken_over_are_refused<DB: Bench>() {
    let (rig, runs, gate) = (Rig::<DB>::new().await, Count::default(), Gate::closed());
    let door = gate.clone();
    let service = rig.serve(&runs, move |run, co_commit| {
        let door = door.clone();
        async move {
            if run == 1 {
                door.pass().await;
            }
            DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            rig::answer(201, run)
        }
    });
    let zombie = start(&service, post("key"));
    runs.reaches(1).await;
    rig.end_leases().await;
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    gate.open();
    let refused = zombie.await.unwrap();
    assert_eq!((refused.status, refused.kind), (409, Some(RejectionKind::InProgress)));
    assert_eq!(rig.rows().await, ["run 2"]);
    assert_eq!(send(&service, post("key")).await.text, "run 2");
}

async fn a_handler_that_begins_nothing_is_stored_all_the_same<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.serve(&runs, |run, _| async move { rig::answer(201, run) });
    assert_eq!(send(&service, post("key")).await.text, "run 1");
    assert!(send(&service, post("key")).await.replay);
}

async fn without_a_key_the_same_rule_decides<DB: Bench>() {
    for (status, rows) in [(201, 1), (404, 0), (401, 0), (500, 0)] {
        let (rig, runs) = (Rig::<DB>::new().await, Count::default());
        let service = rig.writing(&runs, status);
        assert_eq!(send(&service, post_without_key()).await.status, status);
        assert_eq!((rig.rows().await.len(), rig.records().await), (rows, 0));
    }
}

async fn a_client_that_leaves_finds_row_and_answer<DB: Bench>() {
    for rig in Rig::<DB>::both_ways().await {
        let (runs, gate) = (Count::default(), Gate::closed());
        let service = rig.writing_at(&gate, &runs, 201);
        leave_during(&service, post("key"), &runs).await;
        gate.open();
        rig.detached_are_done().await;
        let retry = send(&service, post("key")).await;
        assert_eq!((&*retry.text, retry.replay, runs.get()), ("run 1", true, 1));
        assert_eq!(rig.rows().await, ["run 1"]);
    }
}

async fn a_request_that_gives_up_its_rows_is_stored_without_them<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), "given up").await.unwrap();
        co_commit.roll_back().await.unwrap();
        rig::answer(409, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 409);
    assert!(send(&service, post("key")).await.replay);
    assert!(rig.rows().await.is_empty());

    let service = rig.serve(&runs, |run, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), "given up").await.unwrap();
        co_commit.roll_back().await.unwrap();
        DB::insert(&mut *co_commit.begin().await.unwrap(), "kept").await.unwrap();
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("other-key")).await.status, 201);
    assert_eq!(rig.rows().await, ["kept"]);
}

async fn one_transaction_is_one_however_often_it_is_asked_for<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        for row in ["first", "second"] {
            let mut transaction = co_commit.begin().await.unwrap();
            // A second handle at the same time would wait for the first.
            assert!(matches!(co_commit.begin().await, Err(CoCommitError::InUse)));
            assert!(matches!(co_commit.roll_back().await, Err(CoCommitError::InUse)));
            DB::insert(&mut transaction, row).await.unwrap();
        }
        rig::answer(if run == 1 { 500 } else { 201 }, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 500);
    assert!(rig.rows().await.is_empty(), "both are rolled back");
    assert_eq!(send(&service, post("key")).await.status, 201);
    assert_eq!(rig.rows().await, ["first", "second"]);
}

async fn a_transaction_in_other_hands_is_not_committed<DB: Bench>() {
    for request in [post("key"), post_without_key()] {
        let (rig, runs, gate) = (Rig::<DB>::new().await, Count::default(), Gate::closed());
        let door = gate.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let door = door.clone();
            async move {
                let mut transaction = co_commit.begin().await.unwrap();
                DB::insert(&mut transaction, &format!("run {run}")).await.unwrap();
                if run == 1 {
                    tokio::spawn(async move {
                        door.pass().await;
                        drop(transaction);
                        let _late = co_commit.begin().await;
                    });
                }
                rig::answer(201, run)
            }
        });
        let without_key = !request.headers().contains_key("idempotency-key");
        // On SQLite the claim can be released only after that task has released the writer.
        let first = start(&service, request);
        runs.reaches(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.open();
        let answer = first.await.unwrap();
        assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
        assert!(rig.rows().await.is_empty());
        if !without_key {
            assert_eq!(send(&service, post("key")).await.text, "run 2");
            assert_eq!(rig.rows().await, ["run 2"]);
        }
    }
}

async fn a_constraint_that_fails_at_the_commit_leaves_nothing<DB: Bench>() {
    for request in [post("key"), post_without_key()] {
        let (rig, runs) = (Rig::<DB>::new().await, Count::default());
        let service = rig.serve(&runs, |run, co_commit| async move {
            let mut transaction = co_commit.begin().await.unwrap();
            DB::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            if run == 1 {
                DB::break_at_commit(&mut transaction).await.unwrap();
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

async fn a_failure_within_a_savepoint_is_no_failure_of_the_request<DB: Bench>() {
    let (rig, runs) = (Rig::<DB>::new().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        DB::insert(&mut transaction, "kept").await.unwrap();
        let mut savepoint = transaction.begin().await.unwrap();
        assert!(DB::insert(&mut savepoint, "kept").await.is_err(), "it is there already");
        savepoint.rollback().await.unwrap();
        drop(transaction);
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 201);
    assert!(send(&service, post("key")).await.replay);
    assert_eq!(rig.rows().await, ["kept"]);
}

async fn under_halt_what_was_rolled_back_is_not_run_again<DB: Bench>() {
    let runs = Count::default();
    let rig = Rig::<DB>::with(|builder| builder.on_orphan(OnOrphan::Halt)).await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        DB::insert(&mut transaction, "row").await.unwrap();
        DB::break_at_commit(&mut transaction).await.unwrap();
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("key")).await.status, StatusCode::SERVICE_UNAVAILABLE.as_u16());
    let halted = send(&service, post("key")).await;
    assert_eq!((halted.kind, runs.get()), (Some(RejectionKind::Tombstone(Tombstone::Unknown)), 1));
}
