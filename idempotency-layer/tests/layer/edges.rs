//! Edges of HTTP: uploads that break off, responses that never end, interim responses, limits outside the layer.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use idempotency_layer::{
    Classifier, Contract, Disposition, FingerprintMode, KeySyntax, OnDisconnect, RejectionKind, Tombstone,
};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{
    Body, Count, Handler, Piece, Req, Res, broken, builder, data, frames, handler, memory, poll, post,
    protected, request, response, send, settle, under,
};

/// A body of these pieces that never ends.
fn endless(pieces: Vec<Piece>) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(
        futures_util::stream::iter(pieces).chain(futures_util::stream::pending()),
    ))
}

/// A contract without fingerprints, so that the handler reads the body while it arrives.
fn unread() -> Contract {
    Contract::ietf().key(KeySyntax::token(1..=9)).fingerprint(FingerprintMode::None)
}

/// Reads the upload, and answers `status` if it breaks off.
fn storing(runs: &Count, status: u16) -> Handler {
    let runs = runs.clone();
    handler(move |request: Req| {
        runs.one();
        async move {
            match request.into_body().collect().await {
                Ok(body) => response(201, body.to_bytes()),
                Err(_) => response(status, "the body could not be read"),
            }
        }
    })
}

fn broken_off(key: &str) -> Req {
    let mut request = post(key, "");
    *request.body_mut() = frames(vec![data("half"), broken()]);
    request
}

#[tokio::test(start_paused = true)]
async fn whatever_is_answered_to_an_upload_that_broke_off_is_given_but_not_stored() {
    for status in [200, 400, 422, 500] {
        let runs = Count::default();
        let service = under(unread(), storing(&runs, status));
        let first = send(&service, broken_off("key")).await;
        assert_eq!(first.brief(), (status, "the body could not be read"));
        assert_eq!(send(&service, post("key", "whole")).await.brief(), (201, "whole"), "{status}");
        assert!(send(&service, post("key", "whole")).await.is_replay());
        assert_eq!(runs.get(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_while_the_response_is_sent_is_not_stored_either() {
    // The handler echoes the upload while it arrives, and its error handling turns the break into an ordinary end.
    let inner = handler(|request: Req| async move {
        let pieces =
            request.into_body().into_data_stream().take_while(|piece| std::future::ready(piece.is_ok()));
        let body = pieces.map(|piece| piece.map(http_body::Frame::data));
        response(200, "").map(|_| BodyExt::boxed_unsync(StreamBody::new(body)))
    });
    let service = under(unread(), inner);
    assert_eq!(send(&service, broken_off("key")).await.brief(), (200, "half"));
    assert_eq!(send(&service, post("key", "whole")).await.brief(), (200, "whole"));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_handler_does_not_read_to_its_end_may_be_stored() {
    let service = under(
        unread(),
        handler(|request: Req| async move {
            drop(request);
            response(422, "not wanted")
        }),
    );
    assert_eq!(send(&service, broken_off("key")).await.status, 422);
    assert!(send(&service, post("key", "whole")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn cancel_also_ends_a_response_whose_body_is_still_read() {
    let runs = Count::default();
    let counted = runs.clone();
    let inner = handler(move |_| {
        let run = counted.one();
        async move {
            let mut answer = response(201, format!("run {run}"));
            if run == 1 {
                *answer.body_mut() = endless(vec![data("…")]);
            }
            answer
        }
    });
    let layer = builder(memory()).on_disconnect(OnDisconnect::Cancel).build();
    let service = layer.layer(inner);
    let mut first = Box::pin(service.clone().oneshot(post("key", "body")));
    for _ in 0..8 {
        assert!(poll(&mut first).await.is_pending());
    }
    drop(first);
    settle().await;
    assert_eq!(layer.detached(), 0);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn an_interim_response_is_neither_stored_nor_a_tombstone() {
    for (contract, disposition) in [
        (Contract::veriko(), None),
        (Contract::veriko(), Some(Disposition::Store)),
        (Contract::veriko(), Some(Disposition::Tombstone)),
        (Contract::veriko().stores(Classifier::everything()), None),
        (Contract::veriko().stores(Classifier::custom(|_| Disposition::Store)), None),
    ] {
        for status in [100, 101, 103] {
            let inner = handler(move |_| async move {
                let mut answer = response(status, "");
                answer.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
                answer.extensions_mut().extend(disposition.map(with_disposition).unwrap_or_default());
                answer
            });
            let service = under(contract.clone(), inner);
            for _ in 0..2 {
                let answer = send(&service, request(Method::GET, "/socket", "key", "")).await;
                assert_eq!((answer.status, answer.header("upgrade")), (status, Some("websocket")));
            }
        }
    }
}

fn with_disposition(disposition: Disposition) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(disposition);
    extensions
}

fn of_type(content_type: &'static str, body: Body) -> Res {
    let mut answer = response(200, "");
    answer.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    answer.map(|_| body)
}

#[tokio::test(start_paused = true)]
async fn a_response_that_may_never_end_reaches_its_client_while_it_comes() {
    for content_type in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl ;x=y",
        "application/json-seq",
        "application/stream+json",
        "multipart/x-mixed-replace; boundary=frame",
    ] {
        let service =
            protected(handler(move |_| async move { of_type(content_type, endless(vec![data("{}\n")])) }));
        let answer = timeout(Duration::from_mins(1), service.clone().oneshot(post("key", "body"))).await;
        let mut body = answer.expect("its head before its end").unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}\n", "{content_type}");
        let retry = send(&service, post("key", "body")).await;
        assert_eq!(retry.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)), "{content_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn lines_whose_length_is_known_are_stored_and_other_types_are_read_to_their_end() {
    for (content_type, body) in [
        ("application/x-ndjson", false),
        ("application/json", true),
        ("text/event-streams", true),
        ("multipart/mixed", true),
    ] {
        let service = protected(handler(move |_| async move {
            of_type(
                content_type,
                if body { frames(vec![data("{}\n")]) } else { crate::support::full("{}\n") },
            )
        }));
        send(&service, post("key", "body")).await;
        let retry = send(&service, post("key", "body")).await;
        assert_eq!((retry.brief(), retry.is_replay()), ((200, "{}\n"), true), "{content_type}");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped(#[source] Box<dyn Error + Send + Sync>);

#[tokio::test(start_paused = true)]
async fn a_length_limit_outside_of_the_layer_is_413_however_it_is_wrapped() {
    type Boxed = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;
    let inner = service_fn(|request: Request<Boxed>| async move {
        drop(request);
        Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::new())))
    });
    let service = builder(memory()).build().layer(inner);
    for depth in 0..3 {
        let limited = Limited::new(frames(vec![data("12345"), data("67890")]), 5);
        let body: Boxed = BodyExt::boxed_unsync(limited.map_err(move |error| {
            (0..depth).fold(error, |error, _| Box::new(Wrapped(error)) as Box<dyn Error + Send + Sync>)
        }));
        let request = Request::post("/orders").header("idempotency-key", "key").body(body).unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 413);
        let rejection = answer.extensions().get::<idempotency_layer::Rejection>().unwrap();
        assert_eq!(rejection.kind(), RejectionKind::BodyTooLarge { limit: None });
        assert!(rejection.source().is_some() && !rejection.to_string().contains("bytes"));
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_length_limit_around_axum_is_413_too() {
    let app = axum::Router::new()
        .route("/", axum::routing::post(|| async { "done" }))
        .layer(builder(memory()).build())
        .layer(tower::util::MapRequestLayer::new(|request: axum::extract::Request| {
            request.map(|body| axum::body::Body::new(Limited::new(body, 5)))
        }));
    let body = axum::body::Body::from_stream(futures_util::stream::iter(
        ["12345", "67890"].map(Ok::<_, std::io::Error>),
    ));
    let request = Request::post("/").header("idempotency-key", "key").body(body).unwrap();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 413);
}
