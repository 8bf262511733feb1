//! Replays of `Layered`, compared with those of the `SqliteStore` behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, Fingerprint, Layered, Outcome, RecordId, SqliteStore, Store,
    StoredResponse,
};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::load::{CLIENTS, RESPONSE, SPAN, compare, runtime};

/// The number of records that are replayed in turn.
const RECORDS: u32 = 1000;

pub(crate) fn run() {
    let runtime = runtime();
    let behind = runtime.block_on(async {
        let store = SqliteStore::open("sqlite::memory:").await.unwrap();
        for number in 0..RECORDS {
            let Ok(Claim::Run(run)) = store.claim(ask(number)).await else { panic!("not a new record") };
            let response = StoredResponse::from_bytes(Bytes::from(vec![b'x'; RESPONSE]));
            let fenced = store.complete(ask(number).record, run.fence, Outcome::Response(response)).await;
            assert!(fenced.is_ok(), "{fenced:?}");
        }
        Arc::new(store)
    });
    let layered = Arc::new(Layered::new(behind.clone(), 64 * 1024 * 1024));
    for clients in CLIENTS {
        compare(
            "Layered, replays",
            clients,
            || runtime.block_on(replays(behind.clone(), clients)),
            || runtime.block_on(replays(layered.clone(), clients)),
        );
    }
}

fn ask(number: u32) -> ClaimRequest {
    let record = RecordId::from_bytes(Sha256::digest(number.to_be_bytes()).into());
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    let (lease, ttl) = (Duration::from_secs(30), Duration::from_hours(24));
    ClaimRequest::new(record, fingerprint, ClaimToken::new(), lease, ttl)
}

/// Returns the number of replays in a second with this many clients.
async fn replays<S: Store>(store: Arc<S>, clients: usize) -> f64 {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let client = || {
        let (store, over, count) = (store.clone(), over.clone(), count.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed) % RECORDS;
                let claim = store.claim(ask(number)).await.unwrap();
                assert!(matches!(claim, Claim::Replay { .. }), "{claim:?}");
                // A store that never waits would block the thread.
                tokio::task::yield_now().await;
            }
        })
    };
    let clients: Vec<_> = (0..clients).map(|_| client()).collect();
    sleep(SPAN).await;
    over.store(true, Ordering::Relaxed);
    let replays = count.load(Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    f64::from(replays) / SPAN.as_secs_f64()
}
