//! Clients, turns and the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, Fenced, Fingerprint, Outcome, RecordId, Store, StoredResponse,
};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

/// The size of a response in bytes.
pub(crate) const RESPONSE: usize = 1024;
/// The numbers of clients.
pub(crate) const CLIENTS: [usize; 2] = [1, 64];
/// The number of turns.
pub(crate) const TURNS: usize = 5;
/// The length of a turn.
pub(crate) const SPAN: Duration = Duration::from_secs(3);

/// Measures in turns and prints a row: cycles a second of the yardstick and of the store.
pub(crate) fn compare(
    name: &str,
    clients: usize,
    mut yardstick: impl FnMut() -> f64,
    mut store: impl FnMut() -> f64,
) {
    // The first calls plan, cache and allocate, which is not measured.
    store();
    let mut turns: Vec<(f64, f64)> = Vec::with_capacity(TURNS);
    for turn in 0..TURNS {
        turns.push(if turn % 2 == 0 {
            let first = yardstick();
            (first, store())
        } else {
            let first = store();
            (yardstick(), first)
        });
    }
    let ratios: Vec<f64> = turns.iter().map(|(yardstick, store)| store / yardstick).collect();
    let shown: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!(
        "{name:<24}{clients:>8}{:>14.0}{:>14.0}{:>8.2}   {}",
        median(turns.iter().map(|turn| turn.0).collect()),
        median(turns.iter().map(|turn| turn.1).collect()),
        median(ratios),
        shown.join(" ")
    );
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Makes a runtime like that of a server.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Returns the number of cycles in a second with this many clients, each of which runs one cycle after the other.
pub(crate) async fn cycles<S: Store>(store: Arc<S>, clients: usize) -> f64 {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let client = || {
        let (store, over, count) = (store.clone(), over.clone(), count.clone());
        tokio::spawn(async move {
            let response = StoredResponse::from_bytes(Bytes::from(vec![b'x'; RESPONSE]));
            while !over.load(Ordering::Relaxed) {
                cycle(&*store, response.clone()).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = (0..clients).map(|_| client()).collect();
    tokio::time::sleep(SPAN).await;
    over.store(true, Ordering::Relaxed);
    let cycles = count.load(Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    f64::from(cycles) / SPAN.as_secs_f64()
}

async fn cycle(store: &impl Store, response: StoredResponse) {
    let token = ClaimToken::new();
    let record = RecordId::from_bytes(Sha256::digest(token.as_bytes()).into());
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    let (lease, ttl) = (Duration::from_secs(30), Duration::from_hours(24));
    let request = ClaimRequest::new(record, fingerprint, token, lease, ttl);
    let Claim::Run(run) = store.claim(request).await.unwrap() else { panic!("not a new record") };
    let held = store.complete(request.record, run.fence, Outcome::Response(response)).await.unwrap();
    assert_eq!(held, Fenced::Held);
}
