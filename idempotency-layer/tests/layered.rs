//! `Layered`: the conformance kit, and what it saves, keeps and forgets.

#[path = "conformance/remote.rs"]
mod remote;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::conformance::{Harness, check_purge};
use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Fingerprint, Layered, MemoryStore, Outcome,
    RecordId, Run, Store, StoreError, StoreErrorKind, StoredResponse, Tombstone,
};
use tokio::time::{advance, sleep};

use self::remote::Remote;

const MIB: u64 = 1024 * 1024;
const TTL: Duration = Duration::from_secs(10);

/// Processes with their own memory in front of one store, on a paused clock.
struct Processes<S>(S);

impl<S: Store + Clone> Harness for Processes<S> {
    type Store = Layered<S>;

    async fn store(&self) -> Layered<S> {
        Layered::new(self.0.clone(), MIB)
    }

    async fn advance(&self, by: Duration) {
        advance(by).await;
    }
}

/// One process on several threads, with real time.
struct Threads<S>(Arc<Layered<S>>);

impl<S: Store> Harness for Threads<S> {
    type Store = Arc<Layered<S>>;

    async fn store(&self) -> Arc<Layered<S>> {
        self.0.clone()
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }
}

mod processes_on_one_memory_store {
    use super::{Arc, MemoryStore, Processes};

    idempotency_layer::conformance_tests!(
        Processes(Arc::new(MemoryStore::default())),
        flavor = "current_thread",
        start_paused = true
    );
}

mod processes_on_a_remote_store {
    use super::{Processes, Remote};

    idempotency_layer::conformance_tests!(
        Processes(Remote::default()),
        flavor = "current_thread",
        start_paused = true
    );
}

mod threads_of_one_process {
    use super::{Arc, Layered, MemoryStore, Threads};

    idempotency_layer::conformance_tests!(Threads(Arc::new(Layered::new(MemoryStore::default(), 1 << 30))));
}

#[tokio::test(start_paused = true)]
async fn a_purge_goes_to_the_store_behind() {
    check_purge(&Processes(Arc::new(MemoryStore::default()))).await;
}

/// Counts the claims that reach it, and answers by a script.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    claims: AtomicUsize,
    down: AtomicBool,
    /// The delay of an answer.
    way: Duration,
}

impl Watched {
    fn claims(&self) -> usize {
        self.claims.swap(0, Ordering::Relaxed)
    }
}

impl Store for Watched {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("down"));
        }
        self.claims.fetch_add(1, Ordering::Relaxed);
        let answer = self.store.claim(request).await;
        sleep(self.way).await;
        answer
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.store.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.store.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.store.extend(record, fence, lease).await
    }

    async fn checkpoint(&self, record: RecordId, fence: Fence, to: Checkpoint) -> Result<Fenced, StoreError> {
        self.store.checkpoint(record, fence, to).await
    }
}

fn layered() -> Layered<Watched> {
    Layered::new(Watched::default(), MIB)
}

fn fingerprint(scheme: u8, digest: u8) -> Fingerprint {
    let mut bytes = [digest; Fingerprint::LEN];
    bytes[0] = scheme;
    Fingerprint::from_bytes(bytes)
}

fn ask(number: u32) -> ClaimRequest {
    let mut record = [7; 32];
    record[..4].copy_from_slice(&number.to_be_bytes());
    let (record, fingerprint) = (RecordId::from_bytes(record), fingerprint(1, 1));
    ClaimRequest::new(record, fingerprint, ClaimToken::new(), Duration::from_secs(1), TTL)
}

fn like(mut first: ClaimRequest, scheme: u8, digest: u8) -> ClaimRequest {
    first.fingerprint = fingerprint(scheme, digest);
    first.token = ClaimToken::new();
    first
}

async fn finish_with(store: &impl Store, ask: ClaimRequest, outcome: Outcome) -> Fence {
    let Ok(Claim::Run(Run { fence, .. })) = store.claim(ask).await else { panic!("a used record") };
    assert_eq!(store.complete(ask.record, fence, outcome).await.expect("a completion"), Fenced::Held);
    fence
}

fn response(bytes: impl Into<Bytes>) -> Outcome {
    Outcome::Response(StoredResponse::from_bytes(bytes.into()))
}

async fn finish(store: &impl Store, ask: ClaimRequest) {
    finish_with(store, ask, response("done")).await;
}

/// Returns the replayed bytes and the rest of the record's time to live.
async fn replay(store: &impl Store, mut ask: ClaimRequest) -> (Bytes, Duration) {
    ask.token = ClaimToken::new();
    match store.claim(ask).await.expect("a claim") {
        Claim::Replay { response, expires_in } => (response.as_bytes().clone(), expires_in),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_asked_for_once_and_replayed_from_memory_then() {
    let (store, ask) = (layered(), ask(0));
    finish(&store, ask).await;
    assert_eq!(store.inner().claims(), 1);
    for _ in 0..5 {
        assert_eq!(replay(&store, ask).await.0, "done");
    }
    assert_eq!(store.inner().claims(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_forgotten_is_not_replayed() {
    let (store, ask) = (layered(), ask(0));
    finish(&store, ask).await;
    advance(Duration::from_secs(4)).await;
    assert_eq!(replay(&store, ask).await.1, Duration::from_secs(6));
    advance(Duration::from_millis(5999)).await;
    assert_eq!(replay(&store, ask).await.1, Duration::from_millis(1), "from memory, what is left");
    assert_eq!(store.inner().claims(), 2);
    advance(Duration::from_millis(1)).await;
    let claim = store.claim(like(ask, 1, 2)).await.unwrap();
    assert!(matches!(claim, Claim::Run(Run { attempt: 1, .. })), "{claim:?}");
}

/// The rest of the time to live is that of the moment when the store looked, before its answer arrived.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_long_on_its_way_lives_no_longer_for_that() {
    let store = Layered::new(Watched { way: Duration::from_secs(3), ..Watched::default() }, MIB);
    let ask = ask(0);
    finish(&store, ask).await;
    assert_eq!(replay(&store, ask).await.1, Duration::from_secs(7), "as the store said");
    assert_eq!(replay(&store, ask).await.1, Duration::from_secs(4), "from memory");
    assert_eq!(store.inner().claims(), 2);
    advance(Duration::from_secs(4)).await;
    let claim = store.claim(like(ask, 1, 1)).await.unwrap();
    assert!(matches!(claim, Claim::Run(Run { attempt: 1, .. })), "{claim:?}");
}

#[tokio::test(start_paused = true)]
async fn another_request_is_refused_from_memory_once_the_store_has_refused_one() {
    let (store, ask) = (layered(), ask(0));
    finish(&store, ask).await;
    replay(&store, ask).await;
    store.inner().claims();
    for (digest, asked) in [(2, 1), (2, 0), (3, 0)] {
        assert!(matches!(store.claim(like(ask, 1, digest)).await.unwrap(), Claim::Mismatch));
        assert_eq!(store.inner().claims(), asked, "for digest {digest}");
    }
    for (scheme, digest) in [(1, 1), (2, 9), (0, 0)] {
        assert!(matches!(store.claim(like(ask, scheme, digest)).await.unwrap(), Claim::Replay { .. }));
        assert_eq!(
            store.inner().claims(),
            0,
            "the record's own fingerprint is known: it decides as in the store"
        );
    }
}

/// Matching is not transitive: A is replayed because it cannot be compared with the record's fingerprint, and B matches A,
/// but B is not the record's request.
#[tokio::test(start_paused = true)]
async fn a_fingerprint_that_matched_for_want_of_comparison_decides_for_no_other() {
    for (replayed, also_replayed) in [((0, 0), (2, 5)), ((2, 5), (2, 6)), ((2, 5), (0, 0))] {
        let (store, ask) = (layered(), ask(0));
        finish(&store, ask).await;
        let other = |(scheme, digest)| store.claim(like(ask, scheme, digest));
        for _ in 0..2 {
            assert!(matches!(other(replayed).await.unwrap(), Claim::Replay { .. }));
            assert!(matches!(other((1, 2)).await.unwrap(), Claim::Mismatch), "after {replayed:?}");
            assert!(
                matches!(other(also_replayed).await.unwrap(), Claim::Replay { .. }),
                "after {replayed:?}"
            );
        }
    }
}

/// The mismatch concerns a later record than the one in memory.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_a_records_successor_says_nothing_of_the_record() {
    let store = layered();
    let first = ask(0);
    finish(&store, first).await;
    assert!(matches!(store.claim(like(first, 2, 5)).await.unwrap(), Claim::Replay { .. }));
    advance(TTL).await;
    finish(&store.inner().store, like(first, 2, 6)).await;
    assert!(matches!(store.claim(like(first, 2, 5)).await.unwrap(), Claim::Mismatch));
    assert!(matches!(store.claim(like(first, 2, 6)).await.unwrap(), Claim::Replay { .. }));
    assert!(matches!(store.claim(like(first, 2, 5)).await.unwrap(), Claim::Mismatch));
}

/// `Held` also answers a repeated completion, and then the stored outcome is an earlier one.
#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_repeated_completion_is_not_replayed() {
    let (shared, ask) = (Arc::new(MemoryStore::default()), ask(0));
    let (here, there) = (Layered::new(shared.clone(), MIB), Layered::new(shared, MIB));
    let fence = finish_with(&there, ask, response("first")).await;
    assert_eq!(here.complete(ask.record, fence, response("second")).await.unwrap(), Fenced::Held);
    for _ in 0..2 {
        assert_eq!(replay(&here, ask).await.0, "first");
        assert_eq!(replay(&there, ask).await.0, "first");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_response_is_asked_of_the_store_each_time() {
    let store = layered();
    let [running, buried] = [ask(0), ask(1)];
    assert!(matches!(store.claim(running).await.unwrap(), Claim::Run(_)));
    finish_with(&store, buried, Outcome::Tombstone(Tombstone::Unknown)).await;
    store.inner().claims();
    for asked in 1..4 {
        assert!(matches!(store.claim(like(running, 1, 1)).await.unwrap(), Claim::InFlight { .. }));
        assert!(matches!(store.claim(like(buried, 1, 1)).await.unwrap(), Claim::Tombstone(_)), "{asked}");
        assert_eq!(store.inner().claims(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_replayed_while_the_store_is_down() {
    let store = layered();
    let [known, unknown] = [ask(0), ask(1)];
    finish(&store, known).await;
    finish(&store, unknown).await;
    replay(&store, known).await;
    store.inner().down.store(true, Ordering::Relaxed);
    assert_eq!(replay(&store, known).await.0, "done");
    for refused in [unknown, like(known, 1, 2), ask(2)] {
        assert_eq!(store.claim(refused).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_ten_years_is_kept() {
    let (store, mut ask) = (layered(), ask(0));
    ask.ttl = Duration::from_hours(10 * 365 * 24);
    finish(&store, ask).await;
    assert_eq!(replay(&store, ask).await.1, ask.ttl);
    assert_eq!(replay(&store, ask).await.1, ask.ttl);
    assert_eq!(store.inner().claims(), 2);
}

#[tokio::test(start_paused = true)]
async fn its_memory_is_bounded_by_bytes_and_keeps_what_was_asked_for_last() {
    const MAX: u64 = 100_000;
    let store = Layered::new(MemoryStore::default(), MAX);
    for number in 0..2_000_u32 {
        let ask = ask(number);
        finish_with(&store, ask, response(vec![0; number as usize % 5_000])).await;
        replay(&store, ask).await;
        let held = store.stats();
        assert!(held.bytes <= MAX, "{held:?}");
    }
    let full = store.stats();
    assert!(full.bytes > MAX / 2, "{full:?}");
    let too_large = ask(2_000);
    finish_with(&store, too_large, response(vec![0; 7_000])).await;
    replay(&store, too_large).await;
    assert_eq!(store.stats(), full, "nothing went for one that takes more than a sixteenth");
}
