//! `poll_ready` and `call`: the service that is called was ready, and no reserved permit is kept.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use idempotency_layer::{Contract, IdempotencyService, OnDisconnect, OnOrphan, RejectionKind};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_test::mock;

use crate::scripted::{Act, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, Req, Res, builder, counting, data, gated, memory, poll, post, post_without_key,
    response, send, settle, start, with,
};

/// Panics if it is called without `poll_ready` on the same clone.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
    calls: Count,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: self.calls.clone() }
    }
}

impl Service<Req> for Strict {
    type Response = Res;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Res, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being made ready");
        std::future::ready(Ok(response(201, format!("run {}", self.calls.one()))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_very_service_that_was_made_ready_is_called() {
    let strict = Strict::default();
    let mut service = builder(memory()).build().layer(strict.clone());
    for key in ["a", "b", "a", "not a key", "c"] {
        service.ready().await.unwrap().call(post(key, "body")).await.unwrap();
        service.ready().await.unwrap().call(post_without_key("body")).await.unwrap();
    }
    assert_eq!(strict.calls.get(), 8, "three keys, and five requests without");
}

#[tokio::test(start_paused = true)]
async fn calls_that_overlap_are_each_made_by_a_service_of_their_own() {
    let strict = Strict::default();
    let mut service = builder(memory()).build().layer(strict.clone());
    let mut futures = Vec::new();
    for key in ["a", "b", "c"] {
        futures.push(service.ready().await.unwrap().call(post(key, "body")));
    }
    for future in futures {
        assert_eq!(future.await.unwrap().status(), 201);
    }
    assert_eq!(strict.calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_mock_that_is_not_ready_holds_requests_back_and_gets_them_in_order() {
    let (inner, mut handle) = mock::pair::<Req, Res>();
    let mut service = builder(memory()).build().layer(inner);
    handle.allow(0);
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut context).is_pending(), "readiness is the inner service's");
    handle.allow(2);
    for key in ["a", "b"] {
        let client = tokio::spawn(service.ready().await.unwrap().call(post(key, "body")));
        let (request, respond) = handle.next_request().await.unwrap();
        assert_eq!(request.headers()["idempotency-key"], key);
        respond.send_response(response(201, key));
        assert_eq!(client.await.unwrap().unwrap().status(), 201);
    }
    assert!(service.poll_ready(&mut context).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_replay_or_a_rejection_does_not_reach_the_inner_service() {
    let (inner, mut handle) = mock::pair::<Req, Res>();
    let service = builder(memory()).build().layer(inner);
    let client = tokio::spawn(service.clone().oneshot(post("key", "body")));
    let (_, respond) = handle.next_request().await.unwrap();
    assert_eq!(service.clone().oneshot(post("key", "body")).await.unwrap().status(), 409);
    respond.send_response(response(201, "made"));
    client.await.unwrap().unwrap();
    for (request, status) in
        [(post("key", "body"), 201), (post("key", "other"), 422), (post("not a key", ""), 400)]
    {
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), status);
    }
    drop(service);
    assert!(handle.next_request().await.is_none(), "one request, and no other");
}

/// The handler behind a layer and an inner concurrency limit.
fn limited(
    limit: usize,
    store: Scripted,
    inner: Handler,
) -> IdempotencyService<
    impl Service<Req, Response = Res, Error = io::Error, Future: Send> + Clone + Send + 'static,
    Scripted,
> {
    let inner = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(limit)).service(inner);
    builder(store).build().layer(inner)
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_request_at_once_is_kept_and_nobody_panics() {
    let runs = Count::default();
    let service = limited(1, Scripted::new(), counting(&runs));
    let clients: Vec<_> =
        (0..50).map(|key| start(&service, post(&format!("key-{}", key % 25), "body"))).collect();
    for client in clients {
        assert_eq!(client.await.unwrap().status, 201);
    }
    assert_eq!(runs.get(), 25);
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_lost_to_a_replay_a_rejection_or_a_client_that_leaves() {
    let (runs, gate) = (Count::default(), Gate::closed());
    gate.open();
    let service = limited(1, Scripted::new(), gated(&runs, &gate));
    for round in 0..20 {
        for (key, body) in [("key", "body"), ("key", "other"), ("not a key", "body")] {
            send(&service, post(key, body)).await;
        }
        send(&service, with(post("key", "body"), "idempotency-key", "key")).await;
        drop(service.clone().oneshot(post("key", "body")));
        let mut left = Box::pin(service.clone().oneshot(post(&format!("left-{round}"), "body")));
        let _ = poll(&mut left).await;
        drop(left);
        settle().await;
    }
    assert_eq!(send(&service, post("last", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_holds_no_permit_after_its_answer() {
    // A connection keeps its service between two requests.
    let cases = [
        ("run", post("fresh", "body")),
        ("replay", post("key", "body")),
        ("reject", post("key", "other")),
        ("invalid", post("not a key", "body")),
        ("bypass", post_without_key("body")),
    ];
    for (case, request) in cases {
        let service = limited(1, Scripted::new(), counting(&Count::default()));
        send(&service, post("key", "body")).await;
        let mut idle = service.clone();
        idle.ready().await.unwrap().call(request).await.unwrap();
        let mut other = service.clone();
        let mut ready = other.ready();
        assert!(poll(&mut ready).await.is_ready(), "{case}: the idle connection keeps the only permit");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finishes_without_its_client_holds_its_permit_until_it_ends() {
    for (policy, held) in [(OnDisconnect::Finish, true), (OnDisconnect::Cancel, false)] {
        let (runs, gate) = (Count::default(), Gate::closed());
        let inner = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(gated(&runs, &gate));
        let layer = builder(memory()).on_disconnect(policy).build();
        let service = layer.layer(inner);
        let client = start(&service, post("key", "body"));
        settle().await;
        client.abort();
        settle().await;
        let mut other = service.clone();
        assert_eq!(poll(&mut other.ready()).await.is_pending(), held, "{policy:?}");
        gate.open();
        layer.shutdown().await;
        assert!(poll(&mut other.ready()).await.is_ready());
    }
}

/// Counts requests as an inner rate limiter would.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_behind_the_layer_is_not_spent_on_replays_and_rejections() {
    let spent = Count::default();
    let quota = spent.clone();
    let runs = Count::default();
    let inner = ServiceBuilder::new()
        .map_request(move |request: Req| {
            assert!(quota.one() <= 2, "over the limit");
            request
        })
        .service(counting(&runs));
    let service = builder(memory()).contract(Contract::veriko().required()).build().layer(inner);
    send(&service, post("key", "body")).await;
    for _ in 0..10 {
        assert!(send(&service, post("key", "body")).await.is_replay());
        assert_eq!(send(&service, post("key", "other")).await.kind(), Some(RejectionKind::KeyReused));
        assert_eq!(send(&service, post("not a key", "body")).await.status, 400);
        assert_eq!(send(&service, post_without_key("body")).await.status, 400);
    }
    assert_eq!(spent.get(), 1);
    send(&service, post("new-key", "body")).await;
    assert_eq!(spent.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_inner_service_makes_slow_requests_and_no_second_one() {
    let (inner, mut handle) = mock::pair::<Req, Res>();
    let service = builder(memory()).wait(Duration::from_mins(1)).build().layer(inner);
    let clients = [(); 3].map(|()| tokio::spawn(service.clone().oneshot(post("key", "body"))));
    let (_, respond) = handle.next_request().await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    respond.send_response(response(201, "made"));
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap().status(), 201);
    }
    drop(service);
    assert!(handle.next_request().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_service_can_be_cloned_shown_and_sent() {
    fn check<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let service = builder(memory()).build().layer(Strict::default());
    check(&service);
    assert!(format!("{service:?}").contains("inner: Strict"));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_holds_no_permit() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let inner = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(2)).service(gated(&runs, &gate));
    let service = builder(memory()).wait(Duration::from_mins(10)).build().layer(inner);
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    settle().await;
    let other = start(&service, post("other", "body"));
    settle().await;
    assert_eq!(runs.get(), 2);
    gate.open();
    for client in [owner, waiter, other] {
        assert_eq!(client.await.unwrap().status, 201);
    }
}

#[tokio::test(start_paused = true)]
async fn neither_a_slow_upload_nor_a_slow_store_holds_a_permit_and_each_is_served_when_it_is_there() {
    for slow_store in [false, true] {
        let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
        let service = limited(1, store.clone(), counting(&runs));
        let mut slow = post("slow", "");
        if slow_store {
            store.next(Verb::Claim, [Act::Wait(gate.clone())]);
        } else {
            let door = gate.clone();
            let late = futures_util::stream::once(async move {
                door.pass().await;
                data("body")
            });
            *slow.body_mut() = BodyExt::boxed_unsync(StreamBody::new(late));
        }
        let slow = start(&service, slow);
        settle().await;
        assert_eq!(send(&service, post("other", "body")).await.brief(), (201, "run 1"));
        gate.open();
        assert_eq!(slow.await.unwrap().brief(), (201, "run 2"));
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_claim_a_request_waits_for_the_service_under_its_lease() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = limited(1, store.clone(), gated(&runs, &gate));
    store.next(Verb::Claim, [Act::Yield]);
    let late = start(&service, post("late", "body"));
    tokio::task::yield_now().await;
    let first = start(&service, post("first", "body"));
    settle().await;
    assert_eq!((runs.get(), store.count(Verb::Claim)), (1, 2), "one of them has a claim and no permit");
    tokio::time::sleep(Duration::from_mins(5)).await;
    for key in ["late", "first"] {
        let elsewhere = builder(store.clone()).build().layer(counting(&Count::default()));
        let answer = send(&elsewhere, post(key, "body")).await;
        assert_eq!(answer.kind(), Some(RejectionKind::InProgress), "{key}");
    }
    gate.open();
    assert_eq!((late.await.unwrap().status, first.await.unwrap().status, runs.get()), (201, 201, 2));
}

/// Ready the first time, for the caller of the layer, and broken from then on.
#[derive(Debug)]
struct Breaks {
    asked: Count,
    calls: Count,
}

impl Clone for Breaks {
    fn clone(&self) -> Self {
        Self { asked: self.asked.clone(), calls: self.calls.clone() }
    }
}

impl Service<Req> for Breaks {
    type Response = Res;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Res, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(if self.asked.one() == 2 { Err(io::Error::other("broke")) } else { Ok(()) })
    }

    fn call(&mut self, _: Req) -> Self::Future {
        std::future::ready(Ok(response(201, format!("run {}", self.calls.one()))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_before_it_is_called_is_an_error_and_burns_no_key() {
    let store = Scripted::new();
    let inner = Breaks { asked: Count::default(), calls: Count::default() };
    let service = builder(store.clone()).on_orphan(OnOrphan::Halt).build().layer(inner);
    store.next(Verb::Claim, [Act::Yield]);
    assert!(service.clone().oneshot(post("key", "body")).await.is_err());
    assert_eq!(store.answers(Verb::Release), ["held"]);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_service_can_be_cancelled_or_finishes() {
    for (policy, ran) in [(OnDisconnect::Finish, 2), (OnDisconnect::Cancel, 1)] {
        let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
        let inner = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(gated(&runs, &gate));
        let layer = builder(store.clone()).on_disconnect(policy).build();
        let service = layer.layer(inner);
        store.next(Verb::Claim, [Act::Yield]);
        let late = start(&service, post("late", "body"));
        tokio::task::yield_now().await;
        let first = start(&service, post("first", "body"));
        settle().await;
        assert_eq!(runs.get(), 1);
        late.abort();
        settle().await;
        gate.open();
        layer.shutdown().await;
        assert_eq!((first.await.unwrap().status, runs.get()), (201, ran), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_at_once_clones_the_service_no_more_than_its_caller_does() {
    #[derive(Debug, Default)]
    struct Cloned(Count, Strict);
    impl Clone for Cloned {
        fn clone(&self) -> Self {
            self.0.one();
            Self(self.0.clone(), self.1.clone())
        }
    }
    impl Service<Req> for Cloned {
        type Response = Res;
        type Error = io::Error;
        type Future = std::future::Ready<Result<Res, io::Error>>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
            self.1.poll_ready(cx)
        }
        fn call(&mut self, request: Req) -> Self::Future {
            self.1.call(request)
        }
    }
    let inner = Cloned::default();
    let clones = inner.0.clone();
    let mut service = builder(memory()).build().layer(inner);
    for (sent, request) in
        [post("key", "body"), post("key", "body"), post("other", "body")].into_iter().enumerate()
    {
        service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(clones.get(), sent + 1, "the ready one is taken, and its clone stays");
    }
}
