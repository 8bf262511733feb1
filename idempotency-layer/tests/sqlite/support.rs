//! A folder for a database, and what the tests ask a store with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, Fence, Fenced, Fingerprint, Outcome, RecordId, Run, SqliteStore, Store,
    StoredResponse,
};

/// A folder of its own, which goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("idempotency-sqlite-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the database");
        Self(folder)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("records.db")
    }

    /// What was committed and is not in the file yet.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("records.db-wal")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.url()).await.expect("a database")
    }

    /// The commits in the log. Its frames carry the size of the database where a transaction ends, and 0 elsewhere.
    /// <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>
    pub(crate) fn commits(&self) -> usize {
        let log = std::fs::read(self.log()).expect("a log");
        let salts = &log[16..24];
        let frames = log[32..].chunks_exact(24 + 4096).take_while(|frame| &frame[8..16] == salts);
        frames.filter(|frame| frame[4..8] != [0; 4]).count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A request for a new record, with a lease and a time to live that last.
pub(crate) fn ask() -> ClaimRequest {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut record = [0; 32];
    record[8..16].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    // Spread, as digests are.
    record[..8]
        .copy_from_slice(&COUNT.load(Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    let (lease, ttl) = (Duration::from_mins(1), Duration::from_hours(1));
    ClaimRequest::new(RecordId::from_bytes(record), fingerprint, ClaimToken::new(), lease, ttl)
}

pub(crate) fn again(mut ask: ClaimRequest) -> ClaimRequest {
    ask.token = ClaimToken::new();
    ask
}

pub(crate) fn response(bytes: usize) -> StoredResponse {
    StoredResponse::from_bytes(
        (0..bytes).map(|at| u8::try_from(at % 251).expect("a byte")).collect::<Bytes>(),
    )
}

pub(crate) async fn run(store: &impl Store, ask: ClaimRequest) -> Run {
    match store.claim(ask).await.expect("a claim") {
        Claim::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn complete(store: &impl Store, ask: ClaimRequest, fence: Fence, response: StoredResponse) {
    let fenced = store.complete(ask.record, fence, Outcome::Response(response)).await.expect("a completion");
    assert_eq!(fenced, Fenced::Held);
}

/// Claimed and completed.
pub(crate) async fn finish(store: &impl Store, response: StoredResponse) -> ClaimRequest {
    let ask = ask();
    let fence = run(store, ask).await.fence;
    complete(store, ask, fence, response).await;
    ask
}

pub(crate) async fn replay(store: &impl Store, ask: ClaimRequest) -> StoredResponse {
    match store.claim(again(ask)).await.expect("a claim") {
        Claim::Replay { response, .. } => response,
        other => panic!("{other:?}"),
    }
}
