//! Bodies: in frames, with trailers, too long, endless, broken.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use idempotency_layer::{Contract, RejectionKind, ReplayBody, Tombstone};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt};

use crate::scripted::{Scripted, Verb};
use crate::support::{
    Answer, Body, Count, Handler, Piece, Req, Res, broken, builder, counting, data, frames, full, handler,
    memory, post, protected, response, send, settle, start, trailers, under,
};

const UNREPLAYABLE: RejectionKind = RejectionKind::Tombstone(Tombstone::Unreplayable);

fn with_body(key: &str, body: Body) -> Req {
    Request::post("/orders").header("idempotency-key", key).body(body).unwrap()
}

/// Answers the body of the request and, as a header, its trailer `x-sum`.
fn echo(runs: &Count) -> Handler {
    let runs = runs.clone();
    handler(move |request: Req| {
        runs.one();
        async move {
            let hint = request.body().size_hint().exact();
            let body = request.into_body().collect().await.unwrap();
            let sum = body.trailers().map(|trailers| trailers["x-sum"].clone());
            let mut answer = response(200, body.to_bytes());
            answer.headers_mut().insert("x-sum", sum.unwrap_or_else(|| HeaderValue::from_static("none")));
            answer.headers_mut().insert("x-hint", format!("{hint:?}").parse().unwrap());
            answer
        }
    })
}

/// Answers a body of these frames with this content type.
fn in_frames(runs: &Count, content_type: &'static str, pieces: fn() -> Vec<Piece>) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        runs.one();
        async move {
            let mut answer = response(200, "");
            *answer.body_mut() = frames(pieces());
            answer.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
            answer
        }
    })
}

#[tokio::test(start_paused = true)]
async fn every_frame_of_a_request_and_its_trailers_reach_the_handler() {
    let runs = Count::default();
    let service = protected(echo(&runs));
    let body = || frames(vec![data("one "), data(""), data("two "), data("three"), trailers("x-sum", "11")]);
    let first = send(&service, with_body("key", body())).await;
    assert_eq!((first.text(), first.header("x-sum")), ("one two three", Some("11")));
    let replay = send(&service, with_body("key", body())).await;
    assert_eq!((replay.text(), replay.is_replay(), runs.get()), ("one two three", true, 1));
}

#[tokio::test(start_paused = true)]
async fn how_a_request_is_cut_into_frames_makes_no_other_request() {
    let runs = Count::default();
    let service = protected(echo(&runs));
    send(&service, post("key", "one two")).await;
    for cut in [vec![data("one "), data("two")], vec![data("o"), data(""), data("ne two")]] {
        assert!(send(&service, with_body("key", frames(cut))).await.is_replay());
    }
    // A body that only begins with the same bytes is another one.
    assert_eq!(send(&service, with_body("key", frames(vec![data("one ")]))).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_told_the_length_of_the_body_that_was_read() {
    for (body, length) in
        [(full("four"), "Some(4)"), (frames(vec![data("fo"), data("ur")]), "Some(4)"), (full(""), "Some(0)")]
    {
        let answer = send(&protected(echo(&Count::default())), with_body("key", body)).await;
        assert_eq!(answer.header("x-hint"), Some(length));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_is_an_error_and_never_an_empty_success() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = builder(store.clone()).build().layer(echo(&runs));
    for pieces in [vec![broken()], vec![data("half"), broken()], vec![data("half"), broken(), data("rest")]] {
        let answer = send(&service, with_body("key", frames(pieces))).await;
        assert_eq!((answer.status, answer.kind()), (400, Some(RejectionKind::BodyUnreadable)));
        // A renderer can distinguish a time-out from a reset.
        let why = answer.rejection.as_ref().unwrap().source().map(ToString::to_string);
        assert_eq!(why.as_deref(), Some("the connection was reset"));
        assert!(!answer.text().contains("reset"), "the client is not told: {}", answer.text());
    }
    assert_eq!((runs.get(), store.count(Verb::Claim)), (0, 0));
    assert_eq!(send(&service, post("key", "whole")).await.brief(), (200, "whole"));
}

#[tokio::test(start_paused = true)]
async fn a_request_longer_than_the_layer_reads_is_refused_and_does_not_run() {
    let runs = Count::default();
    let service = builder(memory()).max_request_bytes(10).build().layer(echo(&runs));
    let long = [
        full("eleven byte"),
        frames(vec![data("eleven "), data("byte")]),
        frames((0..11).map(|_| data("x")).collect()),
    ];
    for body in long {
        let answer = send(&service, with_body("key", body)).await;
        assert_eq!(
            (answer.status, answer.kind()),
            (413, Some(RejectionKind::BodyTooLarge { limit: Some(10) }))
        );
    }
    assert_eq!(runs.get(), 0);
    for body in [full("ten bytes!"), frames(vec![data("ten "), data("bytes!")])] {
        assert_eq!(send(&service, with_body("key", body)).await.text(), "ten bytes!");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_request_is_refused_when_it_is_too_long_and_not_read_on() {
    let service = builder(memory()).max_request_bytes(1000).build().layer(echo(&Count::default()));
    let endless = stream::repeat_with(|| data("sixteen bytes of"));
    let request = with_body("key", BodyExt::boxed_unsync(StreamBody::new(endless)));
    assert_eq!(send(&service, request).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn without_a_fingerprint_the_handler_reads_the_request_while_it_comes() {
    let called = std::sync::Arc::new(Notify::new());
    let told = called.clone();
    let service = under(
        Contract::mintfax(),
        handler(move |request: Req| {
            told.notify_one();
            async { response(200, request.into_body().collect().await.unwrap().to_bytes()) }
        }),
    );
    // The body arrives after the handler was called. A layer that reads it first would wait for ever.
    let body = stream::once(async move {
        called.notified().await;
        data("late")
    });
    let request = with_body("key", BodyExt::boxed_unsync(StreamBody::new(body)));
    assert_eq!(send(&service, request).await.brief(), (200, "late"));
    assert_eq!(send(&service, post("key", "whatever")).await.brief(), (200, "late"));
}

#[tokio::test(start_paused = true)]
async fn without_a_fingerprint_no_request_is_too_long() {
    let layer = builder(memory()).contract(Contract::mintfax()).max_request_bytes(3).build();
    let answer = send(&layer.layer(echo(&Count::default())), post("key", "more than three")).await;
    assert_eq!(answer.brief(), (200, "more than three"));
}

#[tokio::test(start_paused = true)]
async fn every_frame_of_a_response_is_stored() {
    let runs = Count::default();
    let service = protected(in_frames(&runs, "text/plain", || {
        vec![data("one "), data(""), data("two"), trailers("x-sum", "7")]
    }));
    for again in [false, true] {
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.text(), answer.is_replay()), ("one two", again));
        assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_no_success_and_does_not_run_again() {
    for pieces in [|| vec![data("half"), broken()], || vec![broken()]] as [fn() -> Vec<Piece>; 2] {
        let runs = Count::default();
        let service = protected(in_frames(&runs, "text/plain", pieces));
        let first = send(&service, post("key", "body")).await;
        assert_eq!((first.status, first.kind()), (500, Some(RejectionKind::ResponseUnreadable)));
        for _ in 0..2 {
            assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNREPLAYABLE));
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_too_large_reaches_its_client_whole_and_is_never_run_again() {
    let sized: fn() -> Vec<Piece> = || vec![data("a response of more than ten bytes")];
    let cut = || vec![data("a response "), data("of more "), data("than ten bytes"), trailers("x-sum", "33")];
    for pieces in [sized, cut] {
        let runs = Count::default();
        let layer = builder(memory()).max_response_bytes(10).build();
        let service = layer.layer(in_frames(&runs, "text/plain", pieces));
        let first = send(&service, post("key", "body")).await;
        assert_eq!(first.brief(), (200, "a response of more than ten bytes"));
        assert_eq!(first.header("content-type"), Some("text/plain"));
        let given = frames(pieces()).collect().await.unwrap();
        assert_eq!(first.trailers.as_ref(), given.trailers());
        for _ in 0..3 {
            let retry = send(&service, post("key", "body")).await;
            assert_eq!((retry.status, retry.kind()), (409, Some(UNREPLAYABLE)));
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_known_to_be_too_large_is_passed_on_as_it_is() {
    let layer = builder(memory()).max_response_bytes(10).build();
    let service = layer.layer(handler(|_| async { response(200, vec![b'x'; 5000]) }));
    let answer = service.oneshot(post("key", "body")).await.unwrap();
    assert_eq!(answer.body().size_hint().exact(), Some(5000));
    assert_eq!(Answer::of(answer).await.body.len(), 5000);
}

#[tokio::test(start_paused = true)]
async fn a_response_of_exactly_the_limit_is_stored() {
    for cut in [|| vec![data("ten "), data("bytes!")], || vec![data("ten bytes!"), data("")]]
        as [fn() -> Vec<Piece>; 2]
    {
        let runs = Count::default();
        let layer = builder(memory()).max_response_bytes(10).build();
        let service = layer.layer(in_frames(&runs, "text/plain", cut));
        send(&service, post("key", "body")).await;
        let replay = send(&service, post("key", "body")).await;
        assert_eq!((replay.text(), replay.is_replay(), runs.get()), ("ten bytes!", true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_response_begins_to_reach_its_client_and_is_never_run_again() {
    let runs = Count::default();
    let counted = runs.clone();
    let service = builder(memory()).max_response_bytes(100).build().layer(handler(move |_| {
        counted.one();
        async {
            let mut answer = response(200, "");
            let endless = stream::iter(0..).map(|n: u64| data(format!("{n} ")));
            *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(endless));
            answer
        }
    }));
    let mut body = service.clone().oneshot(post("key", "body")).await.unwrap().into_body();
    let mut read = Vec::new();
    while read.len() < 1000 {
        read.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let expected: Vec<u8> = (0..1000).flat_map(|n| format!("{n} ").into_bytes()).take(read.len()).collect();
    assert!(read == expected, "nothing is lost or doubled where the reading stopped");
    drop(body);
    let retry = service.oneshot(post("key", "body")).await.unwrap();
    assert_eq!(retry.status(), 409, "not read here: were it another endless one, it would fill the memory");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_too_large_that_breaks_off_breaks_off_for_its_client() {
    let layer = builder(memory()).max_response_bytes(3).build();
    let service = layer.layer(in_frames(&Count::default(), "text/plain", || vec![data("four"), broken()]));
    let mut body = service.oneshot(post("key", "body")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "four");
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "the connection was reset");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_reaches_its_client_while_it_comes_and_is_never_run_again() {
    for content_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        let runs = Count::default();
        let counted = runs.clone();
        let service = protected(handler(move |_| {
            counted.one();
            async move {
                let mut answer = response(200, "");
                let events = stream::iter([data("data: 1\n\n")]).chain(stream::pending());
                *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(events));
                answer.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
                answer
            }
        }));
        let answer = service.clone().oneshot(post("key", "body"));
        let mut body = timeout(Duration::from_secs(9), answer).await.unwrap().unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
        for _ in 0..3 {
            assert_eq!(
                send(&service, post("key", "body")).await.kind(),
                Some(UNREPLAYABLE),
                "{content_type}"
            );
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_stored_is_not_read_either() {
    let service = protected(handler(|_| async {
        let mut answer = response(503, "");
        *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(stream::pending::<Piece>()));
        answer
    }));
    let client = tokio::spawn(service.oneshot(post("key", "body")));
    settle().await;
    assert!(client.is_finished());
    assert_eq!(client.await.unwrap().unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn clients_of_one_key_share_no_reading_position() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    send(&service, post("key", "body")).await;
    let clients: Vec<_> = (0..10).map(|_| start(&service, post("key", "body"))).collect();
    for client in clients {
        assert_eq!(client.await.unwrap().text(), "run 1");
    }
}

/// A service with [`ReplayBody`]s around a body that cannot be made from bytes.
#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_made_from_bytes_passes_in_a_wrapper() {
    type Wrapped = ReplayBody<Body>;
    let runs = Count::default();
    let counted = runs.clone();
    let inner = tower::service_fn(move |request: Request<Wrapped>| {
        counted.one();
        async move {
            let body = request.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "1");
            Ok::<_, io::Error>(http::Response::new(Wrapped::new(full(body.to_bytes()))))
        }
    });
    let layer = builder(memory()).max_response_bytes(20).build();
    let mut service = layer.layer(inner);
    for (key, body) in [("short", "some"), ("long", "more than twenty bytes of a body")] {
        for again in [false, true] {
            let pieces = vec![data(body), trailers("x-sum", "1")];
            let request = with_body(key, frames(pieces)).map(Wrapped::new);
            let answer = service.ready().await.unwrap().call(request).await.unwrap();
            let answer = Answer::of(answer.map(BodyExt::boxed_unsync)).await;
            assert!(answer.text() == body || (key == "long" && again && answer.status == 409), "{answer:?}");
        }
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_says_how_long_it_is() {
    let runs = Count::default();
    let service = protected(in_frames(&runs, "text/plain", || vec![data("one "), data("two")]));
    for _ in 0..2 {
        let answer: Res = service.clone().oneshot(post("key", "body")).await.unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(7));
    }
    let empty = protected(handler(|_| async { response(204, "") }));
    for _ in 0..2 {
        let answer = empty.clone().oneshot(post("key", "body")).await.unwrap();
        assert!(answer.body().is_end_stream(), "or a server sends a 204 in chunks");
    }
}
