//! gRPC streams: the layer distinguishes them from unary calls and passes them on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use idempotency_layer::{Contract, FingerprintMode, Idempotency, RejectionKind, Tombstone};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, ServiceExt};

use super::{GRACE, answer, answering, call, code, message, ok, runs_of_two, unary};
use crate::scripted::{DOWN, Scripted, Verb};
use crate::support::{
    Body, Count, Gate, Handler, Piece, builder, data, frames, gated, handler, memory, now, send, settle,
    start, trailers, under,
};

/// A body that stays open until its sender is dropped.
fn channel() -> (mpsc::UnboundedSender<Piece>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let pieces = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    (sender, BodyExt::boxed_unsync(StreamBody::new(pieces)))
}

/// Answers OK to a call, and counts whether it had a key.
fn telling_keys(runs: &Count, keyed: &Count) -> Handler {
    let (runs, keyed) = (runs.clone(), keyed.clone());
    handler(move |request| {
        runs.one();
        if request.extensions().get::<Idempotency>().is_some() {
            keyed.one();
        }
        async move {
            let read = request.into_body().collect().await.unwrap().to_bytes();
            answer(frames(vec![data(read), trailers("grpc-status", "0")]))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_second_message_makes_a_call_pass_untouched() {
    let (one, two) = (message("one"), message("two"));
    let both = Bytes::from([&one[..], &two].concat());
    let bodies = [
        vec![one.clone(), two.clone()],
        vec![both.clone()],
        vec![both.slice(..3), both.slice(3..12), both.slice(12..)],
    ];
    for mode in [FingerprintMode::Raw, FingerprintMode::None] {
        for body in &bodies {
            let (store, runs, keyed) = (Scripted::new(), Count::default(), Count::default());
            let contract = Contract::grpc().fingerprint(mode);
            let layer = builder(store.clone()).contract(contract).build();
            let service = layer.layer(telling_keys(&runs, &keyed));
            for _ in 0..2 {
                let answer =
                    send(&service, call("key", frames(body.iter().cloned().map(data).collect()))).await;
                assert_eq!(answer.body, both);
                assert!(!answer.is_replay());
            }
            assert_eq!((runs.get(), keyed.get()), (2, 0));
            assert_eq!(store.count(Verb::Claim), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stays_open_after_its_first_message_passes_after_the_grace() {
    let (runs, keyed) = (Count::default(), Count::default());
    let service = under(Contract::grpc(), telling_keys(&runs, &keyed));
    let (sender, body) = channel();
    sender.send(data(message("one"))).unwrap();
    let asked = now();
    let answer = start(&service, call("key", body));
    settle().await;
    assert_eq!(runs.get(), 0, "it may be a unary call");
    sleep_until(asked + Duration::from_millis(1999)).await;
    settle().await;
    assert_eq!(runs.get(), 0, "it may still be a unary call");
    sleep(Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(runs.get(), 1, "it is a streaming call");
    sender.send(data(message("two"))).unwrap();
    drop(sender);
    let answer = answer.await.unwrap();
    assert_eq!(answer.body, [message("one"), message("two")].concat());
    assert_eq!(keyed.get(), 0);
}

/// The client sends its next message only after the answer to the one before.
#[tokio::test(start_paused = true)]
async fn a_bidirectional_call_is_no_deadlock_whichever_side_begins() {
    for client_begins in [true, false] {
        let echo = handler(|request| async { answer(request.into_body()) });
        let service = under(Contract::grpc(), echo);
        let (sender, body) = channel();
        if client_begins {
            sender.send(data(message("0"))).unwrap();
        }
        let response = timeout(Duration::from_mins(1), service.oneshot(call("key", body))).await;
        let mut echoed = response.expect("a response while the client waits").unwrap().into_body();
        for turn in 0..3 {
            if turn > 0 || !client_begins {
                sender.send(data(message(&turn.to_string()))).unwrap();
            }
            let frame = echoed.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message(&turn.to_string()));
        }
        drop(sender);
        assert!(echoed.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_a_stream_holds_no_readiness_and_waits_for_it_before_it_passes() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let inner = ConcurrencyLimit::new(gated(&runs, &gate), 1);
    let service = builder(memory()).contract(Contract::grpc()).build().layer(inner);
    let (_sender, body) = channel();
    let streaming = start(&service, call("stream", body));
    settle().await;
    let other = start(&service, unary("key", "pay"));
    settle().await;
    assert_eq!(runs.get(), 1, "the other call is not kept waiting");
    sleep(GRACE * 2).await;
    assert_eq!(runs.get(), 1, "one at a time");
    gate.open();
    other.await.unwrap();
    streaming.await.unwrap();
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_slowly_is_waited_for() {
    let runs = Count::default();
    let service = under(Contract::grpc(), answering(&runs, || ok("paid")));
    for _ in 0..2 {
        let (sender, body) = channel();
        let answer = start(&service, call("key", body));
        for byte in message("pay").chunks(1) {
            sender.send(data(Bytes::copy_from_slice(byte))).unwrap();
            if byte != b"y" {
                sleep(GRACE * 10).await;
            }
        }
        sleep(GRACE / 2).await;
        drop(sender);
        answer.await.unwrap();
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_message_passes() {
    let (runs, keyed) = (Count::default(), Count::default());
    let service = under(Contract::grpc(), telling_keys(&runs, &keyed));
    let pieces = stream::iter([data("hello")]).chain(stream::pending());
    let request = call("key", BodyExt::boxed_unsync(StreamBody::new(pieces)));
    let _ = timeout(Duration::from_mins(1), service.oneshot(request)).await;
    assert_eq!((runs.get(), keyed.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_streaming_call_is_asked_of_no_store_and_passes_while_it_is_down() {
    let (store, runs, keyed) = (Scripted::new(), Count::default(), Count::default());
    store.always(Verb::Claim, DOWN);
    let service = builder(store).contract(Contract::grpc()).build().layer(telling_keys(&runs, &keyed));
    let answer = send(&service, call("key", frames(vec![data(message("1")), data(message("2"))]))).await;
    assert_eq!(code(&answer), "0");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_two_messages_runs_once_and_is_not_repeated() {
    let runs = Count::default();
    let two = || {
        let pieces = vec![data(message("1")), data(message("2")), trailers("grpc-status", "0")];
        answer(frames(pieces))
    };
    let service = under(Contract::grpc(), answering(&runs, two));
    let first = send(&service, unary("key", "list")).await;
    assert_eq!(first.body, [message("1"), message("2")].concat());
    assert_eq!(code(&first), "0");
    let again = send(&service, unary("key", "list")).await;
    assert_eq!(again.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)));
    assert_eq!((code(&again), runs.get()), ("6", 1));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stays_open_is_passed_on_as_it_comes() {
    for begun in [true, false] {
        let (runs, (sender, body)) = (Count::default(), channel());
        let body = Arc::new(Mutex::new(Some(body)));
        let inner = answering(&runs, move || answer(body.lock().unwrap().take().unwrap()));
        let service = under(Contract::grpc(), inner);
        if begun {
            sender.send(data(message("0"))).unwrap();
        }
        let response = timeout(GRACE * 2, service.clone().oneshot(unary("key", "watch"))).await;
        let mut events = response.expect("a response while the stream is open").unwrap().into_body();
        for turn in 0..3 {
            if turn > 0 || !begun {
                sender.send(data(message(&turn.to_string()))).unwrap();
            }
            let frame = events.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message(&turn.to_string()));
        }
        let again = send(&service, unary("key", "watch")).await;
        assert_eq!(again.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)));
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_first_message_runs_again() {
    let failing = || answer(frames(vec![trailers("grpc-status", "14")]));
    assert_eq!(runs_of_two(Contract::grpc(), failing).await, 2);
}
