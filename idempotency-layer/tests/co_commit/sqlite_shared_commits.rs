//! SQLite transactions that share a commit. All of them commit or none, and no response leaves before.

use std::time::Duration;

use http::Request;
use idempotency_layer::{
    Builder, Completion, RejectionKind, Scoped, SqliteStore, StoreError, StoreErrorKind,
};
use sqlx::{Executor, Sqlite, SqlitePool};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::database::Bench;
use crate::in_transaction::raw::{InTransaction, ask, outcome};
use crate::rig::{self, Answer, Body, Count, Gate, Rig, dropped_after, post, post_without_key, send};

const CLIENTS: usize = 48;
const PATIENCE: Duration = Duration::from_secs(20);

/// How a transaction is lent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Leased,
    InTransaction,
    WithoutKey,
}

impl Way {
    const ALL: [Self; 3] = [Self::Leased, Self::InTransaction, Self::WithoutKey];

    fn request(self, n: usize) -> Request<Body> {
        if self == Self::WithoutKey { post_without_key() } else { post(&format!("key-{n}")) }
    }

    async fn rig(self) -> Rig<Sqlite> {
        self.rig_on(|store| store).await
    }

    async fn rig_on(self, set: impl FnOnce(SqliteStore) -> SqliteStore) -> Rig<Sqlite> {
        let (place, store, pool) = Sqlite::open().await;
        let builder = rig::builder(set(store));
        let builder: Builder<SqliteStore, Scoped> =
            if self == Self::InTransaction { builder.claim_in_transaction() } else { builder };
        Rig::on(place, builder, pool)
    }
}

/// The commits in the log, which the tests do not fill so far that it begins anew.
fn commits(pool: &SqlitePool) -> usize {
    const HEADER: usize = 32;
    const FRAME: usize = 24;
    let file = pool.connect_options().get_filename().display().to_string();
    let log = std::fs::read(format!("{file}-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[HEADER..].chunks_exact(FRAME + page);
    // The last frame of a commit says how large the database is.
    frames.filter(|frame| frame[8..16] == log[16..24] && frame[4..8] != [0; 4]).count()
}

/// Sends that many requests at once.
async fn at_once(service: &rig::Service, way: Way, clients: usize) -> Vec<Answer> {
    let clients: Vec<_> = (0..clients)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move { send(&service, way.request(n)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_the_writer_share_a_commit_and_are_answered_after_it() {
    for way in Way::ALL {
        let rig = way.rig().await;
        let service = rig.writing(&Count::default(), 201);
        let before = commits(&rig.pool);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (service, pool) = (service.clone(), rig.pool.clone());
                tokio::spawn(async move {
                    let mut beside = Sqlite::beside(&pool).await;
                    let answer = send(&service, way.request(n)).await;
                    assert_eq!(answer.status, 201);
                    assert!(Sqlite::has_row(&mut beside, &answer.text).await, "answered before its commit");
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        let commits = commits(&rig.pool) - before;
        assert!(commits < CLIENTS / 2, "{way:?}: {commits} commits");
        assert_eq!(rig.rows().await.len(), CLIENTS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sharing_is_switched_off_or_the_schema_defers_constraints_each_commits_alone() {
    for way in [Way::InTransaction, Way::WithoutKey] {
        for defers in [false, true] {
            let rig = way.rig_on(|store| store.share_commits(defers)).await;
            if defers {
                let deferred = "CREATE TABLE children (
                    parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)";
                rig.pool.execute(deferred).await.unwrap();
            }
            let before = commits(&rig.pool);
            let service = rig.writing(&Count::default(), 201);
            assert!(at_once(&service, way, CLIENTS).await.iter().all(|answer| answer.status == 201));
            assert_eq!(commits(&rig.pool) - before, CLIENTS, "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_among_others_leaves_its_record_and_no_row() {
    for way in Way::ALL {
        let rig = way.rig().await;
        let service = rig.serve(&Count::default(), |run, co_commit| async move {
            Sqlite::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            rig::answer([422, 201, 500][run % 3], run)
        });
        let answers = at_once(&service, way, CLIENTS).await;
        let mut rows = rig.rows().await;
        rows.sort();
        let mut created: Vec<_> =
            answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.text.clone()).collect();
        created.sort();
        assert_eq!((rows, created.len()), (created, CLIENTS / 3), "{way:?}");
        if way != Way::WithoutKey {
            for (n, answer) in answers.iter().enumerate() {
                let again = send(&service, way.request(n)).await;
                assert_eq!(again.replay, answer.status != 500, "{again:?}");
                assert!(!again.replay || again.text == answer.text);
            }
        }
    }
}

/// How a handler ends a group that it is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    OrRollback,
    Rollback,
    Commit,
    /// Found by the COMMIT alone.
    AtTheCommit,
    SavepointLeft,
}

impl Failure {
    pub(crate) const ALL: [Self; 5] =
        [Self::OrRollback, Self::Rollback, Self::Commit, Self::AtTheCommit, Self::SavepointLeft];

    pub(crate) async fn happens(self, connection: &mut sqlx::SqliteConnection) {
        match self {
            Self::OrRollback => {
                let twice = "INSERT OR ROLLBACK INTO parents VALUES (1), (1)";
                connection.execute(twice).await.unwrap_err();
            }
            Self::Rollback => drop(connection.execute("ROLLBACK").await.unwrap()),
            Self::Commit => drop(connection.execute("COMMIT").await.unwrap_err()),
            Self::AtTheCommit => Sqlite::break_at_commit(connection).await.unwrap(),
            Self::SavepointLeft => Sqlite::leave_savepoint_open(connection).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_its_group_leaves_nothing_of_it_and_all_retries_run() {
    for way in Way::ALL {
        for failure in Failure::ALL {
            let rig = way.rig().await;
            let service = rig.serve(&Count::default(), move |run, co_commit| async move {
                let mut transaction = co_commit.begin().await.unwrap();
                Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
                if run == 5 {
                    failure.happens(&mut transaction).await;
                }
                rig::answer(201, run)
            });
            let answers = at_once(&service, way, CLIENTS).await;
            let rows = rig.rows().await;
            for (n, answer) in answers.iter().enumerate() {
                let is_rolled_back = (answer.status, answer.kind) == (503, Some(RejectionKind::RolledBack));
                assert!(answer.status == 201 || is_rolled_back, "{answer:?}");
                assert!(answer.status == 503 || rows.contains(&answer.text), "{answer:?}");
                if is_rolled_back && way != Way::WithoutKey {
                    assert_eq!(send(&service, way.request(n)).await.status, 201);
                }
            }
            let created = answers.iter().filter(|answer| answer.status == 201).count();
            assert_eq!(rows.len(), created, "{way:?} {failure:?}");
            assert!(created < CLIENTS);
            assert!(!rows.contains(&"run 5".to_owned()), "{way:?} {failure:?}");
            rig.writes_are_visible("afterwards").await;
        }
    }
}

/// Its group is old when it is done.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_slow_handler() {
    let rig = Way::WithoutKey.rig().await;
    let (gate, has_begun) = (Gate::closed(), Gate::closed());
    let (door, begun) = (gate.clone(), has_begun.clone());
    let service = rig.serve(&Count::default(), move |run, co_commit| {
        let (door, begun) = (door.clone(), begun.clone());
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            Sqlite::insert(&mut transaction, &format!("run {run}")).await.unwrap();
            if run == 1 {
                begun.open();
                sleep(Duration::from_millis(60)).await;
            } else {
                door.pass().await;
            }
            rig::answer(201, run)
        }
    });
    let slow = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post_without_key()).await }
    });
    has_begun.pass().await;
    let next = tokio::spawn(async move { send(&service, post_without_key()).await });
    let slow = timeout(PATIENCE, slow).await.expect("it was given to the next handler").unwrap();
    assert_eq!((slow.status, &*slow.text), (201, "run 1"));
    gate.open();
    assert_eq!(next.await.unwrap().status, 201);
}

type Completing = JoinHandle<Result<Completion, StoreError>>;

/// The members of a group, of which all but the last are done.
struct Shared {
    done: Vec<Completing>,
    last: InTransaction<Sqlite>,
}

impl Shared {
    /// Has a group of `size` members. Each writes `row n`; the last is where it began.
    async fn of(store: &SqliteStore, size: usize) -> Self {
        for _ in 0..100 {
            let mut last = InTransaction::begin(store, ask()).await;
            let mut done: Vec<Completing> = Vec::new();
            for n in 1..size {
                let waiting = begins_later(store).await;
                last.write(&format!("row {n}")).await;
                done.push(tokio::spawn(last.transaction.complete(outcome("done"), true)));
                last = waiting.await.unwrap();
            }
            sleep(Duration::from_millis(1)).await;
            if done.iter().all(|done| !done.is_finished()) {
                return Self { done, last };
            }
            // Not all of them were in time.
            last.transaction.roll_back().await.unwrap();
            for done in done {
                done.await.unwrap().unwrap();
            }
            let clean = "DELETE FROM rows; DELETE FROM idempotency_records";
            store.pool().execute(clean).await.unwrap();
        }
        panic!("nobody shares a commit");
    }

    async fn are_committed(done: Vec<Completing>) {
        for done in done {
            let completed = timeout(PATIENCE, done).await.unwrap().unwrap().unwrap();
            assert!(matches!(completed, Completion::Committed), "{completed:?}");
        }
    }

    async fn are_rolled_back(done: Vec<Completing>) {
        for done in done {
            let error = timeout(PATIENCE, done).await.unwrap().unwrap().unwrap_err();
            assert_ne!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        }
    }
}

/// Has a claim look for its record, and wait for the writer.
async fn begins_later(store: &SqliteStore) -> JoinHandle<InTransaction<Sqlite>> {
    let store = store.clone();
    let waiting = tokio::spawn(async move { InTransaction::begin(&store, ask()).await });
    // Where that is too short, the transaction is not shared, and the test tries again.
    sleep(Duration::from_millis(3)).await;
    waiting
}

async fn store() -> (tempfile::TempDir, SqliteStore, SqlitePool) {
    Sqlite::open().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_commits_all() {
    let (_place, store, pool) = store().await;
    let Shared { done, mut last } = Shared::of(&store, 3).await;
    let mut beside = Sqlite::beside(&pool).await;
    assert!(!Sqlite::has_row(&mut beside, "row 1").await, "committed before the last");
    last.write("row 3").await;
    let before = commits(&pool);
    last.complete("done").await;
    Shared::are_committed(done).await;
    assert_eq!(commits(&pool) - before, 1);
    assert_eq!(Sqlite::rows(&pool).await, ["row 1", "row 2", "row 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_rolls_back_or_is_dropped_leaves_the_others_committed() {
    for is_dropped in [false, true] {
        let (_place, store, pool) = store().await;
        let Shared { done, mut last } = Shared::of(&store, 3).await;
        last.write("gone").await;
        if is_dropped {
            // With a statement on its way.
            let mut open = last.co_commit.begin().await.unwrap();
            dropped_after(1, Sqlite::insert(&mut open, "gone too")).await;
            drop((open, last));
        } else {
            last.transaction.roll_back().await.unwrap();
        }
        Shared::are_committed(done).await;
        assert_eq!(Sqlite::rows(&pool).await, ["row 1", "row 2"]);
        assert_eq!(Sqlite::records(&pool).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_in_other_hands_is_not_answered_and_leaves_the_others_committed() {
    let (_place, store, pool) = store().await;
    let Shared { done, mut last } = Shared::of(&store, 2).await;
    last.write("gone").await;
    let kept = last.co_commit.begin().await.unwrap();
    last.transaction.roll_back().await.unwrap_err();
    drop(kept);
    Shared::are_committed(done).await;
    assert_eq!(Sqlite::rows(&pool).await, ["row 1"]);
}

/// A refusal that is based on rows that were never committed is not sent either.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_read_what_is_then_rolled_back_is_not_answered_by_it() {
    for is_stored in [false, true] {
        let (_place, store, pool) = store().await;
        let (mut shared, mut rounds) = (false, 0);
        while !shared {
            rounds += 1;
            assert!(rounds < 100, "nobody shares a commit");
            let mut first = InTransaction::<Sqlite>::begin(&store, ask()).await;
            let second = begins_later(&store).await;
            let third = begins_later(&store).await;
            first.write("row 1").await;
            let first = tokio::spawn(first.transaction.complete(outcome("first"), true));
            let second = second.await.unwrap();
            let twice = Sqlite::insert(&mut *second.co_commit.begin().await.unwrap(), "row 1").await;
            assert!(twice.is_err(), "it reads what the first wrote");
            let second = tokio::spawn(async move {
                if is_stored {
                    second.transaction.complete(outcome("taken"), false).await.map(drop)
                } else {
                    second.transaction.roll_back().await
                }
            });
            let third = third.await.unwrap();
            sleep(Duration::from_millis(1)).await;
            shared = !first.is_finished() && !second.is_finished();
            if shared {
                Failure::Rollback.happens(&mut third.co_commit.begin().await.unwrap()).await;
            }
            assert_eq!(third.transaction.roll_back().await.is_err(), shared);
            let (first, second) = (first.await.unwrap(), second.await.unwrap());
            if shared {
                assert!(first.is_err() && second.is_err(), "{first:?} {second:?}");
                assert!(Sqlite::rows(&pool).await.is_empty());
                assert_eq!(Sqlite::records(&pool).await, 0);
            }
            pool.execute("DELETE FROM rows; DELETE FROM idempotency_records").await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_ends_the_transaction_fails_those_before_it_and_the_next_ones_commit_alone() {
    for failure in Failure::ALL {
        let (_place, store, pool) = store().await;
        let Shared { done, mut last } = Shared::of(&store, 3).await;
        last.write("row 3").await;
        failure.happens(&mut last.co_commit.begin().await.unwrap()).await;
        let error = last.transaction.complete(outcome("done"), true).await.unwrap_err();
        assert_ne!(error.kind(), StoreErrorKind::Unavailable, "{failure:?} {error:?}");
        Shared::are_rolled_back(done).await;
        assert!(Sqlite::rows(&pool).await.is_empty(), "{failure:?}");
        assert_eq!(Sqlite::records(&pool).await, 0, "{failure:?}");

        let before = commits(&pool);
        let claims: Vec<_> = (0..10)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut alone = InTransaction::<Sqlite>::begin(&store, ask()).await;
                    alone.write(&format!("alone {n}")).await;
                    alone.complete("done").await;
                })
            })
            .collect();
        for claim in claims {
            claim.await.unwrap();
        }
        assert_eq!(commits(&pool) - before, 10, "{failure:?}");
    }
}

/// A member is whole or not there, wherever its completion is dropped, and the others are committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_dropped_half_way_does_not_fail_the_others() {
    for polls in 1..16 {
        let (_place, store, pool) = store().await;
        let Shared { done, mut last } = Shared::of(&store, 2).await;
        last.write("last").await;
        let dropped = dropped_after(polls, last.transaction.complete(outcome("last"), true)).await;
        Shared::are_committed(done).await;
        // The writer is free again: the last member's task is over.
        InTransaction::<Sqlite>::begin(&store, ask()).await.transaction.roll_back().await.unwrap();
        let rows = Sqlite::rows(&pool).await.len();
        assert_eq!(i64::try_from(rows).unwrap(), Sqlite::records(&pool).await, "{polls} polls");
        assert!(dropped.is_none() || rows == 2, "{polls} polls");
    }
}

/// The same for those that wait for the commit of others, and for those that wait for their turn.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_may_go_away() {
    let (_place, store, pool) = store().await;
    let Shared { done, mut last } = Shared::of(&store, 3).await;
    for done in &done {
        done.abort();
    }
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { InTransaction::<Sqlite>::begin(&store, ask()).await.run })
        })
        .collect();
    sleep(Duration::from_millis(3)).await;
    for waiting in &waiting {
        waiting.abort();
    }
    last.write("row 3").await;
    last.complete("done").await;
    assert_eq!(Sqlite::rows(&pool).await, ["row 1", "row 2", "row 3"]);
    assert_eq!(Sqlite::records(&pool).await, 3);
}

/// It lasts until the COMMIT, so a handler that comes later in the same transaction would inherit it.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_that_one_handler_defers_are_not_deferred_for_another() {
    let rig = Way::WithoutKey.rig().await;
    rig.pool.execute("CREATE TABLE kin (parent INTEGER REFERENCES parents (id))").await.unwrap();
    let service = rig.serve(&Count::default(), |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        if run % 8 == 0 {
            let deferred = "PRAGMA defer_foreign_keys = ON; INSERT INTO kin VALUES (7); DELETE FROM kin";
            transaction.execute(deferred).await.unwrap();
            return rig::answer(201, run);
        }
        let refused = transaction.execute("INSERT INTO kin VALUES (7)").await.is_err();
        rig::answer(if refused { 201 } else { 500 }, run)
    });
    let answers = at_once(&service, Way::WithoutKey, 4 * CLIENTS).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
}
