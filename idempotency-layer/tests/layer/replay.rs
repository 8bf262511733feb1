//! Replays: what they contain, what they omit, and which responses are not stored.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use idempotency_layer::{Classifier, Contract, Disposition, KeySyntax, RejectionKind, ReplayMark, Tombstone};

use crate::support::{
    Answer, Count, Handler, Res, counting, data, first_then_created, frames, full, handler, post, protected,
    response, send, trailers, under, with,
};

const UNREPLAYABLE: RejectionKind = RejectionKind::Tombstone(Tombstone::Unreplayable);

/// A handler that answers with `answer` and counts its runs.
fn answering(runs: &Count, answer: impl Fn() -> Res + Clone + Send + Sync + 'static) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        runs.one();
        let answer = answer();
        async { answer }
    })
}

fn headers(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
    let fields = fields.iter();
    let mut headers = HeaderMap::new();
    fields.for_each(|(name, value)| {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    });
    headers
}

/// Returns the first and the second answer to a key.
async fn twice(contract: Contract, answer: impl Fn() -> Res + Clone + Send + Sync + 'static) -> [Answer; 2] {
    let runs = Count::default();
    let service = under(contract, answering(&runs, answer));
    let answers = [send(&service, post("key", "body")).await, send(&service, post("key", "body")).await];
    assert_eq!((runs.get(), answers[1].is_replay()), (1, true));
    answers
}

/// Returns the values of a header field, in their order.
fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a [u8]> {
    answer.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_status() {
    for status in [
        200, 201, 202, 204, 206, 207, 299, 301, 302, 303, 304, 307, 308, 400, 402, 403, 404, 409, 410, 422,
        451,
    ] {
        let [first, second] = twice(Contract::veriko(), move || response(status, "")).await;
        assert_eq!((first.status, second.status), (status, status));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_bytes_whatever_they_are() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for body in [bytes, vec![], vec![0], b"\r\n\r\n".to_vec(), "ñ\u{feff}".into()] {
        let given = body.clone();
        let [first, second] = twice(Contract::veriko(), move || response(200, given.clone())).await;
        assert!(first.body == body && second.body == body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_headers_repeated_ones_in_their_order() {
    const GIVEN: [(&str, &[u8]); 10] = [
        ("location", b"/orders/17"),
        ("etag", b"\"v1\""),
        ("link", b"</a>; rel=next"),
        ("link", b"</b>; rel=prev"),
        ("link", b"</a>; rel=next"),
        ("content-type", b"application/json; charset=utf-8"),
        ("x-raw", b"caf\xe9 \xff\x80"),
        ("x-empty", b""),
        ("retry-after", b"7"),
        ("vary", b"accept"),
    ];
    let answers = twice(Contract::veriko(), || {
        let mut answer = response(201, "made");
        *answer.headers_mut() = headers(&GIVEN);
        answer
    });
    for answer in answers.await {
        for (name, _) in GIVEN {
            let given: Vec<_> =
                GIVEN.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value).collect();
            assert_eq!(all(&answer, name), given, "{name}");
        }
        assert_eq!(answer.headers.len(), GIVEN.len() + 1, "and the mark, and nothing else");
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_one_connection_moment_or_session_is_not_replayed_and_reaches_its_own_client() {
    const OWN: [(&str, &[u8]); 14] = [
        ("set-cookie", b"session=1"),
        ("set-cookie", b"other=2"),
        ("date", b"Mon, 01 Jan 2024 00:00:00 GMT"),
        ("www-authenticate", b"Bearer"),
        ("authentication-info", b"nextnonce=1"),
        ("proxy-authenticate", b"Basic"),
        ("connection", b"keep-alive, X-Hop ,x-other-hop"),
        ("keep-alive", b"timeout=5"),
        ("transfer-encoding", b"chunked"),
        ("te", b"trailers"),
        ("upgrade", b"h2c"),
        ("proxy-connection", b"keep-alive"),
        ("x-hop", b"named by Connection"),
        ("x-other-hop", b"named by Connection"),
    ];
    let [first, second] = twice(Contract::veriko(), || {
        let mut answer = response(200, "made");
        *answer.headers_mut() = headers(&OWN);
        answer.headers_mut().insert("x-kept", "yes".parse().unwrap());
        answer
    })
    .await;
    for (name, _) in OWN {
        assert!(first.headers.contains_key(name), "{name}");
        assert!(!second.headers.contains_key(name), "{name}");
    }
    assert_eq!((all(&first, "set-cookie").len(), second.header("x-kept")), (2, Some("yes")));
}

#[tokio::test(start_paused = true)]
async fn headers_named_by_any_of_several_connection_fields_are_not_replayed() {
    let [_, second] = twice(Contract::veriko(), || {
        let mut answer = response(200, "");
        *answer.headers_mut() = headers(&[
            ("connection", b"x-a"),
            ("connection", b"close, x-b"),
            ("x-a", b"1"),
            ("x-b", b"1"),
            ("x-c", b"1"),
        ]);
        answer
    })
    .await;
    assert_eq!(["x-a", "x-b", "x-c"].map(|name| second.headers.contains_key(name)), [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_contract_may_keep_what_presets_leave_out_and_leave_out_what_they_keep() {
    let contract = Contract::veriko()
        .keep_header(&HeaderName::from_static("set-cookie"))
        .omit_header(HeaderName::from_static("x-ratelimit-remaining"));
    let [first, second] = twice(contract, || {
        let mut answer = response(200, "");
        *answer.headers_mut() =
            headers(&[("set-cookie", b"a=1"), ("set-cookie", b"b=2"), ("x-ratelimit-remaining", b"7")]);
        answer
    })
    .await;
    assert_eq!(all(&second, "set-cookie"), [b"a=1", b"b=2"]);
    assert_eq!(
        [&first, &second].map(|answer| answer.headers.contains_key("x-ratelimit-remaining")),
        [true, false]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sensitive_header_stays_sensitive() {
    let answers = twice(Contract::veriko(), || {
        let mut value = HeaderValue::from_static("token");
        value.set_sensitive(true);
        let mut answer = response(200, "");
        answer.headers_mut().insert("x-token", value);
        answer
    });
    for answer in answers.await {
        assert!(answer.headers["x-token"].is_sensitive());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_trailers() {
    for body in ["", "some"] {
        let [first, second] = twice(Contract::veriko(), move || {
            let mut answer = response(200, "");
            *answer.body_mut() = frames(vec![data(body), trailers("grpc-status", "0")]);
            answer
        })
        .await;
        for answer in [first, second] {
            assert_eq!(answer.text(), body);
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_has_no_trailers_that_were_not_there() {
    for answer in twice(Contract::veriko(), || response(200, "body")).await {
        assert!(answer.trailers.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn every_replay_is_the_same_and_a_client_that_changes_its_copy_changes_no_other() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    let first = send(&service, post("key", "body")).await;
    for _ in 0..10 {
        let mut replay = send(&service, post("key", "body")).await;
        assert_eq!((replay.status, &replay.body), (first.status, &first.body));
        replay.headers.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_an_upstreams_replay_is_not_taken_for_ones_own() {
    // The handler called another service with a derived key and passes on its response, including the mark.
    let runs = Count::default();
    let service = protected(answering(&runs, || {
        let mut answer = response(200, "");
        answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        answer
    }));
    for mark in [b"false".as_slice(), b"true"] {
        let answer = send(&service, post("key", "body")).await;
        assert_eq!(all(&answer, "idempotent-replayed"), [mark]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_one_off_503_is_not_stored() {
    let runs = Count::default();
    let service = protected(first_then_created(&runs, || response(503, "overloaded")));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (503, "overloaded"));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    assert!(send(&service, post("key", "body")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_was_not_stored_frees_the_key_for_a_corrected_request() {
    let runs = Count::default();
    let service = under(Contract::mintfax(), first_then_created(&runs, || response(422, "no such number")));
    assert_eq!(send(&service, post("key", "body")).await.status, 422);
    assert_eq!(send(&service, post("key", "corrected")).await.brief(), (201, "run 2"));
}

/// A handler that sets the disposition of its response.
fn deciding(runs: &Count, status: u16, disposition: Disposition) -> Handler {
    answering(runs, move || {
        let mut answer = response(status, "failed after the effect");
        answer.extensions_mut().insert(disposition);
        answer
    })
}

#[tokio::test(start_paused = true)]
async fn a_500_whose_effect_was_committed_is_replayed_when_the_handler_says_so() {
    for contract in [Contract::veriko(), Contract::mintfax(), Contract::stripe()] {
        let runs = Count::default();
        let service = under(contract, deciding(&runs, 500, Disposition::Store));
        for _ in 0..3 {
            assert_eq!(send(&service, post("key", "body")).await.brief(), (500, "failed after the effect"));
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_500_whose_effect_was_committed_is_never_run_again_when_the_handler_says_so() {
    let runs = Count::default();
    let service = protected(deciding(&runs, 500, Disposition::Tombstone));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (500, "failed after the effect"));
    for _ in 0..3 {
        let retry = send(&service, post("key", "body")).await;
        assert_eq!((retry.status, retry.kind()), (409, Some(UNREPLAYABLE)));
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_is_not_stored_when_the_handler_says_so() {
    let runs = Count::default();
    let service = under(Contract::stripe(), deciding(&runs, 200, Disposition::Release));
    for run in 1..=3 {
        assert_eq!(send(&service, post("key", "body")).await.status, 200);
        assert_eq!(runs.get(), run);
    }
}

#[tokio::test(start_paused = true)]
async fn a_contracts_own_rule_decides_by_status_headers_and_extensions() {
    let rule = Classifier::custom(|parts| match parts.headers.get("x-final") {
        Some(_) => Disposition::Store,
        None if parts.status == 202 => Disposition::Tombstone,
        None => Disposition::Release,
    });
    for (status, is_final, runs_after, then) in
        [(500, true, 1, 500), (202, false, 1, 409), (200, false, 2, 200)]
    {
        let runs = Count::default();
        let service = under(
            Contract::veriko().stores(rule.clone()),
            answering(&runs, move || {
                let mut answer = response(status, "");
                if is_final {
                    answer.headers_mut().insert("x-final", HeaderValue::from_static("1"));
                }
                answer
            }),
        );
        send(&service, post("key", "body")).await;
        assert_eq!(
            (send(&service, post("key", "body")).await.status, runs.get()),
            (then, runs_after),
            "{status}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_the_contracts_and_takes_the_place_of_a_stored_one() {
    let contract = Contract::veriko().mark(ReplayMark::new(HeaderName::from_static("x-again")));
    let runs = Count::default();
    let service = under(contract, answering(&runs, || response(200, "")));
    let first = send(&service, post("key", "body")).await;
    let second = send(&service, post("key", "body")).await;
    assert_eq!([first.header("x-again"), second.header("x-again")], [None, Some("true")]);
    assert_eq!(second.header("idempotent-replayed"), None);
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_client_means_nothing() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    let answer = send(&service, with(post("key", "body"), "idempotent-replayed", "true")).await;
    assert!(!answer.is_replay());
}

/// Notes when its buffer is freed.
struct Buffer {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_a_copy_and_holds_no_larger_buffer() {
    let alive = Arc::new(());
    let held = alive.clone();
    let runs = Count::default();
    let service = protected(answering(&runs, move || {
        let buffer = Bytes::from_owner(Buffer { bytes: vec![7; 1 << 20], _held: held.clone() });
        let mut answer = response(200, "");
        *answer.body_mut() = full(buffer.slice(..10));
        answer
    }));
    let before = Arc::strong_count(&alive);
    drop(send(&service, post("key", "body")).await);
    assert_eq!(Arc::strong_count(&alive), before, "the megabyte is gone");
    assert_eq!(send(&service, post("key", "body")).await.body, vec![7; 10]);
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_another_services_replay_is_not_passed_on_as_this_layers() {
    let marked = || {
        let mut response = response(200, "from further in");
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        response
    };
    let contract = Contract::ietf().key(KeySyntax::token(1..=255));
    let service = under(contract, answering(&Count::default(), marked));
    for mark in [None, Some("true")] {
        assert_eq!(send(&service, post("key", "body")).await.header("idempotent-replayed"), mark);
    }
}
