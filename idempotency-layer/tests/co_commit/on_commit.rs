//! `CoCommit::on_commit` and `CoCommit::keep_on_error`.

use std::sync::{Arc, Mutex};

use idempotency_layer::{CoCommit, RejectionKind};
use sqlx::Postgres;
use tokio::runtime::Handle;

use crate::database::Bench;
use crate::proxy::{ErrorMessage, Loss, Passes, behind_proxy};
use crate::rig::{self, Count, Rig, post, post_without_key, request, send};

on_both! {
    what_waits_for_the_commit_runs_once_after_it_and_before_the_answer
    what_waits_for_the_commit_does_not_run_where_nothing_is_committed
    what_waits_for_the_commit_may_panic
    a_handle_that_is_over_waits_for_no_commit
    rows_that_are_to_be_kept_are_committed_with_an_error
    rows_that_are_to_be_kept_are_rolled_back_with_what_is_not_stored
}

/// The functions that ran, in order.
#[derive(Clone, Debug, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn push(&self, call: impl Into<String>) {
        self.0.lock().unwrap().push(call.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn wait_for<DB: Bench>(&self, co_commit: &CoCommit<DB>, call: &'static str) {
        let calls = self.clone();
        co_commit.on_commit(move || calls.push(call));
    }
}

async fn what_waits_for_the_commit_runs_once_after_it_and_before_the_answer<DB: Bench>() {
    let rig = Rig::<DB>::new().await;
    for keyed in [true, false] {
        let (runs, calls) = (Count::default(), Calls::default());
        let (pool, heard) = (rig.pool.clone(), calls.clone());
        let service = rig.serve(&runs, move |run, co_commit| {
            let (pool, heard, row) = (pool.clone(), heard.clone(), format!("{keyed}"));
            async move {
                heard.wait_for(&co_commit, "before it was begun");
                let mut transaction = co_commit.begin().await.unwrap();
                DB::insert(&mut transaction, &row).await.unwrap();
                let calls = heard.clone();
                co_commit.on_commit(move || {
                    let there = async {
                        let mut beside = DB::beside(&pool).await;
                        DB::has_row(&mut beside, &row).await
                    };
                    let there = tokio::task::block_in_place(|| Handle::current().block_on(there));
                    calls.push(format!("the row is there: {there}"));
                });
                drop(transaction);
                heard.push("answers");
                rig::answer(201, run)
            }
        });
        assert_eq!(send(&service, request(keyed, "key")).await.status, 201);
        assert_eq!(calls.take(), ["answers", "before it was begun", "the row is there: true"]);
        if keyed {
            assert!(send(&service, post("key")).await.replay);
            assert!(calls.take().is_empty());
        }
    }
}

async fn what_waits_for_the_commit_does_not_run_where_nothing_is_committed<DB: Bench>() {
    let rig = Rig::<DB>::new().await;
    for keyed in [true, false] {
        let calls = Calls::default();
        let heard = calls.clone();
        let service = rig.serve(&Count::default(), move |run, co_commit| {
            let heard = heard.clone();
            async move {
                let mut transaction = co_commit.begin().await.unwrap();
                DB::insert(&mut transaction, &format!("{keyed} {run}")).await.unwrap();
                heard.wait_for(&co_commit, "ran");
                match run {
                    1 => rig::answer(503, run),
                    2 => panic!("the handler breaks"),
                    3 => {
                        DB::break_at_commit(&mut transaction).await.unwrap();
                        rig::answer(201, run)
                    }
                    4 => {
                        drop(transaction);
                        co_commit.roll_back().await.unwrap();
                        rig::answer(201, run)
                    }
                    _ => {
                        drop(transaction);
                        co_commit.roll_back().await.unwrap();
                        DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("{keyed}"))
                            .await
                            .unwrap();
                        heard.wait_for(&co_commit, "after the rollback");
                        rig::answer(201, run)
                    }
                }
            }
        });
        for status in [503, 0, 503, 201] {
            let (service, request) = (service.clone(), request(keyed, if keyed { "k" } else { "" }));
            let answer = tokio::spawn(async move { send(&service, request).await }).await;
            assert_eq!(answer.map_or(0, |answer| answer.status), status);
            assert!(calls.take().is_empty(), "{keyed} {status}");
        }
        assert_eq!(send(&service, request(keyed, "another")).await.status, 201);
        assert_eq!(calls.take(), ["after the rollback"]);
    }
}

async fn what_waits_for_the_commit_may_panic<DB: Bench>() {
    for keyed in [true, false] {
        let (rig, calls) = (Rig::<DB>::new().await, Calls::default());
        let heard = calls.clone();
        let service = rig.serve(&Count::default(), move |run, co_commit| {
            let heard = heard.clone();
            async move {
                DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
                heard.wait_for(&co_commit, "first");
                co_commit.on_commit(|| panic!("it breaks after the commit"));
                heard.wait_for(&co_commit, "third");
                rig::answer(201, run)
            }
        });
        assert_eq!(send(&service, request(keyed, "key")).await.status, 201);
        assert_eq!(
            (calls.take(), rig.rows().await),
            (vec!["first".into(), "third".into()], vec!["row".into()])
        );
        rig.writes_are_visible("autocommit").await;
    }
}

async fn a_handle_that_is_over_waits_for_no_commit<DB: Bench>() {
    let (rig, calls) = (Rig::<DB>::new().await, Calls::default());
    let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let service = rig.serve(&Count::default(), move |run, co_commit| {
        keep.send(co_commit.clone()).unwrap();
        async move {
            DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
            rig::answer(201, run)
        }
    });
    assert_eq!(send(&service, post("key")).await.status, 201);
    let late = kept.recv().await.unwrap();
    // Its captured values are dropped, too.
    let held = Arc::new(());
    let (waits, weak) = (held.clone(), Arc::downgrade(&held));
    calls.wait_for(&late, "late");
    late.on_commit(move || drop(waits));
    drop(held);
    assert!(weak.upgrade().is_none());
    assert!(calls.take().is_empty());
}

async fn rows_that_are_to_be_kept_are_committed_with_an_error<DB: Bench>() {
    let rig = Rig::<DB>::new().await;
    for keyed in [true, false] {
        let calls = Calls::default();
        let heard = calls.clone();
        let service = rig.serve(&Count::default(), move |run, co_commit| {
            let heard = heard.clone();
            async move {
                DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("{keyed}")).await.unwrap();
                co_commit.keep_on_error();
                heard.wait_for(&co_commit, "ran");
                rig::answer(409, run)
            }
        });
        assert_eq!(send(&service, request(keyed, "key")).await.status, 409);
        assert!(DB::has_row(&mut DB::beside(&rig.pool).await, &format!("{keyed}")).await);
        assert_eq!(calls.take(), ["ran"]);
        if keyed {
            assert!(send(&service, post("key")).await.replay);
        }
    }
}

async fn rows_that_are_to_be_kept_are_rolled_back_with_what_is_not_stored<DB: Bench>() {
    let rig = Rig::<DB>::new().await;
    for keyed in [true, false] {
        let service = rig.serve(&Count::default(), move |run, co_commit| async move {
            co_commit.keep_on_error();
            DB::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
            rig::answer(503, run)
        });
        assert_eq!(send(&service, request(keyed, "key")).await.status, 503);
        assert!(rig.rows().await.is_empty());
    }
}

/// The record shows that the transaction was committed.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_commit_runs_where_its_answer_was_lost() {
    let (proxy, _, layer) = behind_proxy().await;
    for (passes, keyed, runs) in [
        (Passes::First, true, true),
        (Passes::Late, true, true),
        (Passes::Never, true, false),
        (Passes::First, false, false), // nobody knows
        (Passes::Never, false, false),
    ] {
        let calls = Calls::default();
        let heard = calls.clone();
        let service = rig::serve::<Postgres, _, _, _>(&layer, &Count::default(), move |run, co_commit| {
            let heard = heard.clone();
            async move {
                let row = format!("{passes:?} {keyed}");
                Postgres::insert(&mut *co_commit.begin().await.unwrap(), &row).await.unwrap();
                heard.wait_for(&co_commit, "ran");
                rig::answer(201, run)
            }
        });
        proxy.lose_next_commit(Loss { passes, error: Some(ErrorMessage::new("FATAL", "08P01")) });
        let request = if keyed { post(&format!("{passes:?}")) } else { post_without_key() };
        let answer = send(&service, request).await;
        assert!(proxy.has_lost());
        assert_eq!(answer.status, if runs { 201 } else { 503 });
        assert_ne!(answer.kind, Some(RejectionKind::StoreUnavailable));
        assert_eq!(calls.take().len(), usize::from(runs), "{passes:?}, keyed: {keyed}");
    }
}
