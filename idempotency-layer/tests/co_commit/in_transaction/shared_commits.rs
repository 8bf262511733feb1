//! Random histories of SQLite transactions that share commits, beside leased claims and statements of the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Extensions;
use idempotency_layer::{
    Claim, ClaimRequest, CoCommit, Completion, Fenced, RequestTransaction, Run, SqliteStore, Store,
    StoreError, StoreErrorKind,
};
use sqlx::{Executor, Sqlite, SqliteConnection, SqlitePool, query_scalar};
use tokio::sync::Mutex;
use tokio::task::yield_now;

use super::raw::{self, ask, claim, hasty, outcome, rival};
use crate::database::Bench;
use crate::random::Random;
use crate::rig::dropped_after;
use crate::sqlite_shared_commits::Failure;

const CLIENTS: usize = 12;
const RECORDS: usize = 4;

/// What a client does.
#[derive(Clone, Debug)]
struct Script {
    way: Way,
    /// Where it counts, the record that it claims.
    record: usize,
    end: End,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Claims in the transaction.
    InTransaction,
    /// Claims with a lease, and writes in a transaction that is offered to it.
    Leased,
    /// Claims with a lease that is over at once.
    Hasty,
    /// Claims with a lease, and writes nothing.
    LeasedAlone,
    /// Writes in a transaction that is offered to it, without a record.
    WithoutKey,
    /// A statement of the application, or a transaction of its own.
    Application,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Row and answer.
    Commit,
    /// An answer without the row.
    Refuse,
    /// Neither.
    RollBack,
    Drop,
    /// The commit is dropped after that many polls.
    DropHalfWay(usize),
    /// Ends the transaction of all that share it.
    Break(Failure),
}

/// What a client knows at its end.
#[derive(Debug, PartialEq)]
enum Told {
    Committed,
    /// Its answer is stored without its row.
    StoredAlone,
    /// Nothing of it is there.
    Nothing,
    /// The same, and it must not give its response: what it read may not be there either.
    RolledBack,
    Replayed(String),
    InProgress,
    /// Whether it was committed. It is whole, or not there.
    Unknown,
}

/// A client's part in a history. The moments are steps of the history's clock.
#[derive(Debug)]
struct Part {
    script: Script,
    text: String,
    began: u64,
    /// When it was granted the claim, and as which run.
    granted: Option<(u64, Run)>,
    /// When it began to end its run.
    ends: u64,
    told: Told,
    told_at: u64,
    /// The rows of others that it read before they were committed.
    shared: usize,
}

/// Clients that act at the same time, each by its script.
struct History {
    name: String,
    store: SqliteStore,
    requests: [ClaimRequest; RECORDS],
    clock: AtomicU64,
    /// Sees what is committed, and nothing else.
    beside: Arc<Mutex<SqliteConnection>>,
    breaks: bool,
}

impl Script {
    fn new(random: &mut Random, breaks: bool) -> Self {
        const WAYS: [Way; 8] = [
            Way::InTransaction,
            Way::InTransaction,
            Way::InTransaction,
            Way::Leased,
            Way::Hasty,
            Way::LeasedAlone,
            Way::WithoutKey,
            Way::Application,
        ];
        let failure = Failure::ALL[random.below(Failure::ALL.len())];
        let end = match random.below(16) {
            0..8 => End::Commit,
            8..10 => End::Refuse,
            10..12 => End::RollBack,
            12 => End::Drop,
            13 => End::DropHalfWay(1 + random.below(12)),
            _ if breaks => End::Break(failure),
            _ => End::Commit,
        };
        Self {
            way: WAYS[random.below(WAYS.len())],
            record: random.below(RECORDS),
            end,
            random: Random(random.next()),
        }
    }
}

impl Part {
    fn alone(&self) -> String {
        format!("{} alone", self.text)
    }

    fn has_record(&self) -> bool {
        !matches!(self.script.way, Way::WithoutKey | Way::Application)
    }

    fn has_row(&self) -> bool {
        self.script.way != Way::LeasedAlone
    }

    /// Notes the end of a transaction. One that failed was rolled back.
    fn ended<T>(&mut self, ended: Option<Result<T, StoreError>>, told: impl FnOnce(T) -> Told) {
        self.told = match ended {
            None => Told::Unknown,
            Some(Ok(ended)) => told(ended),
            Some(Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::RolledBack, "{error:?} of {self:?}");
                Told::RolledBack
            }
        };
    }
}

impl History {
    async fn play(self, random: &mut Random) -> Vec<Part> {
        let scripts: Vec<_> = (0..CLIENTS).map(|_| Script::new(random, self.breaks)).collect();
        let history = Arc::new(self);
        let clients: Vec<_> = scripts
            .into_iter()
            .enumerate()
            .map(|(client, script)| {
                let history = history.clone();
                tokio::spawn(async move { history.follow(client, script).await })
            })
            .collect();
        let mut parts = Vec::new();
        for client in clients {
            parts.push(client.await.unwrap());
        }
        history.check(&parts).await;
        parts
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn follow(&self, client: usize, mut script: Script) -> Part {
        pause(&mut script.random).await;
        let began = self.tick();
        let mut part = Part {
            text: format!("{} {client}", self.name),
            script,
            began,
            granted: None,
            ends: began,
            told: Told::Unknown,
            told_at: 0,
            shared: 0,
        };
        match part.script.way {
            Way::InTransaction => self.in_transaction(&mut part).await,
            Way::Leased | Way::Hasty | Way::LeasedAlone => self.leased(&mut part).await,
            Way::WithoutKey => self.without_key(&mut part).await,
            Way::Application => self.application(&mut part).await,
        }
        part.told_at = self.tick();
        self.is_there(&part).await;
        part
    }

    async fn in_transaction(&self, part: &mut Part) {
        let request = rival(self.requests[part.script.record]);
        let claimed = match claim::<Sqlite>(&self.store, request).await {
            Ok(claimed) => claimed,
            Err(claim) => return part.told = answer(&claim),
        };
        part.granted = Some((self.tick(), claimed.run));
        let read = self.write(part, &claimed.co_commit).await;
        part.ends = self.tick();
        let transaction = claimed.transaction;
        let (text, alone) = (outcome(&part.text), outcome(&part.alone()));
        let completed = |completion| match completion {
            Completion::Committed => Told::Committed,
            Completion::Overtaken(claim) => answer(&claim),
            other => panic!("{other:?}"),
        };
        match part.script.end {
            End::Commit | End::Break(_) => {
                part.ended(Some(transaction.complete(text, true).await), completed);
            }
            End::Refuse => {
                let ended = transaction.complete(alone, false).await;
                part.ended(Some(ended), |completion| match completed(completion) {
                    Told::Committed => Told::StoredAlone,
                    other => other,
                });
            }
            End::RollBack => part.ended(Some(transaction.roll_back().await), |()| Told::Nothing),
            End::Drop => {
                drop((transaction, claimed.co_commit));
                part.told = Told::Nothing;
                return;
            }
            End::DropHalfWay(polls) => {
                part.ended(dropped_after(polls, transaction.complete(text, true)).await, completed);
            }
        }
        self.are_there(part, read).await;
    }

    async fn leased(&self, part: &mut Part) {
        let request = self.requests[part.script.record];
        let request = if part.script.way == Way::Hasty { hasty(request) } else { rival(request) };
        let run = match self.store.claim(request).await.unwrap() {
            Claim::Run(run) => run,
            other => return part.told = answer(&other),
        };
        let (record, fence) = (request.record, run.fence);
        part.granted = Some((self.tick(), run));
        let (co_commit, transaction) = self.offer();
        let mut read = Vec::new();
        if part.script.way != Way::LeasedAlone {
            read = self.write(part, &co_commit).await;
        }
        part.ends = self.tick();
        let fenced = |told| move |fenced| if fenced == Fenced::Held { told } else { Told::Nothing };
        let (text, alone) = (outcome(&part.text), outcome(&part.alone()));
        let is_begun = transaction.is_begun();
        match part.script.end {
            End::Drop => {
                part.told = Told::Nothing;
                return;
            }
            End::DropHalfWay(polls) if is_begun => {
                let ended = dropped_after(polls, transaction.complete(record, fence, text)).await;
                part.ended(ended, fenced(Told::Committed));
            }
            End::Commit | End::Break(_) if is_begun => {
                part.ended(Some(transaction.complete(record, fence, text).await), fenced(Told::Committed));
            }
            End::Commit | End::Refuse | End::Break(_) | End::DropHalfWay(_) => {
                part.ended(Some(transaction.roll_back().await), |()| Told::StoredAlone);
                if part.told == Told::StoredAlone {
                    let ended = self.store.complete(record, fence, alone).await;
                    part.ended(Some(ended), fenced(Told::StoredAlone));
                }
            }
            End::RollBack => part.ended(Some(transaction.roll_back().await), |()| Told::Nothing),
        }
        self.are_there(part, read).await;
        if matches!(part.told, Told::Nothing | Told::RolledBack) {
            let _: Fenced = self.store.release(record, fence).await.unwrap();
        }
    }

    async fn without_key(&self, part: &mut Part) {
        let (co_commit, transaction) = self.offer();
        let read = self.write(part, &co_commit).await;
        match part.script.end {
            End::Commit | End::Break(_) => {
                part.ended(Some(transaction.commit().await), |()| Told::Committed);
            }
            End::Refuse | End::RollBack => {
                part.ended(Some(transaction.roll_back().await), |()| Told::Nothing);
            }
            End::Drop => {
                drop((transaction, co_commit));
                part.told = Told::Nothing;
                return;
            }
            End::DropHalfWay(polls) => {
                part.ended(dropped_after(polls, transaction.commit()).await, |()| Told::Committed);
            }
        }
        self.are_there(part, read).await;
    }

    async fn application(&self, part: &mut Part) {
        let pool = self.store.pool();
        if part.script.random.one_in(2) {
            Sqlite::insert(&mut *pool.acquire().await.unwrap(), &part.text).await.unwrap();
            return part.told = Told::Committed;
        }
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Sqlite::insert(&mut transaction, &part.text).await.unwrap();
        pause(&mut part.script.random).await;
        part.told = if part.script.end == End::Commit {
            transaction.commit().await.unwrap();
            Told::Committed
        } else {
            drop(transaction);
            Told::Nothing
        };
    }

    fn offer(&self) -> (CoCommit<Sqlite>, Box<dyn RequestTransaction>) {
        let mut extensions = Extensions::new();
        let transaction = self.store.offer_transaction(&mut extensions).expect("a transaction is offered");
        (extensions.remove().expect("a transaction is offered"), transaction)
    }

    /// Writes a client's row, and returns the rows of others that it reads.
    async fn write(&self, part: &mut Part, co_commit: &CoCommit<Sqlite>) -> Vec<String> {
        pause(&mut part.script.random).await;
        let mut transaction = co_commit.begin().await.unwrap();
        let read = rows(&mut transaction, &self.name).await;
        Sqlite::insert(&mut transaction, &part.text).await.unwrap();
        let committed = rows(&mut *self.beside.lock().await, &self.name).await;
        part.shared = read.iter().filter(|row| !committed.contains(row)).count();
        pause(&mut part.script.random).await;
        if let End::Break(failure) = part.script.end {
            failure.happens(&mut transaction).await;
        }
        read
    }

    /// Checks that what a client was told is committed.
    async fn is_there(&self, part: &Part) {
        let row = match &part.told {
            Told::Committed if part.has_row() => part.text.clone(),
            Told::Replayed(text) if !text.ends_with("alone") => text.clone(),
            _ => return,
        };
        self.are_there(part, vec![row]).await;
    }

    /// Checks that the rows which a client read are committed when it has its answer.
    async fn are_there(&self, part: &Part, read: Vec<String>) {
        if matches!(part.told, Told::RolledBack | Told::Unknown) || read.is_empty() {
            return;
        }
        let committed = rows(&mut *self.beside.lock().await, &self.name).await;
        assert!(read.iter().all(|row| committed.contains(row)), "{read:?} of {committed:?}: {part:?}");
    }

    /// Compares the clients' answers with one another, and with the rows and records.
    async fn check(&self, parts: &[Part]) {
        // A claim waits for the writer, and so for whatever a client has left.
        let mut stored = Vec::new();
        for request in self.requests {
            stored.push(match self.store.claim(rival(request)).await.unwrap() {
                Claim::Replay { response, .. } => Some(raw::text(&response).to_owned()),
                Claim::Run(_) | Claim::InFlight { .. } => None,
                other => panic!("{other:?}"),
            });
        }
        let rows = rows(&mut *self.beside.lock().await, &self.name).await;
        for (record, stored) in stored.iter().enumerate() {
            let its: Vec<&Part> =
                parts.iter().filter(|part| part.has_record() && part.script.record == record).collect();
            for part in &its {
                let good = self.is_true(part, stored.as_deref(), &rows, &its);
                assert!(good, "{part:#?} of a record that has {stored:?} of {rows:?}: {its:#?}");
            }
        }
        for part in parts.iter().filter(|part| !part.has_record()) {
            let is_there = rows.contains(&part.text);
            let good = part.told == Told::Unknown || is_there == (part.told == Told::Committed);
            assert!(good, "{rows:?}: {part:#?}");
        }
        for row in &rows {
            assert!(parts.iter().any(|part| part.text == *row), "{row} is nobody's");
        }
    }

    /// Returns whether what a client was told agrees with the model: one answer for each record, and one row with it.
    fn is_true(&self, part: &Part, stored: Option<&str>, rows: &[String], its: &[&Part]) -> bool {
        let has_row = rows.contains(&part.text);
        let is_stored = stored == Some(&part.text);
        let is_alone = stored == Some(&part.alone());
        // Row and answer never part.
        if has_row != (is_stored && part.has_row()) {
            return false;
        }
        let told = match &part.told {
            Told::Committed => is_stored,
            Told::StoredAlone => is_alone,
            Told::Nothing | Told::RolledBack => !is_stored && !is_alone,
            Told::Replayed(text) => stored == Some(text),
            Told::InProgress => its.iter().any(|other| other.began < part.told_at && other.granted.is_some()),
            Told::Unknown => true,
        };
        // A request that comes after the record was complete does not run.
        let was_complete = |other: &&Part| {
            matches!(other.told, Told::Committed | Told::StoredAlone | Told::Replayed(_))
                && other.told_at < part.began
        };
        let is_late = its.iter().any(was_complete);
        let runs = part.granted.as_ref().is_none_or(|(granted, run)| {
            let is_beside = |other: &&Part| {
                let Some((since, its)) = &other.granted else { return false };
                // A lease that is over at once may have an heir before its client goes on.
                let is_heir = part.script.way == Way::Hasty && its.attempt > run.attempt;
                since < granted && *granted < other.ends && other.script.way != Way::Hasty && !is_heir
            };
            let orphaned = |other: &&Part| other.script.way == Way::Hasty && other.granted.is_some();
            !its.iter().any(is_beside) && (!run.orphan || its.iter().any(orphaned))
        });
        let fails = match part.told {
            Told::RolledBack => self.breaks,
            Told::Nothing => {
                part.script.way == Way::Hasty || matches!(part.script.end, End::RollBack | End::Drop)
            }
            _ => true,
        };
        told && runs && fails && (!is_late || matches!(part.told, Told::Replayed(_)))
    }
}

fn answer(claim: &Claim) -> Told {
    match claim {
        Claim::Replay { response, .. } => Told::Replayed(raw::text(response).to_owned()),
        Claim::InFlight { .. } => Told::InProgress,
        other => panic!("{other:?}"),
    }
}

async fn pause(random: &mut Random) {
    for _ in 0..random.below(6) {
        yield_now().await;
    }
}

async fn rows(connection: &mut SqliteConnection, history: &str) -> Vec<String> {
    let rows = query_scalar("SELECT row FROM rows WHERE row BETWEEN $1 || ' ' AND $1 || ' ~'").bind(history);
    rows.fetch_all(connection).await.unwrap()
}

/// Returns a store with groups of its own: after a group has failed, those of a store stay apart for a second.
async fn fresh(pool: &SqlitePool) -> SqliteStore {
    // Thousands of commits that wait for the disk would take too long.
    pool.execute("PRAGMA synchronous = OFF").await.unwrap();
    SqliteStore::new(pool.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_thousands_of_histories_of_shared_commits_no_row_and_no_answer_part() {
    const HISTORIES: usize = 2_000;
    const AT_ONCE: usize = 4;
    let seed = Random::seed();
    let tasks = (0..AT_ONCE).map(|task| {
        tokio::spawn(async move {
            let (_place, _, pool) = Sqlite::open().await;
            let beside = Arc::new(Mutex::new(Sqlite::beside(&pool).await));
            let mut store = fresh(&pool).await;
            let (mut shared, mut largest) = (0, 0);
            for n in (0..HISTORIES).filter(|n| n % AT_ONCE == task) {
                let seed = seed.wrapping_add(n as u64);
                let mut random = Random(seed);
                let breaks = random.one_in(4);
                let history = History {
                    name: format!("{seed}"),
                    store: store.clone(),
                    requests: std::array::from_fn(|_| ask()),
                    clock: AtomicU64::new(0),
                    beside: beside.clone(),
                    breaks,
                };
                let parts = history.play(&mut random).await;
                shared += parts.iter().filter(|part| part.shared > 0).count();
                largest = parts.iter().map(|part| 1 + part.shared).max().max(Some(largest)).unwrap_or(0);
                if breaks {
                    store = fresh(&pool).await;
                }
            }
            (shared, largest)
        })
    });
    let (mut shared, mut largest) = (0, 0);
    for task in tasks.collect::<Vec<_>>() {
        let (its_shared, its_largest) = task.await.unwrap();
        (shared, largest) = (shared + its_shared, largest.max(its_largest));
    }
    eprintln!("{shared} members read rows before their commit; the largest group had {largest} or more");
    assert!(shared > HISTORIES && largest >= 6, "{shared} shared, {largest} in a group");
}
