use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::error::StoreErrorKind;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;
use crate::store::{Run, Tombstone};

const PATIENCE: Duration = Duration::from_secs(8);
const LEASE: Duration = Duration::from_secs(30);

type Said = Result<Vec<Result<Reply, StoreError>>, StoreError>;

/// A scripted database: it records each batch, waits for permission to answer, and answers by its
/// script.
#[derive(Clone, Default)]
struct Database(Arc<State>);

type Says = dyn FnMut(&[Op]) -> Said + Send;

struct State {
    batches: Mutex<Vec<Vec<(u8, &'static str)>>>,
    may_answer: Semaphore,
    says: Mutex<Box<Says>>,
    closed: AtomicBool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            batches: Mutex::default(),
            may_answer: Semaphore::new(0),
            says: Mutex::new(Box::new(|ops| Ok(ops.iter().map(|op| Ok(Reply::Done(done(op)))).collect()))),
            closed: AtomicBool::new(false),
        }
    }
}

impl Database {
    fn batcher(&self) -> Arc<Batcher<Self>> {
        let database = self.clone();
        Arc::new(Batcher::new(PATIENCE, move || database.clone()))
    }

    fn says(self, says: impl FnMut(&[Op]) -> Said + Send + 'static) -> Self {
        *self.0.says.lock().unwrap() = Box::new(says);
        self
    }

    /// Answers every batch from now on.
    fn answers(self) -> Self {
        self.0.may_answer.add_permits(1 << 20);
        self
    }

    fn answer_one(&self) {
        self.0.may_answer.add_permits(1);
    }

    fn batches(&self) -> Vec<Vec<(u8, &'static str)>> {
        self.0.batches.lock().unwrap().clone()
    }
}

impl Writer for Database {
    async fn execute(&mut self, ops: &[Op]) -> Said {
        let batch = ops.iter().map(|op| (op.record().as_bytes()[0], name(op))).collect();
        self.0.batches.lock().unwrap().push(batch);
        self.0.may_answer.acquire().await.unwrap().forget();
        (*self.0.says.lock().unwrap())(ops)
    }

    async fn close(self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

/// The same, with one statement for each kind of verb.
#[derive(Clone)]
struct Kinds(Database);

impl Writer for Kinds {
    async fn execute(&mut self, ops: &[Op]) -> Said {
        assert!(ops.iter().all(|op| name(op) == name(&ops[0])));
        self.0.execute(ops).await
    }

    fn together(first: &Op, other: &Op) -> bool {
        name(first) == name(other)
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Claim(_) => "claim",
        Op::Complete(..) => "complete",
        Op::Release(..) => "release",
        Op::Extend(..) => "extend",
        Op::Checkpoint(..) => "checkpoint",
    }
}

fn done(op: &Op) -> Answer {
    match op {
        Op::Claim(_) => Answer::Claim(
            Claim::Run(Run { fence: Fence(1), attempt: 1, orphan: false, checkpoint: None }),
            None,
        ),
        _ => Answer::Fenced(Fenced::Held),
    }
}

fn record(n: u8) -> RecordId {
    RecordId::from_bytes([n; 32])
}

fn ask(n: u8) -> ClaimRequest {
    let (fingerprint, token) = (Fingerprint::from_bytes([1; 33]), ClaimToken::new());
    ClaimRequest { record: record(n), fingerprint, token, lease: LEASE, ttl: LEASE }
}

fn claim(batcher: &Arc<Batcher<Database>>, request: ClaimRequest) -> JoinHandle<Result<Claim, StoreError>> {
    let batcher = batcher.clone();
    tokio::spawn(async move { batcher.claim(request).await })
}

fn extend(batcher: &Arc<Batcher<Database>>, n: u8) -> JoinHandle<Result<Fenced, StoreError>> {
    let batcher = batcher.clone();
    tokio::spawn(async move { batcher.extend(record(n), Fence(1), LEASE).await })
}

fn is_run(claim: &Claim) -> bool {
    matches!(claim, Claim::Run(_))
}

/// Lets all tasks run until none can go on. The clock is paused.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_batch_is_on_its_way_makes_the_next_one() {
    let database = Database::default();
    let batcher = database.batcher();
    let mut claims = vec![claim(&batcher, ask(5))];
    settled().await;
    claims.extend([9, 3, 7].map(|n| claim(&batcher, ask(n))));
    settled().await;
    assert_eq!(database.batches(), [vec![(5, "claim")]], "the first goes at once, alone");
    let database = database.answers();
    for claim in claims {
        assert!(is_run(&claim.await.unwrap().unwrap()));
    }
    assert_eq!(database.batches()[1..], [vec![(3, "claim"), (7, "claim"), (9, "claim")]], "sorted by record");
}

#[tokio::test(start_paused = true)]
async fn verbs_on_one_record_never_meet_and_keep_their_order() {
    let database = Database::default();
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let claimed = claim(&batcher, ask(1));
    settled().await;
    let extended = extend(&batcher, 1);
    settled().await;
    let after = claim(&batcher, ask(1));
    let other = extend(&batcher, 2);
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    let _ = other.await.unwrap().unwrap();
    claimed.await.unwrap().unwrap();
    let _ = extended.await.unwrap().unwrap();
    after.await.unwrap().unwrap();
    assert_eq!(
        database.batches()[1..],
        [vec![(1, "claim"), (2, "extend")], vec![(1, "extend")], vec![(1, "claim")]]
    );
}

#[tokio::test(start_paused = true)]
async fn claims_of_one_record_are_asked_once() {
    let database = Database::default();
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let claims: Vec<_> = (0..50).map(|_| claim(&batcher, ask(1))).collect();
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    let mut runs = 0;
    for claim in claims {
        match claim.await.unwrap().unwrap() {
            Claim::Run(_) => runs += 1,
            Claim::InFlight { lease_left } => assert_eq!(lease_left, LEASE),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(runs, 1);
    assert_eq!(database.batches()[1..], [vec![(1, "claim")]]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_may_be_the_holders_own_is_asked_for_itself() {
    let own = ask(1);
    let left = Duration::from_secs(3);
    let database = Database::default().says(move |ops| {
        let answer = |op: &Op| match op {
            Op::Claim(asked) if asked.token == own.token => done(op),
            Op::Claim(_) => Answer::Claim(Claim::InFlight { lease_left: left }, Some(own.token)),
            op => done(op),
        };
        Ok(ops.iter().map(|op| Ok(Reply::Done(answer(op)))).collect())
    });
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let other = ClaimRequest { fingerprint: Fingerprint::from_bytes([2; 33]), ..ask(1) };
    let claims = [ask(1), ask(1), own, ask(1), other].map(|ask| claim(&batcher, ask));
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    let mut answers = Vec::new();
    for claim in claims {
        answers.push(claim.await.unwrap().unwrap());
    }
    let in_flight = |claim: &Claim| matches!(claim, Claim::InFlight { lease_left } if *lease_left == left);
    assert!(is_run(&answers[2]), "{answers:?}");
    assert!([0, 1, 3, 4].iter().all(|n| in_flight(&answers[*n])), "{answers:?}");
    let asked = database.batches()[1..].len();
    assert_eq!(asked, 3, "the first of them, the holder, and the one with another fingerprint");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_asks_twice_at_once_is_the_same_claim_twice() {
    let database = Database::default();
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let own = ask(1);
    let claims = [own, own].map(|ask| claim(&batcher, ask));
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    for claim in claims {
        assert!(is_run(&claim.await.unwrap().unwrap()));
    }
    assert_eq!(database.batches()[1..], [vec![(1, "claim")], vec![(1, "claim")]]);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_the_same_for_all_who_asked_alike() {
    for outcome in [
        Claim::Mismatch,
        Claim::Tombstone(Tombstone::Unknown),
        Claim::Replay {
            response: StoredResponse::from_bytes(Bytes::from_static(b"done")),
            expires_in: LEASE,
        },
    ] {
        let said = outcome.clone();
        let database = Database::default().says(move |ops| {
            let answer = |op: &Op| match op {
                Op::Claim(_) => Answer::Claim(said.clone(), None),
                op => done(op),
            };
            Ok(ops.iter().map(|op| Ok(Reply::Done(answer(op)))).collect())
        });
        let batcher = database.batcher();
        let first = extend(&batcher, 0);
        settled().await;
        let claims = [0; 9].map(|_| claim(&batcher, ask(1)));
        settled().await;
        let database = database.answers();
        let _ = first.await.unwrap().unwrap();
        for claim in claims {
            assert_eq!(format!("{:?}", claim.await.unwrap().unwrap()), format!("{outcome:?}"));
        }
        assert_eq!(database.batches().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_verb_does_not_fail_its_neighbours() {
    let database = Database::default().says(|ops| {
        if ops.iter().any(|op| op.record() == record(2)) {
            return Err(StoreError::invalid("two is bad"));
        }
        Ok(ops.iter().map(|op| Ok(Reply::Done(done(op)))).collect())
    });
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let verbs = [1, 2, 3].map(|n| extend(&batcher, n));
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    for (n, verb) in verbs.into_iter().enumerate() {
        match verb.await.unwrap() {
            Ok(fenced) => assert!(fenced == Fenced::Held && n != 1),
            Err(error) => assert!(error.kind() == StoreErrorKind::Invalid && n == 1),
        }
    }
    assert_eq!(database.batches().len(), 1 + 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_lost_for_all_of_the_batch_and_nothing_is_repeated() {
    let mut down = true;
    let database = Database::default().says(move |ops| {
        if ops.len() > 1 && std::mem::replace(&mut down, false) {
            return Err(StoreError::unavailable("the cable"));
        }
        Ok(ops.iter().map(|op| Ok(Reply::Done(done(op)))).collect())
    });
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let verbs = [1, 2, 3].map(|n| extend(&batcher, n));
    let claims = [0; 3].map(|_| claim(&batcher, ask(4)));
    settled().await;
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    for verb in verbs {
        assert_eq!(verb.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    for claim in claims {
        assert_eq!(claim.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(database.batches().len(), 2);
    assert_eq!(extend(&batcher, 1).await.unwrap().unwrap(), Fenced::Held);
}

#[tokio::test(start_paused = true)]
async fn a_verb_nobody_waits_for_is_not_begun_and_one_that_is_begun_is_finished() {
    let database = Database::default();
    let batcher = database.batcher();
    let begun = extend(&batcher, 0);
    settled().await;
    let (queued, kept) = (extend(&batcher, 1), extend(&batcher, 2));
    settled().await;
    begun.abort();
    queued.abort();
    settled().await;
    let database = database.answers();
    assert_eq!(kept.await.unwrap().unwrap(), Fenced::Held);
    assert_eq!(database.batches(), [vec![(0, "extend")], vec![(2, "extend")]]);
}

#[tokio::test(start_paused = true)]
async fn a_locked_row_is_asked_for_again_and_holds_up_nobody() {
    let free = Arc::new(AtomicBool::new(false));
    let is_free = free.clone();
    let database = Database::default()
        .says(move |ops| {
            let locked = |op: &Op| op.record() == record(1) && !is_free.load(Ordering::Relaxed);
            let reply = |op: &Op| if locked(op) { Reply::Locked(None) } else { Reply::Done(done(op)) };
            Ok(ops.iter().map(reply).map(Ok).collect())
        })
        .answers();
    let batcher = database.batcher();
    let (mut waits, after) = (extend(&batcher, 1), claim(&batcher, ask(1)));
    for n in 2..12 {
        assert_eq!(extend(&batcher, n).await.unwrap().unwrap(), Fenced::Held);
    }
    sleep(LOCKED_FOR / 2).await;
    assert!((&mut waits).now_or_never().is_none());
    assert!(database.batches().len() < 300, "it rests between two tries");
    free.store(true, Ordering::Relaxed);
    assert_eq!(waits.await.unwrap().unwrap(), Fenced::Held);
    assert!(is_run(&after.await.unwrap().unwrap()));
    let of_one: Vec<_> = database.batches().concat().into_iter().filter(|(n, _)| *n == 1).collect();
    assert_eq!(of_one[of_one.len() - 2..], [(1, "extend"), (1, "claim")], "they keep their order");
}

#[tokio::test(start_paused = true)]
async fn a_locked_row_does_not_keep_verbs_of_another_kind_waiting() {
    let database = Kinds(Database::default().answers().says(|ops| {
        let reply =
            |op: &Op| if op.record() == record(1) { Reply::Locked(None) } else { Reply::Done(done(op)) };
        Ok(ops.iter().map(reply).map(Ok).collect())
    }));
    let batcher = Arc::new(Batcher::new(PATIENCE, {
        let database = database.clone();
        move || database.clone()
    }));
    let locked = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.extend(record(1), Fence(1), LEASE).await }
    });
    settled().await;
    for n in 2..12 {
        assert!(is_run(&batcher.claim(ask(n)).await.unwrap()));
    }
    locked.abort();
    let began = crate::clock::now();
    assert!(is_run(&batcher.claim(ask(20)).await.unwrap()));
    assert!(began.elapsed() < LOCKED_FOR / 2);
    assert!(database.0.batches().iter().flatten().count() < 30);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_stays_locked_is_given_up() {
    let left = Duration::from_millis(1);
    let database = Database::default()
        .says(move |ops| {
            let otherwise =
                |op: &Op| matches!(op, Op::Claim(_)).then_some(Claim::InFlight { lease_left: left });
            Ok(ops.iter().map(|op| Ok(Reply::Locked(otherwise(op)))).collect())
        })
        .answers();
    let batcher = database.batcher();
    let (claimed, extended) = (claim(&batcher, ask(1)), extend(&batcher, 2));
    assert!(matches!(claimed.await.unwrap().unwrap(), Claim::InFlight { lease_left } if lease_left == left));
    assert_eq!(extended.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_number_and_in_bytes() {
    let database = Database::default();
    let batcher = database.batcher();
    let first = extend(&batcher, 0);
    settled().await;
    let large = StoredResponse::from_bytes(Bytes::from(vec![0; BATCH_BYTES / 2]));
    let complete = |n| {
        let (batcher, outcome) = (batcher.clone(), Outcome::Response(large.clone()));
        tokio::spawn(async move { batcher.complete(record(n), Fence(1), outcome).await })
    };
    let large: Vec<_> = (1..6).map(complete).collect();
    settled().await;
    let request = |n: u32| {
        let mut bytes = [0xff; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        ClaimRequest { record: RecordId::from_bytes(bytes), ..ask(0) }
    };
    let many: Vec<_> =
        (0..3 * u32::try_from(BATCH).unwrap()).map(|n| claim(&batcher, request(n + (9 << 24)))).collect();
    let database = database.answers();
    let _ = first.await.unwrap().unwrap();
    for verb in large {
        let _ = verb.await.unwrap().unwrap();
    }
    for verb in many {
        assert!(is_run(&verb.await.unwrap().unwrap()));
    }
    let seen = database.batches();
    let large = |batch: &Vec<(u8, &str)>| batch.iter().filter(|(n, _)| (1..6).contains(n)).count();
    assert!(seen.iter().all(|batch| batch.len() <= BATCH && large(batch) <= 2));
    assert!(seen.len() < 10, "{} batches", seen.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_their_patience() {
    let database = Database::default();
    let batcher = database.batcher();
    let began = crate::clock::now();
    let verbs = [extend(&batcher, 1), extend(&batcher, 2)];
    for verb in verbs {
        assert_eq!(verb.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(began.elapsed(), PATIENCE);
    database.answer_one();
    assert_eq!(database.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_batcher_and_takes_leave() {
    let database = Database::default().answers();
    let batcher = database.batcher();
    let _ = batcher.extend(record(1), Fence(1), LEASE).await.unwrap();
    settled().await;
    assert!(!database.0.closed.load(Ordering::Relaxed));
    drop(batcher);
    settled().await;
    assert!(database.0.closed.load(Ordering::Relaxed));
}

#[test]
fn the_next_callers_runtime_takes_over_from_one_that_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = Database::default();
    let batcher = database.batcher();
    let (first, second) = (runtime(), runtime());
    let stranded = {
        let _entered = first.enter();
        extend(&batcher, 1)
    };
    first.block_on(async {
        while database.batches().is_empty() {
            yield_now().await;
        }
    });
    drop(first);
    assert!(second.block_on(stranded).is_err());
    let database = database.answers();
    let answer = second.block_on(batcher.extend(record(2), Fence(1), LEASE));
    assert_eq!(answer.unwrap(), Fenced::Held);
    assert_eq!(database.batches(), [vec![(1, "extend")], vec![(2, "extend")]]);
}

#[test]
fn without_a_runtime_it_says_so() {
    let answer = Database::default().batcher().claim(ask(1)).now_or_never().unwrap();
    assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_panicked_is_replaced() {
    let mut whole = false;
    let database = Database::default()
        .says(move |ops| {
            assert!(std::mem::replace(&mut whole, true), "for the test");
            Ok(ops.iter().map(|op| Ok(Reply::Done(done(op)))).collect())
        })
        .answers();
    let batcher = database.batcher();
    assert_eq!(extend(&batcher, 1).await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    database.0.says.clear_poison();
    assert_eq!(extend(&batcher, 1).await.unwrap().unwrap(), Fenced::Held);
}
