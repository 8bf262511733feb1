//! Leased claims and claims in the transaction on the same records, as in a rolling deployment.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempotency_layer::{
    Claim, ClaimRequest, Completion, Fence, Fenced, PostgresStore, RejectionKind, Run, Store,
};
use sqlx::{AssertSqlSafe, Pool, Postgres, query_scalar};
use tokio::time::sleep;

use super::raw::{self, InTransaction, ask, claim, hasty, outcome, rival};
use crate::database::Bench;
use crate::random::Random;
use crate::rig::{self, Count, Rig, Service, now, post, send};

/// What a client holds.
enum Actor {
    Idle,
    /// A leased claim, which another client may have taken over.
    Leased(Fence),
    InTransaction {
        claimed: InTransaction<Postgres>,
        /// The fence of the orphan that it took over.
        orphan: Option<Fence>,
    },
}

/// The record in the model.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    Unknown,
    Running { fence: Fence, attempt: u32, lease_over: bool },
    Complete(String),
}

/// One record and three clients that take random steps. Each answer is compared with the model.
struct History {
    stores: [PostgresStore; 2],
    pool: Pool<Postgres>,
    random: Random,
    request: ClaimRequest,
    name: String,
    record: Record,
    /// The store whose transaction holds the lock.
    lock: Option<usize>,
    actors: [Actor; 3],
    steps: String,
}

impl History {
    fn new(stores: &[PostgresStore; 2], pool: &Pool<Postgres>, seed: u64) -> Self {
        Self {
            stores: stores.clone(),
            pool: pool.clone(),
            random: Random(seed),
            request: ask(),
            name: format!("{seed}"),
            record: Record::Unknown,
            lock: None,
            actors: [const { Actor::Idle }; 3],
            steps: format!("seed {seed}"),
        }
    }

    async fn play(mut self) {
        for step in 0..8 {
            let who = self.random.below(3);
            match std::mem::replace(&mut self.actors[who], Actor::Idle) {
                Actor::Idle if self.random.below(2) == 0 => self.claim_leased(who).await,
                Actor::Idle => self.claim_in_transaction(who).await,
                Actor::Leased(fence) => self.act_leased(who, fence, step).await,
                Actor::InTransaction { claimed, orphan } => self.end(who, claimed, orphan, step).await,
            }
        }
        // Clients that are left end as if they were killed.
        self.actors = [const { Actor::Idle }; 3];
        let rows = format!("SELECT row FROM rows WHERE row LIKE '{} %'", self.name);
        let rows: Vec<String> = query_scalar(AssertSqlSafe(rows)).fetch_all(&self.pool).await.unwrap();
        match &self.record {
            Record::Complete(by) if by.starts_with("leased") => assert!(rows.is_empty(), "{}", self.steps),
            Record::Complete(by) => assert_eq!(rows, [format!("{} {by}", self.name)], "{}", self.steps),
            _ => assert!(rows.is_empty(), "{}", self.steps),
        }
    }

    fn note(&mut self, who: usize, what: &str) {
        let _ = write!(self.steps, "; {who} {what}");
    }

    /// Returns the answer to a claim that does not run. `store` is set for a claim in the transaction.
    fn is_answer(&self, claim: &Claim, store: Option<usize>) -> bool {
        match (claim, &self.record) {
            // The store in which the record runs answers without the database.
            (Claim::InFlight { .. }, _) if store.is_some() && self.lock == store => true,
            (Claim::Replay { response, .. }, Record::Complete(by)) => raw::text(response) == by,
            (Claim::InFlight { .. }, Record::Running { lease_over: false, .. }) => true,
            (Claim::InFlight { .. }, Record::Running { .. } | Record::Unknown) => self.lock.is_some(),
            _ => false,
        }
    }

    /// Returns the attempt of a claim that runs, and whether it takes over an orphan.
    fn runs(&self) -> Option<(u32, bool)> {
        match self.record {
            _ if self.lock.is_some() => None,
            Record::Unknown => Some((1, false)),
            Record::Running { attempt, lease_over: true, .. } => Some((attempt + 1, true)),
            _ => None,
        }
    }

    fn check(&self, answer: Result<&Run, &Claim>, store: Option<usize>) {
        let good = match (answer, self.runs()) {
            (Ok(run), Some((attempt, orphan))) => run.attempt == attempt && run.orphan == orphan,
            (Err(claim), None) => self.is_answer(claim, store),
            _ => false,
        };
        assert!(good, "{answer:?} of {:?}, lock {:?}: {}", self.record, self.lock, self.steps);
    }

    async fn claim_leased(&mut self, who: usize) {
        let is_hasty = self.random.below(2) == 0;
        self.note(who, if is_hasty { "claims for 1 ms" } else { "claims" });
        let request = if is_hasty { hasty(self.request) } else { rival(self.request) };
        match self.stores[self.random.below(2)].claim(request).await.unwrap() {
            Claim::Run(run) => {
                self.check(Ok(&run), None);
                if is_hasty {
                    sleep(Duration::from_millis(3)).await;
                }
                self.actors[who] = Actor::Leased(run.fence);
                self.record =
                    Record::Running { fence: run.fence, attempt: run.attempt, lease_over: is_hasty };
            }
            other => self.check(Err(&other), None),
        }
    }

    async fn claim_in_transaction(&mut self, who: usize) {
        self.note(who, "claims in a transaction");
        let store = self.random.below(2);
        match claim::<Postgres>(&self.stores[store], rival(self.request)).await {
            Ok(claimed) => {
                self.check(Ok(&claimed.run), Some(store));
                let orphan = match self.record {
                    Record::Running { fence, .. } => Some(fence),
                    _ => None,
                };
                self.lock = Some(store);
                self.actors[who] = Actor::InTransaction { claimed, orphan };
            }
            Err(other) => self.check(Err(&other), Some(store)),
        }
    }

    async fn act_leased(&mut self, who: usize, fence: Fence, step: usize) {
        let store = self.stores[self.random.below(2)].clone();
        let is_its_own = matches!(&self.record, Record::Running { fence: current, .. } if *current == fence);
        let expected = if is_its_own { Fenced::Held } else { Fenced::Stale };
        let record = self.request.record;
        match self.random.below(4) {
            0 => {
                self.note(who, "extends");
                let fenced = store.extend(record, fence, raw::LONG).await.unwrap();
                assert_eq!(fenced, expected, "{}", self.steps);
                if let (true, Record::Running { lease_over, .. }) = (is_its_own, &mut self.record) {
                    *lease_over = false;
                }
                self.actors[who] = Actor::Leased(fence);
            }
            1 => {
                self.note(who, "releases");
                let fenced = store.release(record, fence).await.unwrap();
                assert_eq!(fenced, expected, "{}", self.steps);
                if is_its_own {
                    self.record = Record::Unknown;
                }
            }
            _ => {
                self.note(who, "completes");
                let text = format!("leased {step}");
                let fenced = store.complete(record, fence, outcome(&text)).await.unwrap();
                assert_eq!(fenced, expected, "{}", self.steps);
                if is_its_own {
                    self.record = Record::Complete(text);
                }
            }
        }
    }

    async fn end(
        &mut self,
        who: usize,
        mut claimed: InTransaction<Postgres>,
        orphan: Option<Fence>,
        step: usize,
    ) {
        let text = format!("in transaction {step}");
        claimed.write(&format!("{} {text}", self.name)).await;
        match self.random.below(4) {
            0 => {
                self.note(who, "rolls back");
                claimed.transaction.roll_back().await.unwrap();
                self.lock = None;
            }
            1 => {
                self.note(who, "stays");
                claimed.co_commit.roll_back().await.unwrap();
                self.actors[who] = Actor::InTransaction { claimed, orphan };
            }
            _ => {
                self.note(who, "completes its transaction");
                let completed = claimed.complete(&text).await;
                self.lock = None;
                // Its late owner may have completed the record first, or the record may be forgotten.
                let is_first = match &self.record {
                    Record::Complete(_) => false,
                    Record::Unknown => true,
                    Record::Running { fence, .. } => orphan == Some(*fence),
                };
                match completed {
                    Completion::Committed if is_first => self.record = Record::Complete(text),
                    Completion::Overtaken(claim) if !is_first && self.is_answer(&claim, None) => {}
                    other => panic!("{other:?} of {:?}: {}", self.record, self.steps),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_histories_of_both_kinds_of_claims_are_as_the_model_says() {
    const HISTORIES: u64 = 10_000;
    const AT_ONCE: u64 = 16;
    let ((), store, pool) = Postgres::open_with(32).await;
    let stores = [store, Postgres::open_again(&pool).await];
    let seed = Random::seed();
    let tasks = (0..AT_ONCE).map(|task| {
        let (stores, pool) = (stores.clone(), pool.clone());
        tokio::spawn(async move {
            for n in (0..HISTORIES).filter(|n| n % AT_ONCE == task) {
                History::new(&stores, &pool, seed.wrapping_add(n)).play().await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Sixteen clients with few keys, half of them with leased claims: one effect and one answer for each key.
struct Crowd<DB: Bench> {
    rig: Rig<DB>,
    services: Vec<Service>,
    /// The number of handlers that ran at the same time as another one of the same key.
    overlaps: Arc<AtomicUsize>,
}

const KEYS: usize = 40;
const CLIENTS: usize = 16;

impl<DB: Bench> Crowd<DB> {
    /// Layers of two processes. With short leases, every other leased handler outlasts its lease.
    async fn new(lease: Duration, is_late: bool) -> Self {
        let rig = Rig::<DB>::with(|builder| builder).await;
        let overlaps = Arc::new(AtomicUsize::new(0));
        let running: Arc<Vec<AtomicUsize>> = Arc::new((0..KEYS).map(|_| AtomicUsize::new(0)).collect());
        let mut services = Vec::new();
        for n in 0..4 {
            let is_leased = n % 2 == 0;
            let layer = rig
                .another(|builder| {
                    let builder = builder.lease(lease);
                    if is_leased { builder } else { builder.claim_in_transaction() }
                })
                .await;
            let (running, overlaps) = (running.clone(), overlaps.clone());
            let service =
                rig::serve_keyed::<DB, _, _, _>(&layer, &Count::default(), move |key, run, co_commit| {
                    let (running, overlaps) = (running.clone(), overlaps.clone());
                    async move {
                        let here = &running[key.strip_prefix("key-").unwrap().parse::<usize>().unwrap()];
                        let is_beside = here.fetch_add(1, Ordering::SeqCst) > 0;
                        overlaps.fetch_add(usize::from(is_beside), Ordering::SeqCst);
                        let _left = Left(here);
                        let row = format!("{key} {n} {run}");
                        if is_late && is_leased && run % 2 == 0 {
                            // Blocks the thread, so that the lease is not renewed.
                            std::thread::sleep(lease * 2);
                        }
                        if is_late && !is_leased {
                            // Long enough for a late owner to complete between claim and completion.
                            sleep(lease * 2).await;
                        }
                        if let Ok(mut transaction) = co_commit.begin().await {
                            let _ = DB::insert(&mut transaction, &row).await;
                        }
                        tokio::task::yield_now().await;
                        rig::answer(if run % 5 == 0 { 503 } else { 201 }, 1000 * n + run)
                    }
                });
            services.push(service);
        }
        Self { rig, services, overlaps }
    }

    async fn play(&self) {
        let end = now() + Duration::from_mins(1);
        let clients = (0..CLIENTS).map(|client| {
            let service = self.services[client % self.services.len()].clone();
            let mut random = Random(client as u64);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for key in 0..KEYS {
                    // Clients stay close together, but do not run in step.
                    sleep(Duration::from_micros(random.next() % 2000)).await;
                    let answer = loop {
                        let answer = send(&service, post(&format!("key-{key}"))).await;
                        if answer.status == 201 {
                            break answer.text;
                        }
                        let again = answer.kind == Some(RejectionKind::InProgress) || answer.status == 503;
                        assert!(again && now() < end, "{answer:?}");
                        sleep(Duration::from_millis(1 + random.next() % 4)).await;
                    };
                    answers.push(answer);
                }
                answers
            })
        });
        let mut answers = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            answers.push(client.await.unwrap());
        }
        let rows = self.rig.rows().await;
        for key in 0..KEYS {
            let told: Vec<_> = answers.iter().map(|answers| &answers[key]).collect();
            assert!(told.iter().all(|answer| *answer == told[0]), "key {key} has two answers: {told:?}");
            let effects = rows.iter().filter(|row| row.starts_with(&format!("key-{key} "))).count();
            assert_eq!(effects, 1, "key {key}: {rows:?}");
        }
    }
}

/// Decrements the count when a handler ends in any way.
struct Left<'a>(&'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

on_both! {
    no_handler_of_either_kind_runs_beside_another
    with_leases_that_are_lost_each_key_has_one_effect_and_one_answer
}

async fn no_handler_of_either_kind_runs_beside_another<DB: Bench>() {
    let crowd = Crowd::<DB>::new(Duration::from_mins(1), false).await;
    crowd.play().await;
    assert_eq!(crowd.overlaps.load(Ordering::SeqCst), 0);
}

async fn with_leases_that_are_lost_each_key_has_one_effect_and_one_answer<DB: Bench>() {
    Crowd::<DB>::new(Duration::from_millis(10), true).await.play().await;
}
