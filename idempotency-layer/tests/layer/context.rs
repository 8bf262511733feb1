//! `Idempotency`: the key, derived keys, attempts and checkpoints.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use idempotency_layer::{CheckpointError, Contract, Idempotency, KeySyntax, StoreErrorKind};
use tokio::time::advance;
use tower::Layer;

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Handler, Req, Res, builder, die_during, handler, memory, post, protected, response, send, start,
    under, with,
};

/// A handler with its `Idempotency`.
fn seeing<F, Fut>(run: F) -> Handler
where
    F: Fn(Idempotency) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Res> + Send + 'static,
{
    handler(move |request: Req| run(request.extensions().get::<Idempotency>().unwrap().clone()))
}

#[tokio::test(start_paused = true)]
async fn a_derived_key_is_the_same_on_every_attempt_and_another_for_each_label_key_and_tenant() {
    let derived = Arc::new(Mutex::new(Vec::new()));
    let seen = derived.clone();
    let service = protected(seeing(move |idempotency| {
        seen.lock().unwrap().extend(["charge", "receipt", ""].map(|label| idempotency.derive(label)));
        async { response(503, "try again") }
    }));
    for (tenant, key) in [("us", "key"), ("us", "key"), ("us", "other"), ("them", "key")] {
        send(&service, with(post(key, "body"), "x-tenant", tenant)).await;
    }
    let derived = derived.lock().unwrap();
    assert_eq!(derived[..3], derived[3..6], "the second attempt");
    let distinct: std::collections::HashSet<_> = derived.iter().collect();
    assert_eq!(distinct.len(), 9);
    for derived in derived.iter() {
        assert!(
            derived.len() == 64 && derived.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
    }
}

/// The record of a 503 is forgotten, so the client may use its key for another request. The bank must not answer that request
/// with the charge of the first one.
#[tokio::test(start_paused = true)]
async fn a_derived_key_is_another_for_another_request_under_the_same_key() {
    let service = protected(seeing(|idempotency| async move { response(503, idempotency.derive("charge")) }));
    let first = send(&service, post("key", "pay 10")).await;
    let other = send(&service, post("key", "pay 20")).await;
    let again = send(&service, post("key", "pay 10")).await;
    assert_ne!(first.text(), other.text());
    assert_eq!(first.text(), again.text());
}

fn both(idempotency: &Idempotency) -> String {
    format!("{} {}", idempotency.derive("charge"), idempotency.derive_uuid("charge"))
}

/// Derived keys are the same in every process and every release.
#[tokio::test(start_paused = true)]
async fn a_derived_key_never_changes() {
    let service = protected(seeing(|idempotency| async move { response(201, both(&idempotency)) }));
    let first = send(&service, post("key", "body")).await;
    let other_process = protected(seeing(|idempotency| async move { response(201, both(&idempotency)) }));
    assert_eq!(first.text(), send(&other_process, post("key", "body")).await.text());
    let (hex, uuid) = first.text().split_once(' ').unwrap();
    assert_eq!(hex, "00c9a803be5cc9f7b727fd5bed03eb1321819a1911778f205d7d11ec8bf15893");
    assert_eq!(uuid, "00c9a803-be5c-89f7-b727-fd5bed03eb13");
}

#[tokio::test(start_paused = true)]
async fn a_derived_uuid_is_one_of_version_8_and_another_for_each_label() {
    let service = protected(seeing(|idempotency| async move {
        let uuids = (0..100).map(|n| idempotency.derive_uuid(&n.to_string()));
        response(201, uuids.collect::<Vec<_>>().join(" "))
    }));
    let answer = send(&service, post("key", "body")).await;
    let uuids: std::collections::HashSet<_> = answer.text().split(' ').collect();
    assert_eq!(uuids.len(), 100);
    for uuid in uuids {
        let parsed = number_of(uuid);
        assert_eq!((parsed >> 76 & 0xf, parsed >> 62 & 0b11), (8, 0b10), "version and variant of {uuid}");
    }
}

/// Parses a UUID in the format of RFC 9562, section 4.
fn number_of(uuid: &str) -> u128 {
    let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
    assert_eq!(uuid, uuid.to_lowercase());
    u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_key_is_told_as_the_client_sent_it_and_without_its_quotes() {
    let contract = Contract::ietf().key(KeySyntax::structured(1..=255).or_bare());
    let service = under(
        contract,
        seeing(|idempotency| async move {
            let quoted = idempotency.key().as_header().as_bytes() == br#""k\"1""#;
            response(if quoted { 200 } else { 500 }, Bytes::copy_from_slice(idempotency.key().as_bytes()))
        }),
    );
    assert_eq!(send(&service, post(r#""k\"1""#, "body")).await.brief(), (200, "k\"1"));
}

/// Checkpoints each attempt, and answers 503 before the third.
fn stepwise() -> Handler {
    seeing(|idempotency| async move {
        let before = idempotency.recovered().map(|point| format!("{} {:?}", point.name, point.data));
        let attempt = idempotency.attempt();
        idempotency
            .checkpoint(format!("step {attempt}"), Bytes::from(vec![0xff, u8::try_from(attempt).unwrap()]))
            .await
            .unwrap();
        response(if attempt < 3 { 503 } else { 201 }, format!("{attempt}: {before:?}"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_found_by_the_attempt_after_a_response_that_was_not_stored() {
    let service = protected(stepwise());
    let answers = ["1: None", r#"2: Some("step 1 b\"\\xff\\x01\"")"#, r#"3: Some("step 2 b\"\\xff\\x02\"")"#];
    for answer in answers {
        assert_eq!(send(&service, post("key", "body")).await.text(), answer);
    }
    let replay = send(&service, post("key", "body")).await;
    assert_eq!((replay.text(), replay.is_replay()), (answers[2], true));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_keeps_the_key_to_the_request_that_left_it() {
    let service = protected(stepwise());
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    assert_eq!(send(&service, post("key", "other")).await.status, 422);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn without_a_checkpoint_a_response_that_was_not_stored_leaves_nothing() {
    let service =
        protected(seeing(|idempotency| async move { response(503, idempotency.attempt().to_string()) }));
    for body in ["body", "another body", "body"] {
        assert_eq!(send(&service, post("key", body)).await.brief(), (503, "1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_found_by_whoever_takes_over_from_the_dead() {
    let store = memory();
    let service = builder(store).build().layer(seeing(|idempotency| async move {
        if let Some(point) = idempotency.recovered() {
            return response(201, format!("attempt {} after {}", idempotency.attempt(), point.name));
        }
        idempotency.checkpoint("reserved", "").await.unwrap();
        idempotency.checkpoint("charged", "").await.unwrap();
        std::future::pending().await
    }));
    die_during(&service, post("key", "body")).await;
    advance(Duration::from_secs(30)).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "attempt 2 after charged"));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_outlives_a_panic() {
    let service = protected(seeing(|idempotency| async move {
        let attempt = idempotency.attempt();
        idempotency.checkpoint("charged", "").await.unwrap();
        assert!(attempt > 1, "broke");
        response(201, format!("attempt {attempt} after {}", idempotency.recovered().unwrap().name))
    }));
    assert!(start(&service, post("key", "body")).await.unwrap_err().is_panic());
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "attempt 2 after charged"));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_after_the_answer_is_refused() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let service = protected(seeing(move |idempotency| {
        *keep.lock().unwrap() = Some(idempotency);
        async { response(201, "done") }
    }));
    send(&service, post("key", "body")).await;
    let idempotency = kept.lock().unwrap().take().unwrap();
    assert!(matches!(idempotency.checkpoint("late", "").await, Err(CheckpointError::Stale)));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "done"));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_the_store_did_not_take_is_an_error_with_its_cause() {
    let store = Scripted::new();
    store.next(Verb::Checkpoint, [DOWN, Act::Fail(StoreErrorKind::Full)]);
    let service = builder(store).build().layer(seeing(|idempotency| async move {
        for expected in [StoreErrorKind::Unavailable, StoreErrorKind::Full] {
            match idempotency.checkpoint("charged", "").await {
                Err(error @ CheckpointError::Store(_)) => {
                    let source = std::error::Error::source(&error).unwrap();
                    let source = source.downcast_ref::<idempotency_layer::StoreError>().unwrap();
                    assert_eq!(source.kind(), expected);
                }
                other => panic!("{other:?}"),
            }
        }
        response(201, "done")
    }));
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_of_different_keys_are_apart() {
    let runs = Count::default();
    let service = protected(stepwise());
    for key in ["a", "b", "c"] {
        assert_eq!(send(&service, post(key, "body")).await.text(), "1: None");
        runs.one();
    }
}
