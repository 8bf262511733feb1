//! Random drops at every await of a request and its handler: no connection of the pool is left inside a transaction, and every
//! answer is true.

use std::sync::{Arc, Mutex};

use idempotency_layer::{CoCommit, OnDisconnect, RejectionKind};
use sqlx::{Postgres, Sqlite};
use tokio::sync::oneshot;

use crate::database::{Bench, open_sqlite};
use crate::random::Random;
use crate::rig::{self, Answer, Count, Rig, builder, dropped_after, request, send};

const WORKERS: u64 = 4;
/// Makes the text of a new row.
const THERE: &str = "there";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_random_drops_every_later_write_is_visible_on_postgres() {
    let rig = Rig::<Postgres>::small(3, |builder| builder.on_disconnect(OnDisconnect::Cancel)).await;
    drop_at_random(rig, 1000, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_random_drops_every_later_write_is_visible_on_sqlite() {
    let rig = Rig::<Sqlite>::small(1, |builder| builder.on_disconnect(OnDisconnect::Cancel)).await;
    drop_at_random(rig, 1000, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_drops_do_not_lose_a_database_in_memory() {
    let (store, pool) = open_sqlite("sqlite::memory:").await;
    let builder = builder(store).on_disconnect(OnDisconnect::Cancel);
    let rig = Rig::<Sqlite>::on(tempfile::tempdir().unwrap(), builder, pool.clone());
    drop_at_random(rig, 500, false).await;
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM rows WHERE row LIKE 'autocommit %'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(written, 500);
}

/// The actions of a handler.
#[derive(Debug, Default)]
struct Log {
    /// Rows that must exist after a commit.
    kept: Vec<String>,
    /// Rows that were rolled back. (The result of a write or a release that was dropped half way is unknown.)
    undone: Vec<String>,
    /// Whether a savepoint was dropped half way. sqlx may then roll back the whole transaction, and later writes are outside
    /// of one.
    lost_savepoint: bool,
    /// Whether the release of a savepoint was dropped half way. sqlx then rolls back to a savepoint of that name. On PostgreSQL
    /// it may be an earlier one, and later writes are lost. If there is none, the transaction is aborted, and the next savepoint
    /// that cannot begin makes sqlx end the whole transaction.
    lost_release: bool,
}

type SharedLog = Arc<Mutex<Log>>;

async fn drop_at_random<DB: Bench>(rig: Rig<DB>, rounds: u64, has_beside: bool) {
    let seed = Random::seed();
    eprintln!("SEED={seed}");
    let rig = Arc::new(rig);
    DB::insert(&mut *rig.pool.acquire().await.unwrap(), THERE).await.unwrap();
    let workers = (0..WORKERS).map(|worker| {
        let rig = rig.clone();
        tokio::spawn(async move {
            let mut left = Vec::new();
            let mut beside = if has_beside { Some(DB::beside(&rig.pool).await) } else { None };
            for number in (worker..rounds).step_by(usize::try_from(WORKERS).unwrap()) {
                let random = Random(seed.wrapping_add(number << 32));
                let (log, answer) = round(&rig, number, random).await;
                // The application writes a row without the layer.
                let row = format!("autocommit {number}");
                DB::insert(&mut *rig.pool.acquire().await.unwrap(), &row).await.unwrap();
                if let Some(beside) = &mut beside {
                    assert!(DB::has_row(beside, &row).await, "{number}: the row of a stranger is lost");
                    match answer {
                        Some(answer) => check::<DB>(beside, number, &log, &answer).await,
                        None => left.push((number, log)),
                    }
                }
            }
            left
        })
    });
    let mut left = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        left.extend(worker.await.unwrap());
    }
    rig.detached_are_done().await;
    if has_beside {
        let mut beside = DB::beside(&rig.pool).await;
        DB::nobody_is_in_a_transaction(&mut beside).await;
        for (number, log) in left {
            let log = std::mem::take(&mut *log.lock().unwrap());
            let there = rows_there::<DB>(&mut beside, &log.kept).await;
            let whole = there.is_empty() || there.len() == log.kept.len();
            assert!(
                whole || log.lost_savepoint || log.lost_release,
                "{number}: {log:?}, of these {there:?} are there"
            );
        }
    }
}

/// Sends one request. Returns `None` if its client disconnected.
async fn round<DB: Bench>(rig: &Rig<DB>, number: u64, mut random: Random) -> (SharedLog, Option<Answer>) {
    let (log, keyed) = (SharedLog::default(), random.one_in(2));
    let (tell, told) = oneshot::channel();
    let (leaves_at, tell) = (random.below(6), Arc::new(Mutex::new(Some(tell))));
    let (polls, seed, status) =
        (1 + random.below(20), random.next(), if random.one_in(3) { 503 } else { 201 });
    let leaves = random.below(4);
    let written = log.clone();
    let service = rig.serve(&Count::default(), move |run, co_commit| {
        let (log, tell) = (written.clone(), tell.clone());
        async move {
            let steps = handle(number, Random(seed), &co_commit, &log, |step| {
                if step == leaves_at
                    && let Some(tell) = tell.lock().unwrap().take()
                {
                    let _ = tell.send(());
                }
            });
            let status = if steps.await { status } else { 500 };
            rig::answer(status, run)
        }
    });
    let answered = send(&service, request(keyed, &format!("key-{number}")));
    let answer = match leaves {
        0 => dropped_after(polls, answered).await,
        1 => tokio::select! {
            answer = answered => Some(answer),
            Ok(()) = told => None,
        },
        _ => Some(answered.await),
    };
    (log, answer)
}

/// Runs the handler. Returns `false` if it could not go on.
async fn handle<DB: Bench>(
    number: u64,
    mut random: Random,
    co_commit: &CoCommit<DB>,
    log: &SharedLog,
    comes_to: impl Fn(usize) + Send,
) -> bool {
    for step in 0..=random.below(6) {
        comes_to(step);
        let mut transaction = match random.maybe(4, co_commit.begin()).await {
            Some(Ok(transaction)) => transaction,
            Some(Err(_)) => return false,
            None => continue,
        };
        let row = format!("{number} step {step}");
        match random.below(8) {
            0..3 => match random.maybe(6, DB::insert(&mut transaction, &row)).await {
                Some(Ok(())) => log.lock().unwrap().kept.push(row),
                Some(Err(_)) => return false,
                None => {}
            },
            3..6 => {
                let mut savepoint = match random.maybe(4, transaction.begin()).await {
                    Some(Ok(savepoint)) => savepoint,
                    Some(Err(_)) => return false,
                    None => {
                        log.lock().unwrap().lost_savepoint = true;
                        continue;
                    }
                };
                let inserted = random.maybe(6, DB::insert(&mut savepoint, &row)).await;
                if let Some(Err(_)) = inserted {
                    return false;
                }
                let (releases, rolls_back) = (random.one_in(2), random.one_in(2));
                let ended = if releases {
                    random.maybe(4, savepoint.commit()).await
                } else if rolls_back {
                    random.maybe(4, savepoint.rollback()).await
                } else {
                    None // dropped
                };
                match (inserted, ended) {
                    (_, None) if releases => log.lock().unwrap().lost_release = true,
                    // The same as for one that was begun half way: sqlx may end the whole transaction.
                    (_, None) if rolls_back => log.lock().unwrap().lost_savepoint = true,
                    (_, Some(Err(_))) => return false,
                    (Some(_), Some(_)) if releases => log.lock().unwrap().kept.push(row),
                    (Some(_), Some(_)) => log.lock().unwrap().undone.push(row),
                    _ => {}
                }
            }
            6 => {
                drop(transaction);
                {
                    let mut log = log.lock().unwrap();
                    let kept = std::mem::take(&mut log.kept);
                    log.undone.extend(kept);
                }
                if let Some(Err(_)) = random.maybe(4, co_commit.roll_back()).await {
                    return false;
                }
            }
            _ => {
                DB::insert(&mut transaction, THERE).await.unwrap_err();
                // A mistake on PostgreSQL.
                if random.one_in(2) {
                    return false;
                }
            }
        }
    }
    true
}

/// Checks that the answer agrees with the rows.
async fn check<DB: Bench>(beside: &mut DB::Connection, number: u64, log: &SharedLog, answer: &Answer) {
    let Log { kept, undone, lost_savepoint, lost_release } = std::mem::take(&mut *log.lock().unwrap());
    let kept_there = rows_there::<DB>(beside, &kept).await;
    let undone_there = rows_there::<DB>(beside, &undone).await;
    let holds = match (answer.status, answer.kind) {
        (201, None) => kept_there == kept && undone_there.is_empty(),
        (500 | 503, None) => lost_savepoint || (kept_there.is_empty() && undone_there.is_empty()),
        // After a lost savepoint, sqlx may have ended the transaction before the handler rolled back.
        (503, Some(RejectionKind::RolledBack)) => {
            kept_there.is_empty() && (undone_there.is_empty() || lost_savepoint)
        }
        (503, Some(RejectionKind::NotRecorded | RejectionKind::CommitUnknown)) => {
            lost_savepoint || lost_release
        }
        _ => false,
    };
    assert!(
        holds,
        "{number}: {answer:?}; kept {kept:?}, of these there: {kept_there:?}; undone {undone:?}, of these there: \
         {undone_there:?}; lost savepoint: {lost_savepoint}, release: {lost_release}"
    );
}

async fn rows_there<DB: Bench>(beside: &mut DB::Connection, rows: &[String]) -> Vec<String> {
    let mut there = Vec::new();
    for row in rows {
        if DB::has_row(beside, row).await {
            there.push(row.clone());
        }
    }
    there
}
