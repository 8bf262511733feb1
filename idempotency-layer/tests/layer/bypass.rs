//! Requests that the layer does not look at pass unchanged.

use std::sync::Arc;

use http::{Method, Request};
use http_body_util::BodyExt;
use idempotency_layer::{Contract, Idempotency, IdempotencyLayer, RejectionKind};
use tower::{Layer, ServiceExt};

use crate::scripted::{Scripted, Verb};
use crate::support::{
    Answer, Body, Count, Gate, Req, builder, counting, data, first_then_created, frames, full, gated,
    handler, memory, post, post_without_key, protected, request, response, send, settle, start, trailers,
    under, with,
};

#[derive(Clone)]
struct Mark;

/// Answers with what it saw of the request.
fn mirror() -> crate::support::Handler {
    handler(|request: Req| async move {
        let saw = [
            request.extensions().get::<Mark>().is_some(),
            request.extensions().get::<Idempotency>().is_some(),
        ];
        let body = request.into_body();
        let mut answer = response(200, format!("{saw:?}"));
        *answer.body_mut() = body;
        answer.headers_mut().insert("x-saw", format!("{saw:?}").parse().unwrap());
        answer.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
        answer.extensions_mut().insert(Mark);
        answer
    })
}

fn marked(body: Body) -> Req {
    let mut request = Request::post("/orders").body(body).unwrap();
    request.extensions_mut().insert(Mark);
    request
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_passes_with_all_it_has_and_its_answer_comes_back_with_all_it_has() {
    let store = Scripted::new();
    let service = builder(store.clone()).build().layer(mirror());
    let body = frames(vec![data("a"), data("b"), trailers("x-sum", "1")]);
    let response = service.oneshot(marked(body)).await.unwrap();
    assert!(response.extensions().get::<Mark>().is_some());
    let answer = Answer::of(response).await;
    assert_eq!(answer.header("x-saw"), Some("[true, false]"), "no context without a key");
    assert_eq!((answer.text(), answer.header("set-cookie")), ("ab", Some("a=b")));
    assert_eq!(answer.header("idempotent-replayed"), None, "not even the mark that says false");
    assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
    assert_eq!(store.count(Verb::Claim), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_not_read() {
    let seen = Arc::new(tokio::sync::Notify::new());
    let told = seen.clone();
    let service = protected(handler(move |request: Req| {
        let told = told.clone();
        async move {
            told.notify_one();
            response(200, request.into_body().collect().await.unwrap().to_bytes())
        }
    }));
    // The body's only frame arrives after the handler was called. A layer that reads it first would wait for ever.
    let body = futures_util::stream::once(async move {
        seen.notified().await;
        data("late")
    });
    let body = BodyExt::boxed_unsync(http_body_util::StreamBody::new(body));
    assert_eq!(send(&service, marked(body)).await.brief(), (200, "late"));
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_run_each_time() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    for run in 1..=3 {
        assert_eq!(send(&service, post_without_key("body")).await.text(), format!("run {run}"));
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_key_is_required_a_request_without_one_is_refused_and_does_not_run() {
    let runs = Count::default();
    let service = under(Contract::veriko().required(), counting(&runs));
    let answer = send(&service, post_without_key("body")).await;
    assert_eq!((answer.status, answer.kind(), runs.get()), (400, Some(RejectionKind::KeyMissing), 0));
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn where_a_key_is_required_methods_the_contract_leaves_out_still_pass() {
    let runs = Count::default();
    let service = under(Contract::ietf().required(), counting(&runs));
    let get = Request::get("/orders").body(full("")).unwrap();
    assert_eq!(send(&service, get).await.status, 201);
    assert_eq!(send(&service, post_without_key("")).await.status, 400);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_a_method_the_contract_leaves_out_a_key_means_nothing() {
    let runs = Count::default();
    let service = under(Contract::veriko().methods(&[Method::POST]), counting(&runs));
    for run in 1..=2 {
        let answer = send(&service, request(Method::PUT, "/orders", "not a valid key", "body")).await;
        assert_eq!((answer.text(), answer.header("idempotent-replayed")), (&*format!("run {run}"), None));
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_layer_is_told_to_look_away_a_key_means_nothing() {
    let runs = Count::default();
    let layer = builder(memory()).contract(Contract::veriko().required());
    let service = layer.when(|parts| parts.uri.path().starts_with("/orders")).build().layer(counting(&runs));
    for run in 1..=2 {
        let answer = send(&service, request(Method::POST, "/search", "key", "body")).await;
        assert_eq!((answer.text(), answer.header("idempotent-replayed")), (&*format!("run {run}"), None));
    }
    let keyless = Request::post("/search").body(full("")).unwrap();
    assert_eq!(send(&service, keyless).await.status, 201, "nor is one required");
    assert_eq!(send(&service, post_without_key("")).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn what_looks_away_leaves_the_request_as_it_was() {
    let service = builder(memory()).when(|_| false).build().layer(mirror());
    let mut request = with(marked(frames(vec![data("a"), data("b")])), "idempotency-key", "key");
    *request.uri_mut() = "/orders?x=1".parse().unwrap();
    let answer = send(&service, request).await;
    assert_eq!((answer.text(), answer.header("x-saw")), ("ab", Some("[true, false]")));
}

#[tokio::test(start_paused = true)]
async fn a_second_layer_further_in_does_not_take_the_first_ones_claim_for_somebody_elses() {
    let (store, runs) = (memory(), Count::default());
    let layer = builder(store).build();
    let service = layer.layer(layer.layer(counting(&runs)));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_layer_whose_contract_differs_stands_back_too() {
    let runs = Count::default();
    let inner =
        builder(memory()).contract(Contract::mintfax()).build().layer(first_then_created(&runs, || {
            response(404, "not found") // which this contract does not store, and the outer one does
        }));
    let service = builder(memory()).build().layer(inner);
    let fresh = send(&service, post("key", "body")).await;
    assert_eq!((fresh.status, fresh.header("x-idempotency-key")), (404, None));
    assert_eq!(send(&service, post("key", "body")).await.status, 404);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_scope_a_request_with_a_key_is_answered_500_and_does_not_run() {
    let (store, runs) = (Scripted::new(), Count::default());
    let layer = IdempotencyLayer::builder(store.clone()).contract(Contract::veriko()).scope(|_| None).build();
    let service = layer.layer(counting(&runs));
    let answer = send(&service, post("key", "body")).await;
    assert_eq!((answer.status, answer.kind(), runs.get()), (500, Some(RejectionKind::ScopeMissing), 0));
    assert!(!answer.text().to_lowercase().contains("scope"), "a 5xx says nothing internal");
    assert_eq!(store.count(Verb::Claim), 0);
    assert_eq!(
        send(&service, post_without_key("body")).await.status,
        201,
        "without a key there is nothing to scope"
    );
}

#[tokio::test(start_paused = true)]
async fn the_context_and_the_extensions_reach_the_handler_of_a_request_with_a_key() {
    let service = protected(mirror());
    let answer = send(&service, with(marked(full("body")), "idempotency-key", "key")).await;
    assert_eq!(answer.header("x-saw"), Some("[true, true]"));
    // The first client also gets the headers that are not replayed.
    assert_eq!(answer.header("set-cookie"), Some("a=b"));
}

#[tokio::test(start_paused = true)]
async fn the_extensions_of_the_response_reach_the_middleware_outside() {
    let service = protected(mirror());
    let response = service.oneshot(with(marked(full("body")), "idempotency-key", "key")).await.unwrap();
    assert!(response.extensions().get::<Mark>().is_some());
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_are_not_held_up_by_one_with_a_key() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = protected(gated(&runs, &gate));
    let keyed = start(&service, post("key", "body"));
    let bare = [start(&service, post_without_key("body")), start(&service, post_without_key("body"))];
    settle().await;
    assert_eq!(runs.get(), 3);
    gate.open();
    assert_eq!(keyed.await.unwrap().status, 201);
    for bare in bare {
        assert_eq!(bare.await.unwrap().header("idempotent-replayed"), None);
    }
}
