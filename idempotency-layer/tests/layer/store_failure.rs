//! Stores that fail, at each verb, before and after it took effect.

use std::time::Duration;

use idempotency_layer::{
    IdempotencyService, OnOrphan, OnStoreFailure, RejectionKind, StoreError, StoreErrorKind, Tombstone,
};
use tokio::time::sleep;
use tower::Layer;

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, builder, counting, die_during, first_then_created, gated, handler, poll, post,
    post_without_key, response, send, settle, start,
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
    let replay = send(&service, post("key", "body")).await;
    assert_eq!((replay.brief(), replay.is_replay(), runs.get()), ((201, "run 1"), true, 1));
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
    // The effect took place. An immediate retry does not repeat it.
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

fn halting(store: &Scripted, inner: Handler) -> IdempotencyService<Handler, Scripted> {
    builder(store.clone()).on_orphan(OnOrphan::Halt).build().layer(inner)
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_twice_is_given_back_and_burns_no_key() {
    for outage in [0, 1, 5] {
        let (store, runs) = (Scripted::new(), Count::default());
        let layer = builder(store.clone()).on_orphan(OnOrphan::Halt).build();
        let service = layer.layer(counting(&runs));
        store.next(Verb::Claim, [Act::Lose, Act::Lose]);
        for _ in 0..outage {
            store.next(Verb::Claim, [Act::Lose]);
        }
        let first = send(&service, post("key", "body")).await;
        assert_eq!(first.kind(), Some(RejectionKind::StoreUnavailable));
        assert_eq!(layer.detached(), 1, "counted as long as it is not given back");
        layer.shutdown().await;
        assert_eq!((layer.detached(), store.answers(Verb::Release)), (0, vec!["held"]));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"), "{outage} lost more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_ones_own_is_not_given_back() {
    // Another request has claimed the record by then. The store says so, and the layer stops asking.
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let layer = builder(store.clone()).build();
    let service = layer.layer(gated(&runs, &gate));
    store.next(Verb::Claim, [DOWN, DOWN]);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    let other = start(&service, post("key", "body"));
    layer.shutdown().await;
    gate.open();
    assert_eq!((other.await.unwrap().brief(), store.count(Verb::Release)), ((201, "run 1"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_an_orphan_that_is_given_back_leaves_the_orphan() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let layer = builder(store.clone()).on_orphan(OnOrphan::Halt).build();
    die_during(&layer.layer(gated(&runs, &gate)), post("key", "body")).await;
    sleep(Duration::from_secs(31)).await;
    let service = layer.layer(counting(&runs));
    store.next(Verb::Claim, [Act::Lose, Act::Lose]);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    layer.shutdown().await;
    // The run that died may have had effects, so the policy for orphans still applies.
    let unknown = RejectionKind::Tombstone(Tombstone::Unknown);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(unknown));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_and_a_release_that_fail_are_tried_again_less_and_less_often() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = refusing(&store, first_then_created(&runs, || response(503, "try again")));
    store.always(Verb::Claim, Act::Lose);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    sleep(Duration::from_mins(10)).await;
    let asked = store.count(Verb::Claim);
    assert!((60..125).contains(&asked), "{asked} in ten minutes");

    let (store, runs) = (Scripted::new(), Count::default());
    let service = refusing(&store, first_then_created(&runs, || response(503, "try again")));
    store.always(Verb::Release, DOWN);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (503, "try again"));
    assert_eq!(store.count(Verb::Release), 2, "once, and once more at once");
    sleep(Duration::from_mins(10)).await;
    let asked = store.count(Verb::Release);
    assert!((60..125).contains(&asked), "{asked} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_failed_once_is_tried_again_at_once_and_later_in_the_background() {
    for failures in 1..6 {
        let (store, runs) = (Scripted::new(), Count::default());
        let layer = builder(store.clone()).build();
        let service = layer.layer(first_then_created(&runs, || response(503, "try again")));
        for _ in 0..failures {
            store.next(Verb::Release, [DOWN]);
        }
        assert_eq!(send(&service, post("key", "body")).await.status, 503);
        assert_eq!(layer.detached(), usize::from(failures > 1));
        layer.shutdown().await;
        let retry = send(&service, post("key", "body")).await;
        assert_eq!(retry.brief(), (201, "run 2"), "after {failures}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_comes_late_does_not_touch_the_next_run() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let (counted, door) = (runs.clone(), gate.clone());
    let layer = builder(store.clone()).build();
    let service = layer.layer(handler(move |_| {
        let (run, door) = (counted.one(), door.clone());
        async move {
            if run == 1 {
                return response(503, "try again");
            }
            door.pass().await;
            response(201, format!("run {run}"))
        }
    }));
    store.always(Verb::Release, DOWN);
    assert_eq!(send(&service, post("key", "body")).await.status, 503);
    sleep(Duration::from_secs(31)).await;
    let second = start(&service, post("key", "body"));
    settle().await;
    store.always(Verb::Release, Act::Pass);
    sleep(Duration::from_secs(31)).await;
    assert_eq!((layer.detached(), *store.answers(Verb::Release).last().unwrap()), (0, "stale"));
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!(second.await.unwrap().brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_could_not_be_written_is_written_in_the_background() {
    let (store, runs) = (Scripted::new(), Count::default());
    let counted = runs.clone();
    let service = halting(
        &store,
        crate::support::try_handler(move |_| {
            counted.one();
            async { Err(std::io::Error::other("broke")) }
        }),
    );
    store.next(Verb::Complete, [DOWN, DOWN, DOWN]);
    assert!(tower::ServiceExt::oneshot(service.clone(), post("key", "body")).await.is_err());
    sleep(Duration::from_secs(1)).await;
    let unknown = RejectionKind::Tombstone(Tombstone::Unknown);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(unknown), "well before the lease ends");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn claims_are_given_back_by_a_bounded_number_of_tasks() {
    let (store, runs) = (Scripted::new(), Count::default());
    let layer = builder(store.clone()).build();
    let service = layer.layer(counting(&runs));
    store.always(Verb::Claim, DOWN);
    for key in 0..1_100 {
        assert_eq!(send(&service, post(&format!("key-{key}"), "body")).await.status, 503);
    }
    assert_eq!(layer.detached(), 1024);
    store.always(Verb::Claim, Act::Pass);
    layer.shutdown().await;
    assert_eq!(send(&service, post("key-0", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn claims_that_were_lost_at_once_are_not_given_back_at_once() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = builder(store.clone()).build().layer(counting(&runs));
    store.always(Verb::Claim, Act::Lose);
    for n in 0..100 {
        let kind = send(&service, post(&format!("key-{n}"), "body")).await.kind();
        assert_eq!(kind, Some(RejectionKind::StoreUnavailable));
    }
    store.always(Verb::Claim, Act::Pass);
    let (mut released, mut most) = (0, 0);
    for _ in 0..101 {
        sleep(Duration::from_millis(1)).await;
        settle().await;
        most = most.max(store.count(Verb::Release) - released);
        released = store.count(Verb::Release);
    }
    assert_eq!(released, 100, "within the first pause");
    assert!(most <= 15, "{most} within a millisecond");
}
