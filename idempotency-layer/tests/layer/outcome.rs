//! `RequestOutcome`, the extension of a response.

use std::time::Duration;

use http::Method;
use idempotency_layer::{
    Contract, OnOrphan, OnStoreFailure, Reconciled, RejectionKind, RequestOutcome, Tombstone,
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Req, Res, broken, builder, counting, data, die_during, first_then_created, frames, full,
    gated, handler, memory, post, post_without_key, protected, request, response, settle, start, under,
};

async fn outcome<S>(service: &S, request: Req) -> RequestOutcome
where
    S: Service<Req, Response = Res, Error = std::io::Error> + Clone,
{
    RequestOutcome::of(&service.clone().oneshot(request).await.unwrap())
}

const FIRST: RequestOutcome = RequestOutcome::Ran { attempt: 1, orphan: false };

#[tokio::test(start_paused = true)]
async fn a_run_says_so_and_a_replay_says_how_old_it_is() {
    let service = protected(counting(&Count::default()));
    assert_eq!(outcome(&service, post("key", "body")).await, FIRST);
    for age in [0, 5, 3600] {
        sleep(Duration::from_secs(age)).await;
        let RequestOutcome::Replayed { age: Some(told) } = outcome(&service, post("key", "body")).await
        else {
            panic!("not a replay");
        };
        // The clock is paused, so the age is exact up to the resolution of the timer.
        let age = Duration::from_secs(age + if age == 3600 { 5 } else { 0 });
        assert!(told.abs_diff(age) < Duration::from_millis(10), "{told:?} for {age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_stored_says_that_it_ran_too() {
    let service = protected(first_then_created(&Count::default(), || response(503, "")));
    assert_eq!(outcome(&service, post("key", "body")).await, FIRST);
    let again = outcome(&service, post("key", "body")).await;
    assert!(matches!(again, RequestOutcome::Ran { orphan: false, .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_after_an_orphan_says_so_whoever_answers() {
    let found = OnOrphan::reconcile(|_| async { Reconciled::Response(http::Response::new("found".into())) });
    for policy in [OnOrphan::Rerun, found] {
        let (runs, store) = (Count::default(), memory());
        let layer = builder(store).on_orphan(policy).build();
        die_during(&layer.layer(gated(&runs, &Gate::closed())), post("key", "body")).await;
        sleep(Duration::from_secs(31)).await;
        let taken_over = outcome(&layer.layer(counting(&runs)), post("key", "body")).await;
        assert_eq!(taken_over, RequestOutcome::Ran { attempt: 2, orphan: true });
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_says_which() {
    let rejected = RequestOutcome::Rejected;
    let gate = Gate::closed();
    let service = under(Contract::veriko().required(), gated(&Count::default(), &gate));
    assert_eq!(outcome(&service, post_without_key("")).await, rejected(RejectionKind::KeyMissing));
    let invalid = outcome(&service, post("not a key", "")).await;
    assert!(matches!(invalid, RequestOutcome::Rejected(RejectionKind::KeyInvalid(_))));
    let owner = start(&service, post("key", "body"));
    settle().await;
    assert_eq!(outcome(&service, post("key", "body")).await, rejected(RejectionKind::InProgress));
    assert_eq!(outcome(&service, post("key", "other")).await, rejected(RejectionKind::KeyReused));
    gate.open();
    owner.await.unwrap();

    let store = Scripted::new();
    let service = builder(store.clone()).build().layer(counting(&Count::default()));
    store.always(Verb::Claim, DOWN);
    assert_eq!(outcome(&service, post("key", "body")).await, rejected(RejectionKind::StoreUnavailable));
    store.always(Verb::Claim, Act::Pass);
    store.always(Verb::Complete, DOWN);
    assert_eq!(outcome(&service, post("new", "body")).await, rejected(RejectionKind::NotRecorded));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_in_the_place_of_a_response_is_no_run() {
    let service =
        protected(handler(|_| async { response(200, "").map(|_| frames(vec![data("half"), broken()])) }));
    let unreadable = outcome(&service, post("key", "body")).await;
    assert_eq!(unreadable, RequestOutcome::Rejected(RejectionKind::ResponseUnreadable));

    let layer = builder(memory()).on_orphan(OnOrphan::Halt).build();
    die_during(&layer.layer(gated(&Count::default(), &Gate::closed())), post("key", "body")).await;
    sleep(Duration::from_secs(31)).await;
    let halted = outcome(&layer.layer(counting(&Count::default())), post("key", "body")).await;
    assert_eq!(halted, RequestOutcome::Rejected(RejectionKind::Tombstone(Tombstone::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn what_another_service_says_of_its_own_request_is_not_passed_on() {
    let service = protected(handler(|_| async {
        let mut answer = response(201, "");
        answer.extensions_mut().insert(RequestOutcome::Replayed { age: None });
        answer
    }));
    assert_eq!(outcome(&service, post("key", "body")).await, FIRST);
}

#[tokio::test(start_paused = true)]
async fn what_passes_as_without_the_layer_says_nothing_and_is_unkeyed() {
    let runs = Count::default();
    let service = under(Contract::veriko().methods(&[Method::POST]), counting(&runs));
    for plain in [post_without_key(""), request(Method::PUT, "/", "key", "")] {
        let answer = service.clone().oneshot(plain).await.unwrap();
        assert_eq!(RequestOutcome::of(&answer), RequestOutcome::Unkeyed);
        assert!(answer.extensions().is_empty());
    }
    let store = Scripted::new();
    store.always(Verb::Claim, DOWN);
    let service = builder(store).on_store_failure(OnStoreFailure::PassThrough).build().layer(counting(&runs));
    assert_eq!(outcome(&service, post("key", "body")).await, RequestOutcome::Unkeyed);
    let plain = http::Response::new(full(""));
    assert_eq!(RequestOutcome::of(&plain), RequestOutcome::Unkeyed);
}
