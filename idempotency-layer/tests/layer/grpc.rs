//! Calls of gRPC over HTTP/2: outcomes, rows, and rejections.

#[path = "grpc/streams.rs"]
mod streams;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use idempotency_layer::{
    Classifier, Contract, Disposition, IdempotencyLayer, InvalidKey, OnOrphan, RejectionKind, StoreErrorKind,
    Tombstone,
};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};

use crate::lending::{Lending, Pen};
use crate::scripted::{DOWN, Scripted, Verb};
use crate::support::{
    Answer, Body, Count, Gate, Handler, Req, Res, broken, builder, counting, data, frames, full, handler,
    memory, now, post, response, send, settle, start, trailers, try_handler, under, with,
};

/// How long a call that may be a stream waits for its end.
const GRACE: Duration = Duration::from_secs(2);

/// A message with its prefix.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat().into()
}

/// A call whose body is these frames.
fn call(key: &str, body: Body) -> Req {
    let mut request = with(post(key, ""), "content-type", "application/grpc");
    *request.body_mut() = body;
    request
}

fn unary(key: &str, text: &str) -> Req {
    call(key, frames(vec![data(message(text))]))
}

fn answer(body: Body) -> Res {
    let mut response = response(200, "");
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    *response.body_mut() = body;
    response
}

/// The answer to a unary call: a message, and OK.
fn ok(text: &str) -> Res {
    answer(frames(vec![data(message(text)), trailers("grpc-status", "0")]))
}

/// An outcome without a message, in the headers.
fn trailers_only(code: &'static str) -> Res {
    let mut response = answer(full(""));
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    response
}

/// Answers each run with `answer`.
fn answering(runs: &Count, answer: impl Fn() -> Res + Clone + Send + Sync + 'static) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        runs.one();
        let answer = answer();
        async { answer }
    })
}

/// Returns the status of a call.
fn code(answer: &Answer) -> &str {
    let trailer = answer.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    answer.header("grpc-status").or(trailer.map(|code| code.to_str().unwrap())).unwrap()
}

/// Sends the same call twice, and returns how often it ran.
async fn runs_of_two(contract: Contract, answer: impl Fn() -> Res + Clone + Send + Sync + 'static) -> usize {
    let runs = Count::default();
    let service = under(contract, answering(&runs, answer));
    let (first, again) =
        (send(&service, unary("key", "pay")).await, send(&service, unary("key", "pay")).await);
    assert_eq!((first.status, again.status), (200, 200));
    runs.get()
}

#[tokio::test(start_paused = true)]
async fn an_ok_is_replayed_with_its_message_and_its_trailers() {
    let runs = Count::default();
    let service = under(Contract::grpc(), answering(&runs, || ok("paid")));
    let first = send(&service, unary("key", "pay")).await;
    let again = send(&service, unary("key", "pay")).await;
    assert_eq!(runs.get(), 1);
    assert!(again.is_replay() && !first.is_replay());
    assert_eq!((&again.body, &again.trailers), (&first.body, &first.trailers));
    assert_eq!((again.body.clone(), code(&again)), (message("paid"), "0"));
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_goes_by_the_status_of_the_call_wherever_it_is() {
    let stored = ["0", "3", "5", "6", "7", "9", "11"];
    for number in [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "x",
    ] {
        let runs = if stored.contains(&number) { 1 } else { 2 };
        assert_eq!(runs_of_two(Contract::grpc(), move || trailers_only(number)).await, runs, "{number}");
        let trailing = move || answer(frames(vec![trailers("grpc-status", number)]));
        assert_eq!(runs_of_two(Contract::grpc(), trailing).await, runs, "{number} in trailers");
        let under_another = Contract::veriko();
        assert_eq!(runs_of_two(under_another, trailing).await, runs, "{number}, another contract");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_ends_without_a_status_is_not_stored() {
    let cut = || answer(frames(vec![data(message("paid"))]));
    assert_eq!(runs_of_two(Contract::grpc(), cut).await, 2);
    assert_eq!(runs_of_two(Contract::grpc().stores(Classifier::everything()), cut).await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_classifier_of_the_contract_sees_the_status_of_the_call() {
    let success = || Contract::grpc().stores(Classifier::success());
    assert_eq!(runs_of_two(success(), || trailers_only("3")).await, 2);
    assert_eq!(runs_of_two(success(), || ok("paid")).await, 1);
    let everything = || Contract::grpc().stores(Classifier::everything());
    assert_eq!(runs_of_two(everything(), || trailers_only("14")).await, 1);
    let aborted = Contract::grpc().stores(Classifier::custom(|parts| {
        assert_eq!(parts.status, StatusCode::SERVICE_UNAVAILABLE);
        match parts.headers["grpc-status"].as_bytes() {
            b"10" => Disposition::Store,
            _ => Disposition::Release,
        }
    }));
    let by_trailer = |code| move || answer(frames(vec![trailers("grpc-status", code)]));
    assert_eq!(runs_of_two(aborted.clone(), by_trailer("10")).await, 1);
    assert_eq!(runs_of_two(aborted, by_trailer("14")).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_classified_response_is_what_the_handler_sent() {
    let service =
        under(Contract::grpc(), handler(|_| async { answer(frames(vec![trailers("grpc-status", "14")])) }));
    let answer = send(&service, unary("key", "pay")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, None));
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "14");
}

#[tokio::test(start_paused = true)]
async fn a_disposition_of_the_handler_goes_before_the_status_of_the_call() {
    let with = |disposition| {
        move || {
            let mut answer = trailers_only("13");
            answer.extensions_mut().insert(disposition);
            answer
        }
    };
    assert_eq!(runs_of_two(Contract::grpc(), with(Disposition::Store)).await, 1);
    assert_eq!(runs_of_two(Contract::grpc(), with(Disposition::Tombstone)).await, 1);
    let released = || {
        let mut answer = ok("paid");
        answer.extensions_mut().insert(Disposition::Release);
        answer
    };
    assert_eq!(runs_of_two(Contract::grpc(), released).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_http_counts_as_one() {
    let unavailable = || {
        let mut answer = answer(full(""));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer
    };
    let runs = Count::default();
    let service = under(Contract::grpc(), answering(&runs, unavailable));
    send(&service, unary("key", "pay")).await;
    send(&service, unary("key", "pay")).await;
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_interim_response_is_not_stored_whatever_type_it_says() {
    let interim = || {
        let mut answer = answer(BodyExt::boxed_unsync(StreamBody::new(stream::pending())));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer
    };
    let runs = Count::default();
    let service = under(Contract::grpc(), answering(&runs, interim));
    for _ in 0..2 {
        let asked = now();
        service.clone().oneshot(unary("key", "pay")).await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO, "it was not read");
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn grpc_web_is_not_read_as_grpc() {
    let runs = Count::default();
    let web = || {
        let mut answer = trailers_only("14");
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc-web"));
        answer
    };
    let service = under(Contract::grpc(), answering(&runs, web));
    send(&service, unary("key", "pay")).await;
    send(&service, unary("key", "pay")).await;
    assert_eq!(runs.get(), 1, "an HTTP 200 like any other");
}

/// Sends a call twice whose handler writes a row. Returns the number of committed rows and of runs.
async fn rows_of_two(
    is_keyed: bool,
    answer: impl Fn() -> Res + Clone + Send + Sync + 'static,
) -> (usize, usize) {
    let (store, runs) = (Lending::new(), Count::default());
    let counted = runs.clone();
    let inner = handler(move |request| {
        counted.one();
        Pen::of(&request).write("row");
        let answer = answer();
        async { answer }
    });
    let service = builder(store.clone()).contract(Contract::grpc()).build().layer(inner);
    for _ in 0..2 {
        let mut request = unary("key", "pay");
        if !is_keyed {
            request.headers_mut().remove("idempotency-key");
        }
        assert_eq!(send(&service, request).await.status, 200);
    }
    (store.committed().len(), runs.get())
}

#[tokio::test(start_paused = true)]
async fn rows_are_committed_with_an_ok_only() {
    assert_eq!(rows_of_two(true, || ok("paid")).await, (1, 1));
    assert_eq!(rows_of_two(false, || ok("paid")).await, (2, 2));
    for (number, stored) in [("5", true), ("14", false)] {
        for trailing in [true, false] {
            let answer = move || {
                if trailing {
                    answer(frames(vec![trailers("grpc-status", number)]))
                } else {
                    trailers_only(number)
                }
            };
            let runs = if stored { 1 } else { 2 };
            assert_eq!(rows_of_two(true, answer).await, (0, runs), "{number}, in trailers: {trailing}");
            assert_eq!(rows_of_two(false, answer).await, (0, 2), "{number}, in trailers: {trailing}, no key");
        }
    }
    let cut = || answer(frames(vec![data(message("paid"))]));
    assert_eq!(rows_of_two(true, cut).await, (0, 2), "no outcome");
    assert_eq!(rows_of_two(false, cut).await, (0, 2), "no outcome, no key");
}

#[tokio::test(start_paused = true)]
async fn a_response_without_an_outcome_is_stored_alone_where_the_handler_has_it_stored() {
    let cut = || {
        let mut answer = answer(frames(vec![data(message("paid"))]));
        answer.extensions_mut().insert(Disposition::Store);
        answer
    };
    assert_eq!(rows_of_two(true, cut).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn rows_are_committed_with_the_beginning_of_a_stream() {
    let two = || answer(frames(vec![data(message("1")), data(message("2")), trailers("grpc-status", "0")]));
    assert_eq!(rows_of_two(true, two).await, (1, 1));
    assert_eq!(rows_of_two(false, two).await, (2, 2));
    let open = || {
        let pieces = stream::iter([data(message("1"))]).chain(stream::pending().take_until(sleep(GRACE * 2)));
        answer(BodyExt::boxed_unsync(StreamBody::new(pieces)))
    };
    assert_eq!(rows_of_two(false, open).await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_key_rows_are_not_committed_with_a_response_that_broke_off() {
    let cut = || answer(frames(vec![data(message("paid")), broken()]));
    assert_eq!(rows_of_two(false, cut).await, (0, 2));
}

/// Checks a rejection against the table of `Contract::grpc`.
fn assert_rejected(answer: &Answer, kind: RejectionKind, expected: &str, pushback: Option<&str>) {
    assert_eq!(answer.kind(), Some(kind));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/grpc")), "{kind:?}");
    assert_eq!((answer.header("grpc-status"), answer.body.len()), (Some(expected), 0), "{kind:?}");
    assert_eq!(answer.header("grpc-retry-pushback-ms"), pushback, "{kind:?}");
    assert_eq!(answer.header("grpc-message"), Some(answer.rejection.as_ref().unwrap().to_string().as_str()));
}

#[tokio::test(start_paused = true)]
async fn every_rejection_is_a_grpc_answer_with_a_code_of_its_kind() {
    let runs = Count::default();
    let contract = || Contract::grpc().required();
    let layer = builder(memory()).contract(contract()).max_request_bytes(64).build();
    let service = layer.layer(answering(&runs, || ok("paid")));

    let mut keyless = unary("key", "pay");
    keyless.headers_mut().remove("idempotency-key");
    assert_rejected(&send(&service, keyless).await, RejectionKind::KeyMissing, "3", None);
    let long = InvalidKey::TooLong;
    let too_long = unary(&"k".repeat(256), "pay");
    assert_rejected(&send(&service, too_long).await, RejectionKind::KeyInvalid(long), "3", None);
    send(&service, unary("key", "pay")).await;
    assert_rejected(&send(&service, unary("key", "other")).await, RejectionKind::KeyReused, "3", None);
    let large = send(&service, unary("large", &"x".repeat(65))).await;
    assert_rejected(&large, RejectionKind::BodyTooLarge { limit: Some(64) }, "8", Some("-1"));
    let cut = send(&service, call("cut", frames(vec![data(message("pay").slice(..6)), broken()]))).await;
    assert_rejected(&cut, RejectionKind::BodyUnreadable, "3", None);

    let unscoped = IdempotencyLayer::builder(memory())
        .contract(contract())
        .scope(|_| None)
        .build()
        .layer(counting(&runs));
    assert_rejected(&send(&unscoped, unary("key", "pay")).await, RejectionKind::ScopeMissing, "13", None);

    let cut = || answer(frames(vec![data(message("paid")), broken()]));
    let unreadable = under(contract(), answering(&runs, cut));
    let kind = RejectionKind::ResponseUnreadable;
    assert_rejected(&send(&unreadable, unary("key", "pay")).await, kind, "13", None);
    let kind = RejectionKind::Tombstone(Tombstone::Unreplayable);
    assert_rejected(&send(&unreadable, unary("key", "pay")).await, kind, "6", Some("-1"));

    let gate = Gate::closed();
    let waiting = {
        let gate = gate.clone();
        under(
            contract(),
            handler(move |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    ok("paid")
                }
            }),
        )
    };
    let first = start(&waiting, unary("key", "pay"));
    settle().await;
    assert_rejected(
        &send(&waiting, unary("key", "pay")).await,
        RejectionKind::InProgress,
        "10",
        Some("1000"),
    );
    gate.open();
    assert_eq!(code(&first.await.unwrap()), "0");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_unavailable_and_an_unknown_outcome_is_not_to_be_tried_again() {
    let (store, runs) = (Scripted::new(), Count::default());
    let layer = builder(store.clone()).contract(Contract::grpc()).build();
    let service = layer.layer(answering(&runs, || ok("paid")));
    store.next(Verb::Claim, [DOWN, DOWN]);
    let answer = send(&service, unary("key", "pay")).await;
    assert_rejected(&answer, RejectionKind::StoreUnavailable, "14", Some("1000"));
    store.always(Verb::Complete, DOWN);
    let answer = send(&service, unary("key", "pay")).await;
    assert_rejected(&answer, RejectionKind::NotRecorded, "14", Some("1000"));

    let store = Lending::new();
    store.next_commit(StoreErrorKind::Unavailable, true);
    let inner = handler(|request| {
        Pen::of(&request).write("row");
        async { ok("paid") }
    });
    let service = builder(store).contract(Contract::grpc()).build().layer(inner);
    let mut keyless = unary("key", "pay");
    keyless.headers_mut().remove("idempotency-key");
    assert_rejected(&send(&service, keyless).await, RejectionKind::CommitUnknown, "14", Some("-1"));

    let halting = builder(memory()).contract(Contract::grpc()).on_orphan(OnOrphan::Halt);
    let service = halting.build().layer(try_handler(|_| async { Err(std::io::Error::other("down")) }));
    assert!(service.clone().oneshot(unary("key", "pay")).await.is_err());
    let answer = send(&service, unary("key", "pay")).await;
    assert_rejected(&answer, RejectionKind::Tombstone(Tombstone::Unknown), "9", Some("-1"));
}

#[tokio::test(start_paused = true)]
async fn only_unary_calls_by_post_have_keys_and_a_method_has_its_own() {
    let runs = Count::default();
    let service = under(Contract::grpc(), answering(&runs, || ok("paid")));
    let to = |path: &'static str| {
        let mut request = unary("any key, of 1–255 characters", "pay");
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    for _ in 0..2 {
        send(&service, to("/payments.Payments/Pay")).await;
        send(&service, to("/payments.Payments/Refund")).await;
    }
    assert_eq!(runs.get(), 2);
    for _ in 0..2 {
        let mut get = unary("key", "pay");
        *get.method_mut() = http::Method::GET;
        send(&service, get).await;
    }
    assert_eq!(runs.get(), 4);
}
