//! Handlers that panic, and services that return an error instead of a response.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use idempotency_layer::OnDisconnect;
use tower::{Layer, Service, ServiceExt};

use crate::scripted::{Scripted, Verb};
use crate::support::{
    Count, Handler, Piece, Req, Res, builder, handler, memory, poll, post, protected, response, send, settle,
    start, try_handler,
};

/// Returns the message of a panicked client task.
async fn panic_of(client: tokio::task::JoinHandle<crate::support::Answer>) -> String {
    let panic = client.await.unwrap_err().into_panic();
    (*panic.downcast::<String>().unwrap()).clone()
}

fn panics_first(runs: &Count, yields: usize) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        let run = runs.one();
        async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            assert!(run > 1, "handler {run} broke");
            response(201, format!("run {run}"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_goes_on_to_the_caller_and_the_retry_runs() {
    for yields in [0, 3] {
        let (store, runs) = (Scripted::new(), Count::default());
        let service = builder(store.clone()).build().layer(panics_first(&runs, yields));
        assert_eq!(panic_of(start(&service, post("key", "body"))).await, "handler 1 broke");
        assert_eq!(store.answers(Verb::Release), ["held"], "at once, not when the lease runs out");
        let retry = send(&service, post("key", "body")).await;
        assert_eq!((retry.brief(), retry.is_replay()), ((201, "run 2"), false));
        assert!(send(&service, post("key", "body")).await.is_replay());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_the_key_may_be_used_for_another_request() {
    let runs = Count::default();
    let service = protected(panics_first(&runs, 1));
    panic_of(start(&service, post("key", "body"))).await;
    assert_eq!(send(&service, post("key", "corrected")).await.brief(), (201, "run 2"));
}

/// Panics in `call`, before it returns a future.
#[derive(Clone)]
struct PanicsInCall(Count);

impl Service<Req> for PanicsInCall {
    type Response = Res;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Res, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let run = self.0.one();
        assert!(run > 1, "call {run} broke");
        std::future::ready(Ok(response(201, format!("run {run}"))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_itself_goes_on_to_the_caller_and_the_retry_runs() {
    let service = builder(memory()).build().layer(PanicsInCall(Count::default()));
    assert_eq!(panic_of(start(&service, post("key", "body"))).await, "call 1 broke");
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_body_of_the_response_goes_on_to_the_caller_and_the_retry_runs() {
    let runs = Count::default();
    let counted = runs.clone();
    let service = protected(handler(move |_| {
        let run = counted.one();
        async move {
            let pieces = futures_util::stream::iter([0, 1]).map(move |piece| -> Piece {
                assert!(run > 1 || piece == 0, "body {run} broke");
                Ok(Frame::data(Bytes::from_static(b"x")))
            });
            let mut answer = response(200, "");
            *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(pieces));
            answer
        }
    }));
    assert_eq!(panic_of(start(&service, post("key", "body"))).await, "body 1 broke");
    assert_eq!(send(&service, post("key", "body")).await.brief(), (200, "xx"));
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(runs.get(), 2);
}

use futures_util::StreamExt as _;

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_client_went_away_gives_the_claim_back_as_well() {
    let runs = Count::default();
    for policy in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        let layer = builder(memory()).on_disconnect(policy).build();
        let service = layer.layer(panics_first(&runs, 20));
        let client = start(&service, post("key", "body"));
        tokio::task::yield_now().await;
        client.abort();
        settle().await;
        layer.shutdown().await;
        assert_eq!(send(&service, post("key", "body")).await.status, 201, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_body_of_the_request_claims_nothing() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = builder(store.clone()).build().layer(crate::support::counting(&runs));
    let mut request = post("key", "body");
    let pieces = futures_util::stream::iter([0]).map(|piece| -> Piece { panic!("piece {piece} broke") });
    *request.body_mut() = BodyExt::boxed_unsync(StreamBody::new(pieces));
    assert_eq!(panic_of(start(&service, request)).await, "piece 0 broke");
    assert_eq!((store.count(Verb::Claim), runs.get()), (0, 0));
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panicked_is_not_finished_elsewhere_when_it_is_dropped() {
    let runs = Count::default();
    let layer = builder(memory()).build();
    let service = layer.layer(panics_first(&runs, 0));
    let mut future = Box::pin(service.clone().oneshot(post("key", "body")));
    let mut context = Context::from_waker(std::task::Waker::noop());
    let panicked = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
    assert!(panicked.is_err());
    drop(future);
    settle().await;
    assert_eq!((layer.detached(), runs.get()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_reaches_the_caller_as_it_is_and_the_retry_runs() {
    let (store, runs) = (Scripted::new(), Count::default());
    let counted = runs.clone();
    let service = builder(store.clone()).build().layer(try_handler(move |_| {
        let run = counted.one();
        async move {
            if run == 1 {
                Err(io::Error::other("the bank hung up"))
            } else {
                Ok(response(201, format!("run {run}")))
            }
        }
    }));
    let error = service.clone().oneshot(post("key", "body")).await.unwrap_err();
    assert_eq!(error.to_string(), "the bank hung up");
    assert_eq!(store.answers(Verb::Release), ["held"]);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_is_the_callers() {
    #[derive(Clone)]
    struct NeverReady;

    impl Service<Req> for NeverReady {
        type Response = Res;
        type Error = io::Error;
        type Future = std::future::Pending<Result<Res, io::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
            Poll::Ready(Err(io::Error::other("closed")))
        }

        fn call(&mut self, _: Req) -> Self::Future {
            std::future::pending()
        }
    }

    let mut future = Box::pin(builder(memory()).build().layer(NeverReady).oneshot(post("key", "body")));
    match poll(&mut future).await {
        Poll::Ready(Err(error)) => assert_eq!(error.to_string(), "closed"),
        other => panic!("{other:?}"),
    }
}
