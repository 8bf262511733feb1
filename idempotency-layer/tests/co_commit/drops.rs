//! Futures that are dropped half way, and handles that outlive their request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempotency_layer::{CoCommitError, OnDisconnect, RejectionKind};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::database::Bench;
use crate::rig::{self, Answer, Count, Gate, Rig, dropped_after, post, post_without_key, request, send};

on_both! {
    a_savepoint_that_is_dropped_in_flight_leaves_an_answer_that_is_true
    a_begin_that_is_dropped_in_flight_leaves_no_transaction
    a_begin_that_is_given_up_by_the_handler_can_be_made_again
    a_request_that_is_dropped_in_flight_is_committed_whole_or_not_at_all
    a_begin_after_the_answer_is_over
    a_begin_that_is_on_its_way_when_the_request_ends_is_over
    a_begin_that_races_with_the_answer_never_makes_it_untrue
    a_handle_that_outlives_its_client_holds_nothing
    a_transaction_that_outlives_its_client_is_rolled_back_when_it_is_dropped
    a_transaction_that_outlives_the_answer_is_free_once_it_is_dropped
}

/// Checks that the answer agrees with the rows.
fn is_true(answer: &Answer, rows: &[bool]) -> bool {
    match (answer.status, answer.kind) {
        (201, None) => rows.iter().all(|there| *there),
        // A write of the handler failed, or the commit.
        (500, None) | (503, Some(RejectionKind::RolledBack)) => !rows.iter().any(|there| *there),
        (503, Some(RejectionKind::NotRecorded | RejectionKind::CommitUnknown)) => true,
        _ => false,
    }
}

async fn a_savepoint_that_is_dropped_in_flight_leaves_an_answer_that_is_true<DB: Bench>() {
    let rig = Rig::<DB>::small(4, |builder| builder).await;
    let (runs, in_flight) = (Count::default(), Arc::new(AtomicUsize::new(0)));
    let mut beside = DB::beside(&rig.pool).await;
    for (keyed, goes_on) in [(true, false), (true, true), (false, false), (false, true)] {
        for polls in 1..=4 {
            let name = format!("{keyed}-{goes_on}-{polls}");
            let rows = [format!("{name} before"), format!("{name} after")];
            let (written, dropped, pool) = (rows.clone(), in_flight.clone(), rig.pool.clone());
            let service = rig.serve(&runs, move |run, co_commit| {
                let (rows, dropped, pool) = (written.clone(), dropped.clone(), pool.clone());
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    DB::insert(&mut transaction, &rows[0]).await.unwrap();
                    // Behind a statement that waits, the savepoint is certainly not answered by the first poll.
                    let held = if polls == 1 { Some(DB::hold(&mut transaction, &pool).await) } else { None };
                    if dropped_after(polls, transaction.begin()).await.is_none() {
                        dropped.fetch_add(1, Ordering::SeqCst);
                    }
                    drop(held);
                    if goes_on && DB::insert(&mut transaction, &rows[1]).await.is_err() {
                        return rig::answer(500, run);
                    }
                    rig::answer(201, run)
                }
            });
            let answer = send(&service, request(keyed, &name)).await;
            let mut there = Vec::new();
            for row in &rows[..=usize::from(goes_on)] {
                there.push(DB::has_row(&mut beside, row).await);
            }
            assert!(is_true(&answer, &there), "{name}: {answer:?}, rows {there:?}");
            if keyed && answer.status == 201 {
                assert!(send(&service, post(&name)).await.replay);
            }
            rig.writes_are_visible(&format!("{name} autocommit")).await;
        }
    }
    assert!(in_flight.load(Ordering::SeqCst) >= 4, "each that is dropped after one poll is in flight");
}

async fn a_begin_that_is_dropped_in_flight_leaves_no_transaction<DB: Bench>() {
    let rig = Rig::<DB>::small(1, |builder| builder).await;
    let runs = Count::default();
    for keyed in [true, false] {
        for polls in 1..=8 {
            for begins_again in [false, true] {
                let name = format!("{keyed}-{polls}-{begins_again}");
                let row = name.clone();
                let service = rig.serve(&runs, move |run, co_commit| {
                    let row = row.clone();
                    async move {
                        drop(dropped_after(polls, co_commit.begin()).await);
                        if begins_again {
                            DB::insert(&mut *co_commit.begin().await.unwrap(), &row).await.unwrap();
                        }
                        rig::answer(201, run)
                    }
                });
                let answer = send(&service, request(keyed, &name)).await;
                assert_eq!((answer.status, answer.kind), (201, None), "{name}");
                let there = DB::has_row(&mut DB::beside(&rig.pool).await, &name).await;
                assert_eq!(there, begins_again, "{name}");
                rig.writes_are_visible(&format!("{name} autocommit")).await;
            }
        }
    }
}

/// A time-out and a `select!`, while the pool has no connection.
async fn a_begin_that_is_given_up_by_the_handler_can_be_made_again<DB: Bench>() {
    let rig = Rig::<DB>::small(1, |builder| builder).await;
    let (runs, given_up) = (Count::default(), Gate::closed());
    let door = given_up.clone();
    let service = rig.serve(&runs, move |run, co_commit| {
        let given_up = door.clone();
        async move {
            if run == 1 {
                assert!(timeout(Duration::from_millis(1), co_commit.begin()).await.is_err());
            } else {
                tokio::select! {
                    biased;
                    _ = co_commit.begin() => panic!("the pool has no connection"),
                    () = tokio::task::yield_now() => {}
                }
            }
            given_up.open();
            DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            rig::answer(201, run)
        }
    });
    for run in 1..=2 {
        let held = rig.pool.acquire().await.unwrap();
        let (answer, ()) = tokio::join!(send(&service, post_without_key()), async {
            given_up.pass().await;
            drop(held);
        });
        assert_eq!(answer.status, 201);
        assert_eq!(rig.rows().await.len(), run);
    }
    rig.writes_are_visible("autocommit").await;
}

async fn a_request_that_is_dropped_in_flight_is_committed_whole_or_not_at_all<DB: Bench>() {
    let rig = Rig::<DB>::small(2, |builder| builder.on_disconnect(OnDisconnect::Cancel)).await;
    let runs = Count::default();
    let mut beside = DB::beside(&rig.pool).await;
    for keyed in [true, false] {
        for polls in 1..=14 {
            let name = format!("{keyed}-{polls}");
            let rows = [format!("{name} outside"), format!("{name} inside")];
            let written = rows.clone();
            let service = rig.serve(&runs, move |run, co_commit| {
                let rows = written.clone();
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    DB::insert(&mut transaction, &rows[0]).await.unwrap();
                    let mut savepoint = transaction.begin().await.unwrap();
                    DB::insert(&mut savepoint, &rows[1]).await.unwrap();
                    savepoint.commit().await.unwrap();
                    rig::answer(201, run)
                }
            });
            drop(dropped_after(polls, send(&service, request(keyed, &name))).await);
            rig.detached_are_done().await;
            rig.writes_are_visible(&format!("{name} autocommit")).await;
            let first = DB::has_row(&mut beside, &rows[0]).await;
            assert_eq!(first, DB::has_row(&mut beside, &rows[1]).await, "{name}");
            if keyed {
                assert_eq!(send(&service, post(&name)).await.status, 201, "{name}");
                assert!(DB::has_row(&mut beside, &rows[0]).await, "{name}");
            }
        }
    }
}

async fn a_begin_after_the_answer_is_over<DB: Bench>() {
    for (keyed, begun_before) in [(true, false), (true, true), (false, false), (false, true)] {
        let rig = Rig::<DB>::small(1, |builder| builder).await;
        let (runs, answered) = (Count::default(), Gate::closed());
        let (tell, mut told) = mpsc::channel(1);
        let door = answered.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let (answered, tell) = (door.clone(), tell.clone());
            async move {
                if begun_before {
                    DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
                }
                tokio::spawn(async move {
                    answered.pass().await;
                    let begun = co_commit.begin().await.map(drop);
                    let rolled_back = co_commit.roll_back().await;
                    let _ = tell.send((begun, rolled_back, co_commit)).await; // and the handle is kept
                });
                rig::answer(201, run)
            }
        });
        assert_eq!(send(&service, request(keyed, "key")).await.status, 201);
        answered.open();
        let (begun, rolled_back, _kept) = told.recv().await.unwrap();
        assert!(matches!(begun, Err(CoCommitError::Over)), "{begun:?}");
        assert!(matches!(rolled_back, Err(CoCommitError::Over)), "{rolled_back:?}");
        rig.writes_are_visible("autocommit").await;
    }
}

/// The pool has no connection until the handler has answered.
async fn a_begin_that_is_on_its_way_when_the_request_ends_is_over<DB: Bench>() {
    for keyed in [true, false] {
        let rig = Rig::<DB>::small(1, |builder| builder).await;
        let (runs, no_connection) = (Count::default(), Gate::closed());
        let (tell, mut told) = mpsc::unbounded_channel();
        let door = no_connection.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let (no_connection, tell) = (door.clone(), tell.clone());
            async move {
                no_connection.pass().await;
                let handle = co_commit.clone();
                let mut begin = Box::pin(async move { handle.begin().await.map(drop) });
                assert!(futures_util::poll!(begin.as_mut()).is_pending());
                tell.send((co_commit, tokio::spawn(begin))).unwrap();
                rig::answer(201, run)
            }
        });
        let client = tokio::spawn(async move { send(&service, request(keyed, "key")).await });
        runs.reaches(1).await;
        let held = rig.pool.acquire().await.unwrap();
        no_connection.open();
        let (co_commit, begin) = told.recv().await.unwrap();
        while matches!(co_commit.begin().await, Err(CoCommitError::InUse)) {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert_eq!(client.await.unwrap().status, 201);
        let late = begin.await.unwrap();
        assert!(matches!(late, Err(CoCommitError::Over)), "{late:?}");
        rig.writes_are_visible("autocommit").await;
    }
}

async fn a_begin_that_races_with_the_answer_never_makes_it_untrue<DB: Bench>() {
    let rig = Rig::<DB>::small(2, |builder| builder).await;
    let runs = Count::default();
    let mut beside = DB::beside(&rig.pool).await;
    for round in 0..50 {
        let (keyed, name) = (round % 2 == 0, format!("{round}"));
        let row = name.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let row = row.clone();
            async move {
                let late = tokio::spawn(async move {
                    match co_commit.begin().await {
                        Ok(mut transaction) => DB::insert(&mut transaction, &row).await.unwrap(),
                        Err(error) => assert!(matches!(error, CoCommitError::Over), "{error}"),
                    }
                });
                // Some have finished by then.
                dropped_after(1 + round / 10, Box::pin(late)).await.transpose().unwrap();
                rig::answer(201, run)
            }
        });
        let answer = send(&service, request(keyed, &name)).await;
        rig.writes_are_visible(&format!("{name} autocommit")).await;
        let there = DB::has_row(&mut beside, &name).await;
        // The transaction may not have begun, so a 201 does not mean that the row exists.
        assert!(answer.status == 201 || is_true(&answer, &[there]), "{name}: {answer:?}, row {there}");
    }
}

async fn a_handle_that_outlives_its_client_holds_nothing<DB: Bench>() {
    let rig = Rig::<DB>::small(2, |builder| builder).await;
    let (runs, wrote) = (Count::default(), Gate::closed());
    let (keep, mut kept) = mpsc::unbounded_channel();
    let door = wrote.clone();
    let service = rig.serve(&runs, move |_, co_commit| {
        let (wrote, keep) = (door.clone(), keep.clone());
        async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
            keep.send(co_commit).unwrap();
            wrote.open();
            std::future::pending().await
        }
    });
    let leaving = tokio::spawn(async move { send(&service, post_without_key()).await });
    wrote.pass().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    // The row is unique, so this insert would wait for an open transaction that has written it.
    rig.writes_are_visible("row").await;
    let kept = kept.recv().await.unwrap();
    assert!(matches!(kept.begin().await, Err(CoCommitError::Over)));
}

async fn a_transaction_that_outlives_its_client_is_rolled_back_when_it_is_dropped<DB: Bench>() {
    let rig = Rig::<DB>::small(2, |builder| builder).await;
    let (runs, wrote) = (Count::default(), Gate::closed());
    let (keep, mut kept) = mpsc::unbounded_channel();
    let door = wrote.clone();
    let service = rig.serve(&runs, move |_, co_commit| {
        let (wrote, keep) = (door.clone(), keep.clone());
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            DB::insert(&mut transaction, "row").await.unwrap();
            keep.send(transaction).unwrap();
            wrote.open();
            std::future::pending().await
        }
    });
    let leaving = tokio::spawn(async move { send(&service, post_without_key()).await });
    wrote.pass().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    let mut transaction = kept.recv().await.unwrap();
    DB::insert(&mut transaction, "late").await.unwrap();
    drop(transaction);
    rig.writes_are_visible("row").await;
    assert_eq!(rig.rows().await, ["row"]);
}

async fn a_transaction_that_outlives_the_answer_is_free_once_it_is_dropped<DB: Bench>() {
    let rig = Rig::<DB>::small(2, |builder| builder).await;
    let runs = Count::default();
    let (keep, mut kept) = mpsc::unbounded_channel();
    let service = rig.serve(&runs, move |run, co_commit| {
        let keep = keep.clone();
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            DB::insert(&mut transaction, "row").await.unwrap();
            keep.send(transaction).unwrap();
            rig::answer(201, run)
        }
    });
    let answer = send(&service, post_without_key()).await;
    assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
    let mut transaction = kept.recv().await.unwrap();
    DB::insert(&mut transaction, "late").await.unwrap();
    drop(transaction);
    rig.writes_are_visible("row").await;
    assert_eq!(rig.rows().await, ["row"]);
}
