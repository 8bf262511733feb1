//! Rejections: kinds, links and custom renderers.

use bytes::Bytes;
use http::{HeaderName, Method, Response, StatusCode, Uri};
use idempotency_layer::{Bind, Classifier, Contract, KeySyntax, Rejection, RejectionKind, ReplayMark};
use serde_json::json;
use tower::{Layer, ServiceExt};

use crate::support::{
    Count, Gate, Req, Res, builder, counting, gated, memory, post, post_without_key, request, response, send,
    settle, start, under, with,
};

#[tokio::test(start_paused = true)]
async fn a_rejection_stands_typed_in_the_extensions_for_whoever_renders_it_anew() {
    let service = under(Contract::veriko(), counting(&Count::default()));
    let service = tower::ServiceBuilder::new()
        .map_response(|answer: Res| match answer.extensions().get::<Rejection>() {
            Some(why) => response(why.status().as_u16(), format!("{}: {why}", why.code())),
            None => answer,
        })
        .service(service);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    let reused = "idempotency_key_reused: This Idempotency-Key was used for a different request.";
    assert_eq!(send(&service, post("key", "other")).await.brief(), (422, reused));
}

#[tokio::test(start_paused = true)]
async fn neither_a_fresh_answer_nor_a_replay_is_a_rejection() {
    let service = under(Contract::veriko(), counting(&Count::default()));
    for _ in 0..2 {
        let answer = service.clone().oneshot(post("key", "body")).await.unwrap();
        assert!(answer.extensions().get::<Rejection>().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn every_rejection_links_to_the_documentation_and_no_other_answer_does() {
    const LINK: &str = "<https://api.example.com/docs/retries?v=1>; rel=\"describedby\"";
    let uri = Uri::from_static("https://api.example.com/docs/retries?v=1");
    let gate = Gate::closed();
    let service = under(Contract::veriko().required().documentation(uri), gated(&Count::default(), &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    for request in
        [post("key", "body"), post("key", "other"), post("no key", "body"), post_without_key("body")]
    {
        assert_eq!(send(&service, request).await.header("link"), Some(LINK));
    }
    gate.open();
    assert_eq!(owner.await.unwrap().header("link"), None);
    assert_eq!(send(&service, post("key", "body")).await.header("link"), None);
}

#[tokio::test(start_paused = true)]
async fn problem_details_name_the_documentation_as_their_type() {
    let uri = Uri::from_static("https://api.example.com/docs?q=a");
    let contract = Contract::ietf().required();
    let kinds = [
        (contract.clone(), "about:blank"),
        (contract.documentation(uri), "https://api.example.com/docs?q=a"),
    ];
    for (contract, kind) in kinds {
        let answer = send(&under(contract, counting(&Count::default())), post_without_key("body")).await;
        let problem: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!((answer.status, problem["type"].as_str()), (400, Some(kind)));
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_whole_number_of_seconds_that_the_type_tells_too() {
    let service = under(Contract::veriko(), gated(&Count::default(), &Gate::closed()));
    let _owner = start(&service, post("key", "body"));
    settle().await;
    let answer = send(&service, post("key", "body")).await;
    let seconds = answer.rejection.as_ref().unwrap().retry_after_seconds().unwrap();
    assert!(seconds >= 1);
    assert_eq!(answer.header("retry-after"), Some(&*seconds.to_string()));
}

/// A contract in which every setting differs from the presets.
fn own() -> Contract {
    Contract::stripe()
        .header(HeaderName::from_static("x-request-key"))
        .key(KeySyntax::token(4..=8))
        .required()
        .methods(&[Method::PUT])
        .bind(Bind::Endpoint)
        .invalid(StatusCode::IM_A_TEAPOT)
        .reused(StatusCode::GONE)
        .in_progress(StatusCode::TOO_EARLY)
        .stores(Classifier::success())
        .mark(ReplayMark::new(HeaderName::from_static("x-replay")).or_false())
        .echo(HeaderName::from_static("x-echo"))
        .rejection(|rejection| {
            let mut answer = Response::new(Bytes::from(json!({ "why": rejection.code() }).to_string()));
            *answer.status_mut() = rejection.status();
            answer.headers_mut().insert("x-mine", "yes".parse().unwrap());
            answer
        })
}

fn put(key: &str, body: &'static str) -> Req {
    let mut request = request(Method::PUT, "/orders", "ignored", body);
    request.headers_mut().remove("idempotency-key");
    with(request, "x-request-key", key)
}

#[tokio::test(start_paused = true)]
async fn a_contract_of_ones_own_is_kept_to_the_letter() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = builder(memory()).contract(own()).build().layer(gated(&runs, &gate));
    let owner = start(&service, put("key1", "body"));
    settle().await;
    let keyless = {
        let mut request = put("key1", "body");
        request.headers_mut().remove("x-request-key");
        request
    };
    let cases = [
        (put("key1", "body"), 425, "idempotency_key_in_progress", RejectionKind::InProgress),
        (put("key1", "other"), 410, "idempotency_key_reused", RejectionKind::KeyReused),
        (keyless, 400, "idempotency_key_missing", RejectionKind::KeyMissing),
    ];
    for (request, status, code, kind) in cases {
        let answer = send(&service, request).await;
        assert_eq!(
            (answer.status, answer.json(), answer.kind()),
            (status, json!({ "why": code }), Some(kind))
        );
        let mark = (kind != RejectionKind::KeyMissing).then_some("false");
        assert_eq!((answer.header("x-mine"), answer.header("x-replay")), (Some("yes"), mark));
    }
    for bad in ["key", "123456789", "key:1"] {
        assert_eq!(send(&service, put(bad, "body")).await.status, 418, "{bad}");
    }
    gate.open();
    let fresh = owner.await.unwrap();
    assert_eq!((fresh.header("x-replay"), fresh.header("x-echo")), (Some("false"), Some("key1")));
    let replay = send(&service, put("key1", "body")).await;
    assert_eq!((replay.header("x-replay"), replay.header("x-echo")), (Some("true"), Some("key1")));
    assert_eq!((replay.text(), runs.get()), ("run 1", 1));
}

#[tokio::test(start_paused = true)]
async fn the_header_of_another_contract_means_nothing() {
    let runs = Count::default();
    let service = under(Contract::veriko().header(HeaderName::from_static("x-request-key")), counting(&runs));
    for run in 1..=2 {
        assert_eq!(send(&service, post("key", "body")).await.text(), format!("run {run}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_says_its_reason_in_a_word_a_status_and_a_sentence() {
    let service = under(Contract::veriko(), counting(&Count::default()));
    let answer = send(&service, post("no key", "body")).await;
    let rejection = answer.rejection.unwrap();
    assert_eq!((rejection.code(), rejection.status()), ("invalid_idempotency_key", StatusCode::BAD_REQUEST));
    assert_eq!(
        rejection.to_string(),
        "The Idempotency-Key is not valid: the key has a character or a form that is not allowed."
    );
    assert_eq!(rejection.retry_after_seconds(), None);
}

#[tokio::test(start_paused = true)]
async fn the_problem_is_json_whatever_the_uri_of_the_documentation() {
    for uri in ["https://example.com/docs\\d", "https://example.com/\"q\"", "https://example.com/a%5Cb"] {
        let uri = http::Uri::try_from(uri).unwrap();
        let service = under(Contract::ietf().required().documentation(uri), counting(&Count::default()));
        let answer = send(&service, post_without_key("")).await;
        assert_eq!(answer.json()["status"], 400, "{}", answer.text());
    }
}
