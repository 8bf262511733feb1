//! Bounds of a layer: requests whose clients disconnected, and waiters.

use std::time::Duration;

use idempotency_layer::{OnDisconnect, RejectionKind};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::scripted::{Act, Scripted, Verb};
use crate::support::{
    Count, Gate, builder, counting, gated, memory, poll, post, post_without_key, send, settle, start,
};

#[tokio::test(start_paused = true)]
async fn handlers_are_bounded_by_the_limit_outside_and_the_requests_that_finish_without_their_clients() {
    for (limit, detached) in [(1, 0), (1, 1), (1, 7), (4, 10)] {
        let (runs, gate) = (Count::default(), Gate::closed());
        let layer = builder(memory()).max_detached(detached).build();
        let service = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(limit))
            .layer(layer.clone())
            .service(gated(&runs, &gate));
        let mut staying = Vec::new();
        for key in 0..200 {
            let mut request = Box::pin(service.clone().oneshot(post(&format!("key-{key}"), "body")));
            for _ in 0..4 {
                if poll(&mut request).await.is_ready() {
                    break;
                }
            }
            // Some clients stay for a while, so that several disconnect at once.
            staying.push(request);
            if staying.len() == limit {
                staying.clear();
                settle().await;
            }
        }
        let most = (limit + detached.max(1)) - 1;
        assert!(
            runs.get() <= most,
            "{} handlers with a limit of {limit} and {detached} detached",
            runs.get()
        );
        assert!(detached == 0 || runs.get() >= detached, "{} with {detached}", runs.get());
        gate.open();
        layer.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_too_many_finish_without_their_clients_keyed_requests_are_refused_before_they_claim() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let layer = builder(store.clone()).max_detached(2).build();
    let service = layer.layer(gated(&runs, &gate));
    for key in ["a", "b"] {
        let client = start(&service, post(key, "body"));
        settle().await;
        client.abort();
        settle().await;
    }
    let refused = send(&service, post("c", "body")).await;
    assert_eq!((refused.status, refused.kind()), (503, Some(RejectionKind::Overloaded)));
    assert!(refused.header("retry-after").is_some());
    assert!(refused.text().contains("idempotency_overloaded"));
    assert_eq!((runs.get(), store.count(Verb::Claim)), (2, 2));
    // A request without a key does not run on after its client.
    let plain = start(&service, post_without_key("body"));
    settle().await;
    assert_eq!(runs.get(), 3);
    gate.open();
    layer.shutdown().await;
    plain.await.unwrap();
    assert_eq!(send(&service, post("c", "body")).await.brief(), (201, "run 4"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_back_in_the_background_is_not_a_request_that_runs() {
    let (store, runs) = (Scripted::new(), Count::default());
    let layer = builder(store.clone()).max_detached(1).build();
    let service = layer.layer(counting(&runs));
    store.next(Verb::Claim, [Act::Lose, Act::Lose]);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::StoreUnavailable));
    assert_eq!((layer.detached(), send(&service, post("other", "body")).await.status), (1, 201));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_on_waiters_a_duplicate_is_told_at_once() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let layer = builder(memory()).wait(Duration::from_mins(1)).max_waiters(3).build();
    let service = layer.layer(gated(&runs, &gate));
    let owners = ["a", "b"].map(|key| start(&service, post(key, "body")));
    settle().await;
    let waiters: Vec<_> = ["a", "a", "b"].into_iter().map(|key| start(&service, post(key, "body"))).collect();
    settle().await;
    for key in ["a", "b"] {
        let told = start(&service, post(key, "body"));
        settle().await;
        assert!(told.is_finished(), "without a moment of time");
        assert_eq!(told.await.unwrap().kind(), Some(RejectionKind::InProgress));
    }
    // A waiter that leaves makes room.
    let mut waiters = waiters.into_iter();
    waiters.next().unwrap().abort();
    settle().await;
    let next = start(&service, post("b", "body"));
    settle().await;
    assert!(!next.is_finished());
    gate.open();
    for client in owners.into_iter().chain(waiters).chain([next]) {
        assert_eq!(client.await.unwrap().status, 201);
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_client_left_while_the_store_was_asked_waits_no_longer() {
    for policy in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        let (store, runs, gate, slow) = (Scripted::new(), Count::default(), Gate::closed(), Gate::closed());
        let layer = builder(store.clone()).on_disconnect(policy).wait(Duration::from_mins(10)).build();
        let service = layer.layer(gated(&runs, &gate));
        let owner = start(&service, post("key", "body"));
        settle().await;
        store.next(Verb::Claim, [Act::Pass, Act::Wait(slow.clone())]);
        let waiter = start(&service, post("key", "body"));
        settle().await;
        waiter.abort();
        settle().await;
        assert_eq!(layer.detached(), 1, "it may have the claim");
        slow.open();
        settle().await;
        assert_eq!(layer.detached(), 0, "{policy:?}");
        gate.open();
        assert_eq!(owner.await.unwrap().status, 201);
    }
}
