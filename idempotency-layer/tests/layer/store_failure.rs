//! The store fails, or its answer is lost: at each verb, before it took effect and after.

use std::time::Duration;

use idempotency_layer::{
    IdempotencyService, OnStoreFailure, RejectionKind, StoreError, StoreErrorKind, Tombstone,
};
use tokio::time::sleep;
use tower::Layer;

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Handler, builder, counting, first_then_created, poll, post, post_without_key, response, send,
};

const UNREPLAYABLE: RejectionKind = RejectionKind::Tombstone(Tombstone::Unreplayable);
const FULL: Act = Act::Fail(StoreErrorKind::Full);
const INVALID: Act = Act::Fail(StoreErrorKind::Invalid);

fn refusing(store: &Scripted, inner: Handler) -> IdempotencyService<Handler, Scripted> {
    builder(store.clone()).build().layer(inner)
}

fn passing(store: &Scripted, inner: Handler) -> IdempotencyService<Handler, Scripted> {
    builder(store.clone()).on_store_failure(OnStoreFailure::PassThrough).build().layer(inner)
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_a_request_with_a_key_is_refused_and_one_without_runs() {
    for act in [DOWN, FULL, INVALID] {
        let (store, runs) = (Scripted::new(), Count::default());
        let service = refusing(&store, counting(&runs));
        store.always(Verb::Claim, act);
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.status, answer.kind()), (503, Some(RejectionKind::StoreUnavailable)));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(runs.get(), 0);
        assert_eq!(send(&service, post_without_key("body")).await.status, 201);
        store.always(Verb::Claim, Act::Pass);
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_passes_through_a_request_runs_as_if_it_had_no_key() {
    for act in [DOWN, Act::Lose] {
        let (store, runs) = (Scripted::new(), Count::default());
        let service = passing(&store, counting(&runs));
        store.always(Verb::Claim, act);
        for run in 1..=2 {
            let answer = send(&service, post("key", "body")).await;
            assert_eq!(answer.brief(), (201, &*format!("run {run}")));
            assert!(!answer.is_replay());
        }
        assert_eq!((store.count(Verb::Complete), store.count(Verb::Release)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_was_reached_so_nothing_passes_through() {
    for act in [FULL, INVALID] {
        let (store, runs) = (Scripted::new(), Count::default());
        let service = passing(&store, counting(&runs));
        store.always(Verb::Claim, act.clone());
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.kind(), runs.get()), (Some(RejectionKind::StoreUnavailable), 0));
        store.always(Verb::Claim, Act::Pass);
        store.always(Verb::Complete, act);
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.kind(), runs.get()), (Some(RejectionKind::NotRecorded), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_failed_once_is_asked_again() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Claim, [DOWN]);
    let service = refusing(&store, counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    assert!(send(&service, post("key", "body")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_still_ones_own() {
    for service in [refusing, passing] {
        let (store, runs) = (Scripted::new(), Count::default());
        store.next(Verb::Claim, [Act::Lose]);
        let service = service(&store, counting(&runs));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
        assert_eq!(
            (store.answers(Verb::Claim), store.answers(Verb::Complete)),
            (vec!["failed", "run"], vec!["held"])
        );
        let replay = send(&service, post("key", "body")).await;
        assert_eq!((replay.brief(), replay.is_replay(), runs.get()), ((201, "run 1"), true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_lost_for_good_is_free_again_when_its_lease_is_over() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Claim, [Act::Lose, Act::Lose]);
    let service = refusing(&store, counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    assert_eq!(runs.get(), 0, "nothing was done, as the answer says");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn a_replay_or_a_mismatch_whose_answer_was_lost_is_asked_for_again() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = refusing(&store, counting(&runs));
    send(&service, post("key", "body")).await;
    store.next(Verb::Claim, [Act::Lose]);
    assert!(send(&service, post("key", "body")).await.is_replay());
    store.next(Verb::Claim, [Act::Lose]);
    assert_eq!(send(&service, post("key", "other")).await.kind(), Some(RejectionKind::KeyReused));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_was_lost_is_answered_and_replayed() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Complete, [Act::Lose, Act::Lose]);
    let service = refusing(&store, counting(&runs));
    let fresh = send(&service, post("key", "body")).await;
    assert_eq!((fresh.brief(), fresh.is_replay()), ((201, "run 1"), false));
    assert_eq!(store.answers(Verb::Complete), ["failed", "failed", "held"]);
    let replay = send(&service, post("key", "body")).await;
    assert_eq!((replay.brief(), replay.is_replay(), runs.get()), ((201, "run 1"), true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_failed_is_tried_again() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Complete, [DOWN, DOWN, DOWN]);
    let service = refusing(&store, counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_answered_and_its_key_stays_claimed() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.always(Verb::Complete, DOWN);
    let service = refusing(&store, counting(&runs));
    let answer = send(&service, post("key", "body")).await;
    assert_eq!((answer.status, answer.kind()), (503, Some(RejectionKind::NotRecorded)));
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.text().contains("run 1"));
    // The effect was had: a retry at once does not have it again.
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    assert_eq!((runs.get(), store.count(Verb::Release)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_completion_lost_for_good_is_found_by_the_retry() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.always(Verb::Complete, Act::Lose);
    let service = refusing(&store, counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::NotRecorded));
    let retry = send(&service, post("key", "body")).await;
    assert_eq!((retry.brief(), retry.is_replay(), runs.get()), ((201, "run 1"), true, 1));
}

#[tokio::test(start_paused = true)]
async fn where_it_passes_through_what_cannot_be_recorded_is_answered_all_the_same() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.always(Verb::Complete, DOWN);
    let service = passing(&store, counting(&runs));
    let answer = send(&service, post("key", "body")).await;
    assert_eq!((answer.brief(), answer.is_replay()), ((201, "run 1"), false));
}

#[tokio::test(start_paused = true)]
async fn a_response_the_store_has_no_room_for_is_answered_once_and_leaves_a_tombstone() {
    for act in [FULL, INVALID] {
        let (store, runs) = (Scripted::new(), Count::default());
        store.next(Verb::Complete, [act]);
        let service = refusing(&store, counting(&runs));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
        for _ in 0..2 {
            assert_eq!(send(&service, post("key", "body")).await.kind(), Some(UNREPLAYABLE));
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn where_not_even_a_tombstone_finds_room_nothing_is_answered() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.always(Verb::Complete, FULL);
    let service = refusing(&store, counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::NotRecorded));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_failed_leaves_the_key_claimed_until_the_lease_is_over() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.always(Verb::Release, DOWN);
    let service = refusing(&store, first_then_created(&runs, || response(503, "try again")));
    assert_eq!(
        send(&service, post("key", "body")).await.brief(),
        (503, "try again"),
        "the answer is given all the same"
    );
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_was_lost_has_released() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Release, [Act::Lose]);
    let service = refusing(&store, first_then_created(&runs, || response(503, "try again")));
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_only_who_asked() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Claim, [Act::Hang]);
    let service = refusing(&store, counting(&runs));
    let mut hanging = Box::pin(send(&service, post("key", "body")));
    assert!(poll(&mut hanging).await.is_pending());
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
    assert!(poll(&mut hanging).await.is_pending());
    assert_eq!(runs.get(), 1);
}

#[test]
fn an_error_keeps_its_cause_and_its_kind_and_says_nothing_of_either_to_clients() {
    let error = StoreError::unavailable("connection refused");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "connection refused");
    assert_eq!(error.to_string(), "the idempotency store was not reached");
    assert_eq!(StoreError::full().kind(), StoreErrorKind::Full);
}
