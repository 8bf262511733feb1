//! `MemoryStore`: bounds, eviction and expiry.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Contract, Fence, Fenced, Fingerprint, MemoryStore, Outcome,
    Purge, RecordId, RejectionKind, Run, Store, StoredResponse, Tombstone,
};
use tokio::time::{advance, sleep};
use tower::Layer;

use crate::support::{
    Count, Gate, Req, builder, counting, gated, handler, post, response, send, settle, start,
};

const TTL: Duration = Duration::from_secs(10);

/// Makes the name of a record in a shard.
fn record(shard: u8, number: u32) -> RecordId {
    let mut bytes = [0; 32];
    bytes[0] = shard;
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

async fn claim(store: &MemoryStore, record: RecordId) -> Claim {
    let token = ClaimToken::new();
    let request = ClaimRequest::new(record, Fingerprint::NONE, token, Duration::from_secs(1), TTL);
    store.claim(request).await.unwrap()
}

async fn run(store: &MemoryStore, record: RecordId) -> Fence {
    match claim(store, record).await {
        Claim::Run(Run { fence, .. }) => fence,
        other => panic!("{other:?}"),
    }
}

fn answer(bytes: usize) -> Outcome {
    Outcome::Response(StoredResponse::from_bytes(Bytes::from(vec![0; bytes])))
}

async fn finish(store: &MemoryStore, record: RecordId, bytes: usize) {
    let fence = run(store, record).await;
    assert_eq!(store.complete(record, fence, answer(bytes)).await.unwrap(), Fenced::Held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_never_holds_more_than_it_may_whatever_is_asked_of_it_at_once() {
    const MAX: usize = 60_000;
    let store = Arc::new(MemoryStore::new(MAX));
    let service = builder(store.clone()).build().layer(handler(|request: Req| {
        let key = request.headers()["idempotency-key"].to_str().unwrap().parse::<usize>().unwrap();
        async move {
            tokio::task::yield_now().await;
            let status = if key.is_multiple_of(7) { 503 } else { 200 };
            response(status, vec![b'x'; key * 7919 % 5000])
        }
    }));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (service, store) = (service.clone(), store.clone());
            tokio::spawn(async move {
                for key in 0..400 {
                    let answer = send(&service, post(&(client * 100 + key).to_string(), "body")).await;
                    assert!([200, 409, 503].contains(&answer.status), "{answer:?}");
                    assert!(store.stats().bytes <= MAX, "{:?}", store.stats());
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert!(store.stats().evicted_early > 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_claim_is_never_evicted() {
    let store = Arc::new(MemoryStore::new(20_000));
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = builder(store.clone()).build().layer(gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let others = builder(store.clone()).build().layer(handler(|_| async { response(200, vec![0; 3000]) }));
    for key in 0..100 {
        assert_eq!(send(&others, post(&format!("other-{key}"), "body")).await.status, 200);
    }
    assert!(store.stats().evicted_early > 50);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!((owner.await.unwrap().status, runs.get()), (201, 1));
}

#[tokio::test(start_paused = true)]
async fn full_of_running_claims_it_refuses_the_next_and_does_not_let_it_run_unprotected() {
    let store = Arc::new(MemoryStore::new(1000));
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = builder(store.clone()).build().layer(gated(&runs, &gate));
    let owners: Vec<_> = (0..50).map(|key| start(&service, post(&format!("key-{key}"), "body"))).collect();
    settle().await;
    let running = runs.get();
    assert!((1..10).contains(&running), "{running}");
    assert_eq!(store.stats().records, running);
    let refused = send(&service, post("one-more", "body")).await;
    assert_eq!((refused.status, refused.kind()), (503, Some(RejectionKind::StoreUnavailable)));
    gate.open();
    let mut answers = [0, 0];
    for owner in owners {
        answers[usize::from(owner.await.unwrap().status == 503)] += 1;
    }
    assert_eq!((answers, runs.get()), ([running, 50 - running], running));
    assert_eq!(send(&service, post("one-more", "body")).await.status, 201, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_record_dropped_before_its_time_is_counted_and_one_that_expired_is_not() {
    let store = MemoryStore::new(10_000);
    for number in 0..20 {
        finish(&store, record(0, number), 100).await;
    }
    assert_eq!(store.stats().evicted_early, 0);
    advance(TTL).await;
    for number in 20..100 {
        finish(&store, record(0, number), 100).await;
        advance(TTL / 20).await;
    }
    assert_eq!(store.stats().evicted_early, 0, "none of these was needed any more");
    for number in 0..40 {
        finish(&store, record(1, number), 1000).await;
    }
    let evicted = store.stats().evicted_early;
    assert!((30..=60).contains(&evicted), "{evicted}");
}

#[tokio::test(start_paused = true)]
async fn no_record_is_evicted_while_bytes_are_free_anywhere() {
    const MAX: usize = 8 * 1024 * 1024;
    let store = MemoryStore::new(MAX);
    let bytes_before = |number: u32| {
        let stats = store.stats();
        assert!(stats.bytes <= MAX, "record {number}: {stats:?}");
        stats.bytes
    };
    let mut number = 0;
    while store.stats().evicted_early == 0 {
        let before = bytes_before(number);
        finish(&store, record(u8::try_from(number % 64).unwrap(), number), 3000).await;
        number += 1;
        if store.stats().evicted_early > 0 {
            assert!(before + 3500 > MAX, "evicted at {before} of {MAX}");
        }
    }
    assert!(number > 2000);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_record_goes_first() {
    let store = MemoryStore::new(10_000);
    for number in 0..30 {
        finish(&store, record(0, number), 1000).await;
    }
    assert!(matches!(claim(&store, record(0, 29)).await, Claim::Replay { .. }));
    assert!(matches!(claim(&store, record(0, 25)).await, Claim::Replay { .. }));
    assert!(matches!(claim(&store, record(0, 0)).await, Claim::Run(_)));
}

#[tokio::test(start_paused = true)]
async fn one_claim_drops_a_few_expired_records_and_never_sweeps_them_all() {
    let store = MemoryStore::default();
    for number in 0..1000 {
        finish(&store, record(0, number), 10).await;
    }
    advance(TTL).await;
    let mut held = 1000;
    for number in 1000..1100 {
        finish(&store, record(0, number), 10).await;
        let dropped = held + 1 - store.stats().records;
        assert!(
            (2..=8).contains(&dropped),
            "more than it adds, or they pile up; and no more than a few: {dropped}"
        );
        held = store.stats().records;
    }
}

#[tokio::test(start_paused = true)]
async fn expired_records_do_not_pile_up_under_steady_traffic() {
    let (store, runs) = (Arc::new(MemoryStore::default()), Count::default());
    let contract = Contract::veriko().ttl(Duration::from_secs(1));
    let service = builder(store.clone()).contract(contract).build().layer(counting(&runs));
    for key in 0..5000 {
        send(&service, post(&format!("key-{key}"), "body")).await;
        advance(Duration::from_millis(2)).await;
    }
    // 500 are alive. An expired record is removed by the next claim in its shard.
    assert!(store.stats().records < 800, "{:?}", store.stats());
}

#[tokio::test(start_paused = true)]
async fn purging_drops_as_many_as_it_is_told_and_none_that_lives_or_runs() {
    let store = MemoryStore::default();
    for shard in 0..10 {
        for number in 0..10 {
            finish(&store, record(shard, number), 10).await;
        }
    }
    advance(TTL / 2).await;
    finish(&store, record(11, 0), 10).await;
    advance(TTL / 2).await;
    let fence = run(&store, record(12, 0)).await;
    assert_eq!(store.extend(record(12, 0), fence, TTL * 3).await.unwrap(), Fenced::Held);
    assert_eq!(store.purge_expired(0).await.unwrap(), 0);
    assert_eq!(store.purge_expired(30).await.unwrap(), 30);
    assert_eq!(store.purge_expired(1000).await.unwrap(), 70);
    assert_eq!(store.stats().records, 2);
    advance(TTL * 2).await;
    assert_eq!(store.purge_expired(1000).await.unwrap(), 1, "the one that runs stays");
}

#[tokio::test(start_paused = true)]
async fn a_response_larger_than_the_store_leaves_a_tombstone_and_evicts_nobody() {
    let store = Arc::new(MemoryStore::new(10_000));
    let runs = Count::default();
    let small = builder(store.clone()).build().layer(counting(&runs));
    send(&small, post("small", "body")).await;
    let counted = Count::default();
    let large_runs = counted.clone();
    let large = builder(store.clone()).build().layer(handler(move |_| {
        large_runs.one();
        async { response(200, vec![b'x'; 20_000]) }
    }));
    assert_eq!(send(&large, post("large", "body")).await.body.len(), 20_000, "its own client gets it");
    for _ in 0..3 {
        let retry = send(&large, post("large", "body")).await;
        assert_eq!(retry.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)));
    }
    assert!(send(&small, post("small", "body")).await.is_replay());
    assert_eq!((counted.get(), runs.get(), store.stats().evicted_early), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_finds_no_room_beside_what_runs_evicts_nobody() {
    let store = MemoryStore::new(10_000);
    finish(&store, record(0, 0), 100).await;
    let fence = run(&store, record(0, 1)).await;
    let mut running = 0;
    while store.stats().bytes < 5000 {
        run(&store, record(1, running)).await;
        running += 1;
    }
    // It fits into an empty store, but not into this one, even if every other record is evicted.
    assert!(store.complete(record(0, 1), fence, answer(9000)).await.is_err());
    assert_eq!(store.stats().evicted_early, 0);
    assert!(matches!(claim(&store, record(0, 0)).await, Claim::Replay { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_is_not_kept_evicts_nobody() {
    let store = MemoryStore::new(10_000);
    let stale = run(&store, record(0, 0)).await;
    sleep(Duration::from_secs(1)).await;
    let current = run(&store, record(0, 0)).await;
    finish(&store, record(0, 1), 6000).await;
    assert_eq!(store.complete(record(0, 0), stale, answer(5000)).await.unwrap(), Fenced::Stale);
    assert_eq!(store.stats().evicted_early, 0, "a late run's response");
    assert_eq!(store.complete(record(0, 0), current, answer(2000)).await.unwrap(), Fenced::Held);
    assert_eq!(store.complete(record(0, 0), current, answer(5000)).await.unwrap(), Fenced::Held);
    assert_eq!(store.stats().evicted_early, 0, "a completion that was repeated");
    assert!(matches!(claim(&store, record(0, 1)).await, Claim::Replay { .. }));
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_given_back() {
    let store = MemoryStore::new(100_000);
    for number in 0..300_u32 {
        let record = record(u8::try_from(number % 64).unwrap(), number);
        let fence = run(&store, record).await;
        let point = |bytes| idempotency_layer::Checkpoint::new("step", vec![0; bytes]);
        if number.is_multiple_of(2) {
            for bytes in [100, 10, 50] {
                assert_eq!(store.checkpoint(record, fence, point(bytes)).await.unwrap(), Fenced::Held);
            }
        }
        let outcome = match number % 6 {
            0 | 1 => store.release(record, fence).await,
            2 | 3 => store.complete(record, fence, answer(200)).await,
            _ => store.complete(record, fence, Outcome::Tombstone(Tombstone::Unknown)).await,
        };
        assert_eq!(outcome.unwrap(), Fenced::Held);
        assert_eq!(store.complete(record, Fence(u64::MAX), answer(70)).await.unwrap(), Fenced::Stale);
        assert_eq!(store.checkpoint(record, Fence(u64::MAX), point(70)).await.unwrap(), Fenced::Stale);
        let _ = claim(&store, record).await;
    }
    advance(TTL * 2).await;
    store.purge_expired(usize::MAX).await.unwrap();
    assert_eq!((store.stats().records, store.stats().bytes), (0, 0));
}

#[test]
fn room_that_was_made_and_not_needed_is_given_back() {
    const FINISHED: usize = 100;
    let store = MemoryStore::new(10_000);
    let at_once = |record| claim(&store, record).now_or_never().unwrap();
    // The size of one finished record.
    finish(&store, record(1, 0), FINISHED).now_or_never().unwrap();
    let cost = store.stats().bytes;
    for round in 0..1000 {
        let mut number = 0;
        while store.stats().bytes + cost <= 10_000 {
            number += 1;
            finish(&store, record(1, round * 100 + number), FINISHED).now_or_never().unwrap();
        }
        // The store is full: each of these evicts records, and one of them uses the space.
        let contended = record(2, round);
        let start = Barrier::new(4);
        let claims = thread::scope(|threads| {
            let claim = || {
                start.wait();
                at_once(contended)
            };
            let threads = [(); 4].map(|()| threads.spawn(claim));
            threads.map(|thread| thread.join().unwrap())
        });
        let fences: Vec<Fence> = claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Run(run) => Some(run.fence),
                _ => None,
            })
            .collect();
        assert_eq!(fences.len(), 1, "{claims:?}");
        let released = store.release(contended, fences[0]).now_or_never().unwrap();
        assert_eq!(released.unwrap(), Fenced::Held);
        assert_eq!(store.stats().bytes, store.stats().records * cost, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_expired_with_a_checkpoint_or_as_an_orphan_leaves_its_room_to_others() {
    let store = MemoryStore::new(100_000);
    for n in 0..500 {
        let fence = run(&store, record(0, n)).await;
        let checkpoint = Checkpoint::new("step", &[0; 100][..]);
        assert_eq!(store.checkpoint(record(0, n), fence, checkpoint).await.unwrap(), Fenced::Held);
        if n % 2 == 0 {
            assert_eq!(store.release(record(0, n), fence).await.unwrap(), Fenced::Held);
        }
        sleep(Duration::from_hours(24)).await;
        assert_eq!(store.purge_expired(usize::MAX).await.unwrap(), 1);
        assert_eq!((store.stats().records, store.stats().bytes), (0, 0));
    }
    // The store is full and evicts. The space of evicted records does not count for running claims.
    for n in 0..1000 {
        finish(&store, record(1, n), 500).await;
    }
    assert!(store.stats().evicted_early > 500);
}

#[tokio::test(start_paused = true)]
async fn the_record_that_would_expire_first_is_evicted_first_wherever_it_lies() {
    for shard in 0..32 {
        let store = MemoryStore::new(10_000);
        finish(&store, record(shard, 0), 5000).await;
        sleep(Duration::from_secs(1)).await;
        finish(&store, record(63 - shard, 1), 3000).await;
        finish(&store, record(63 - shard, 2), 3000).await;
        assert_eq!(store.stats().evicted_early, 1);
        assert!(
            matches!(claim(&store, record(63 - shard, 1)).await, Claim::Replay { .. }),
            "the younger one stays"
        );
    }
}

#[tokio::test]
async fn a_process_that_starts_anew_runs_what_the_one_before_answered() {
    let runs = Count::default();
    for run in 1..=2 {
        let service = builder(MemoryStore::default()).build().layer(counting(&runs));
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.text(), answer.is_replay()), (&*format!("run {run}"), false));
    }
}
