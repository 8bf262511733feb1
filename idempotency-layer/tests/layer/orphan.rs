//! Orphans: the process died while its handler ran, or the handler ended without a response.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use idempotency_layer::{
    Disposition, Idempotency, IdempotencyService, MemoryStore, OnOrphan, Reconciled, RejectionKind, Tombstone,
};
use tokio::time::{advance, sleep};
use tower::Layer;

use crate::scripted::{DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, Req, builder, counting, die_during, gated, handler, memory, post, request,
    response, send, settle, start, try_handler, with,
};

const LEASE: Duration = Duration::from_secs(30);
const UNKNOWN: RejectionKind = RejectionKind::Tombstone(Tombstone::Unknown);

/// The handler behind a layer with this policy, and an orphan with the key "key".
async fn with_orphan(policy: OnOrphan, runs: &Count) -> IdempotencyService<Handler, Arc<MemoryStore>> {
    let store = memory();
    let dying = builder(store.clone()).build().layer(gated(runs, &Gate::closed()));
    die_during(&dying, post("key", "body")).await;
    advance(LEASE).await;
    builder(store).on_orphan(policy).build().layer(counting(runs))
}

fn answered(status: u16) -> OnOrphan {
    OnOrphan::reconcile(move |_| async move {
        let mut answer = http::Response::new(Bytes::from_static(b"found"));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("location", "/orders/17".parse().unwrap());
        Reconciled::Response(answer)
    })
}

#[tokio::test(start_paused = true)]
async fn by_rerun_an_orphan_is_run_again() {
    let runs = Count::default();
    let service = with_orphan(OnOrphan::Rerun, &runs).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    assert!(send(&service, post("key", "body")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn an_orphan_belongs_to_the_request_that_left_it() {
    for policy in [OnOrphan::Rerun, OnOrphan::Halt, answered(201)] {
        let runs = Count::default();
        let service = with_orphan(policy, &runs).await;
        assert_eq!(send(&service, post("key", "other")).await.kind(), Some(RejectionKind::KeyReused));
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn by_halt_an_orphan_never_runs_again_and_retries_are_told_that_nobody_knows() {
    let runs = Count::default();
    let service = with_orphan(OnOrphan::Halt, &runs).await;
    for _ in 0..3 {
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.status, answer.kind()), (409, Some(UNKNOWN)));
        assert_eq!(answer.header("retry-after"), None, "there is nothing to wait for");
    }
    assert_eq!(runs.get(), 1);
    assert_eq!(send(&service, post("new-key", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn of_many_who_find_an_orphan_at_once_one_runs() {
    let runs = Count::default();
    let service = with_orphan(OnOrphan::Rerun, &runs).await;
    let clients: Vec<_> = (0..32).map(|_| start(&service, post("key", "body"))).collect();
    for client in clients {
        let answer = client.await.unwrap();
        assert!(answer.brief() == (201, "run 2") || answer.status == 409, "{answer:?}");
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_reconciling_found_is_answered_stored_and_replayed() {
    let runs = Count::default();
    let service = with_orphan(answered(201), &runs).await;
    for again in [false, true] {
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.brief(), answer.header("location")), ((201, "found"), Some("/orders/17")));
        assert_eq!(answer.header("idempotent-replayed"), Some(if again { "true" } else { "false" }));
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn reconciling_may_let_the_handler_run_or_halt_it() {
    let runs = Count::default();
    let service = with_orphan(OnOrphan::reconcile(|_| async { Reconciled::Rerun }), &runs).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    assert!(send(&service, post("key", "body")).await.is_replay());

    let runs = Count::default();
    let service = with_orphan(OnOrphan::reconcile(|_| async { Reconciled::Halt }), &runs).await;
    for _ in 0..2 {
        assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNKNOWN));
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn reconciling_sees_the_request_its_attempt_its_checkpoint_and_its_derived_keys() {
    let (store, derived) = (memory(), Arc::new(Mutex::new(String::new())));
    let first = derived.clone();
    let dying = builder(store.clone()).build().layer(handler(move |request: Req| {
        let idempotency = request.extensions().get::<Idempotency>().unwrap().clone();
        *first.lock().unwrap() = idempotency.derive("charge");
        async move {
            idempotency.checkpoint("charged", &b"receipt 17"[..]).await.unwrap();
            std::future::pending().await
        }
    }));
    let ask = || with(request(Method::POST, "/orders?x=1", "key", "body"), "x-client", "ada");
    die_during(&dying, ask()).await;
    advance(LEASE).await;
    let policy = OnOrphan::reconcile(move |orphan| {
        let derived = derived.lock().unwrap().clone();
        async move {
            let checkpoint = orphan.idempotency.recovered().unwrap();
            assert_eq!((&*checkpoint.name, &checkpoint.data[..]), ("charged", &b"receipt 17"[..]));
            assert_eq!((orphan.idempotency.attempt(), orphan.idempotency.derive("charge")), (2, derived));
            assert_eq!(orphan.idempotency.key().as_bytes(), b"key");
            assert_eq!(
                (orphan.request.method, &*orphan.request.uri.to_string()),
                (Method::POST, "/orders?x=1")
            );
            assert_eq!(orphan.request.headers["x-client"], "ada");
            // It holds the claim.
            orphan.idempotency.checkpoint("looked", "").await.unwrap();
            Reconciled::Response(http::Response::new(checkpoint.data.clone()))
        }
    });
    let service = builder(store).on_orphan(policy).build().layer(counting(&Count::default()));
    assert_eq!(send(&service, ask()).await.brief(), (200, "receipt 17"));
}

#[tokio::test(start_paused = true)]
async fn reconciling_that_panics_leaves_the_orphan_for_the_next_request() {
    let (runs, tries) = (Count::default(), Count::default());
    let counted = tries.clone();
    let policy = OnOrphan::reconcile(move |orphan| {
        let number = counted.one();
        async move {
            assert!(number > 2, "try {number} broke");
            Reconciled::Response(http::Response::new(orphan.idempotency.attempt().to_string().into()))
        }
    });
    let service = with_orphan(policy, &runs).await;
    for _ in 0..2 {
        assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
    }
    assert_eq!(send(&service, post("key", "body")).await.brief(), (200, "4"));
    assert_eq!((runs.get(), tries.get()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_before_it_gives_a_future_leaves_the_orphan_too() {
    let (runs, tries) = (Count::default(), Count::default());
    let counted = tries.clone();
    let policy = OnOrphan::reconcile(move |_| {
        assert!(counted.one() > 1, "at once");
        async { Reconciled::Halt }
    });
    let service = with_orphan(policy, &runs).await;
    assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNKNOWN));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_reconciling_and_others_are_told_to_wait() {
    let runs = Count::default();
    let policy = OnOrphan::reconcile(|_| async {
        sleep(Duration::from_mins(5)).await;
        Reconciled::Rerun
    });
    let service = with_orphan(policy, &runs).await;
    let finder = start(&service, post("key", "body"));
    for _ in 0..9 {
        sleep(LEASE).await;
        assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    }
    assert_eq!((finder.await.unwrap().brief(), runs.get()), ((201, "run 2"), 2));
}

#[tokio::test(start_paused = true)]
async fn reconciling_goes_on_when_the_client_goes_away() {
    let runs = Count::default();
    let policy = OnOrphan::reconcile(|_| async {
        sleep(Duration::from_secs(5)).await;
        Reconciled::Response(http::Response::new("found".into()))
    });
    let service = with_orphan(policy, &runs).await;
    let finder = start(&service, post("key", "body"));
    settle().await;
    finder.abort();
    sleep(Duration::from_secs(6)).await;
    assert!(send(&service, post("key", "body")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_reconciled_answer_says_itself_whether_it_is_stored() {
    // The same rule as for a handler's response: a 503 is not stored unless its disposition says so.
    let runs = Count::default();
    let service = with_orphan(answered(503), &runs).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (503, "found"));
    assert_eq!(runs.get(), 1);

    let policy = OnOrphan::reconcile(|_| async {
        let mut answer = http::Response::new(Bytes::from_static(b"failed for good"));
        *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
        answer.extensions_mut().insert(Disposition::Store);
        Reconciled::Response(answer)
    });
    let service = with_orphan(policy, &runs).await;
    send(&service, post("key", "body")).await;
    let replay = send(&service, post("key", "body")).await;
    assert_eq!((replay.brief(), replay.is_replay()), ((502, "failed for good"), true));
}

/// A handler that ends its first run in a panic or in an error.
fn breaks(runs: &Count, panics: bool) -> Handler {
    let runs = runs.clone();
    try_handler(move |_| {
        let run = runs.one();
        async move {
            match run {
                1 if panics => panic!("broke"),
                1 => Err(std::io::Error::other("broke")),
                _ => Ok(response(201, format!("run {run}"))),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn by_halt_a_run_that_panicked_or_failed_does_not_run_again() {
    for panics in [true, false] {
        let runs = Count::default();
        let service = builder(memory()).on_orphan(OnOrphan::Halt).build().layer(breaks(&runs, panics));
        assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
        for _ in 0..2 {
            assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNKNOWN), "panics: {panics}");
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn by_halt_a_response_that_is_not_stored_may_run_again() {
    let runs = Count::default();
    let inner = crate::support::first_then_created(&runs, || response(503, "try again"));
    let service = builder(memory()).on_orphan(OnOrphan::Halt).build().layer(inner);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_given_back_with_a_checkpoint_is_nobodys_orphan() {
    for policy in [OnOrphan::Halt, answered(200)] {
        let service = builder(memory()).on_orphan(policy).build().layer(handler(|request: Req| async move {
            let idempotency = request.extensions().get::<Idempotency>().unwrap();
            idempotency.checkpoint("charged", "").await.unwrap();
            let attempt = idempotency.attempt();
            response(if attempt == 1 { 503 } else { 201 }, format!("attempt {attempt}"))
        }));
        assert_eq!(send(&service, post("key", "body")).await.status, 503);
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "attempt 2"));
    }
}

#[tokio::test(start_paused = true)]
async fn by_halt_a_panic_whose_tombstone_could_not_be_written_halts_when_the_lease_is_over() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = builder(store.clone()).on_orphan(OnOrphan::Halt).build().layer(breaks(&runs, true));
    store.always(Verb::Complete, DOWN);
    assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
    store.always(Verb::Complete, crate::scripted::Act::Pass);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    sleep(LEASE).await;
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNKNOWN));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn by_reconcile_a_run_that_panicked_or_failed_is_an_orphan_at_once() {
    for panics in [true, false] {
        let (runs, asked) = (Count::default(), Count::default());
        let counted = asked.clone();
        let policy = OnOrphan::reconcile(move |_| {
            counted.one();
            async { Reconciled::Response(http::Response::new("found".into())) }
        });
        let service = builder(memory()).on_orphan(policy).build().layer(breaks(&runs, panics));
        assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
        assert_eq!(send(&service, post("key", "body")).await.brief(), (200, "found"), "panics: {panics}");
        assert_eq!((runs.get(), asked.get()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_request_is_nobodys_orphan() {
    for policy in [OnOrphan::Halt, answered(200)] {
        let runs = Count::default();
        let service = builder(memory()).on_orphan(policy).build().layer(counting(&runs));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    }
}
