//! `Builder::wait`: waiting for the response of another request with the key.

use std::time::Duration;

use idempotency_layer::{IdempotencyService, RejectionKind};
use tokio::time::sleep;
use tower::Layer;

use crate::lending::Exclusive;
use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, builder, counting, die_during, gated, handler, memory, now, post, response, send,
    settle, start,
};

const LEASE: Duration = Duration::from_secs(30);

fn waiting(store: &Scripted, wait: Duration, inner: Handler) -> IdempotencyService<Handler, Scripted> {
    builder(store.clone()).wait(wait).build().layer(inner)
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_get_the_owners_answer_as_soon_as_it_is_there() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_mins(1), gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiters: Vec<_> = (0..20).map(|_| start(&service, post("key", "body"))).collect();
    settle().await;
    gate.open();
    // The paused clock does not move: the owner wakes them.
    settle().await;
    assert!(owner.is_finished() && waiters.iter().all(tokio::task::JoinHandle::is_finished));
    assert!(!owner.await.unwrap().is_replay());
    for waiter in waiters {
        let answer = waiter.await.unwrap();
        assert_eq!((answer.brief(), answer.is_replay()), ((201, "run 1"), true));
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_see_an_owner_in_another_process_finish_soon_after() {
    let (store, runs, gate) = (memory(), Count::default(), Gate::closed());
    // The two layers share a store, but not their waiters.
    let elsewhere = builder(store.clone()).build().layer(gated(&runs, &gate));
    let here = builder(store).wait(Duration::from_mins(1)).build().layer(counting(&runs));
    let owner = start(&elsewhere, post("key", "body"));
    settle().await;
    let waiter = start(&here, post("key", "body"));
    sleep(Duration::from_secs(10)).await;
    gate.open();
    owner.await.unwrap();
    let finished = now();
    assert_eq!(waiter.await.unwrap().brief(), (201, "run 1"));
    assert!(finished.elapsed() <= Duration::from_secs(1), "{:?}", finished.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_gives_up_one_of_those_who_wait_runs_and_the_others_get_its_answer() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let (counted, door) = (runs.clone(), gate.clone());
    let inner = handler(move |_| {
        let (run, door) = (counted.one(), door.clone());
        async move {
            door.pass().await;
            response(if run == 1 { 503 } else { 201 }, format!("run {run}"))
        }
    });
    let service = waiting(&store, Duration::from_mins(1), inner);
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiters: Vec<_> = (0..10).map(|_| start(&service, post("key", "body"))).collect();
    settle().await;
    gate.open();
    settle().await;
    assert_eq!(owner.await.unwrap().status, 503);
    let mut fresh = 0;
    for waiter in waiters {
        let answer = waiter.await.unwrap();
        assert_eq!(answer.brief(), (201, "run 2"));
        fresh += usize::from(!answer.is_replay());
    }
    assert_eq!((runs.get(), fresh), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_panics_one_of_those_who_wait_runs() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let (counted, door) = (runs.clone(), gate.clone());
    let inner = handler(move |_| {
        let (run, door) = (counted.one(), door.clone());
        async move {
            door.pass().await;
            assert!(run > 1, "broke");
            response(201, format!("run {run}"))
        }
    });
    let service = waiting(&store, Duration::from_mins(1), inner);
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    settle().await;
    gate.open();
    assert!(owner.await.unwrap_err().is_panic());
    assert_eq!(waiter.await.unwrap().brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn when_the_owners_lease_runs_out_one_of_those_who_wait_takes_over_at_once() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    die_during(&waiting(&store, Duration::ZERO, gated(&runs, &Gate::closed())), post("key", "body")).await;
    gate.open();
    let service = waiting(&store, Duration::from_mins(1), gated(&runs, &gate));
    let begun = now();
    let waiters: Vec<_> = (0..5).map(|_| start(&service, post("key", "body"))).collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().brief(), (201, "run 2"));
    }
    assert_eq!(runs.get(), 2);
    assert!(
        begun.elapsed() >= LEASE && begun.elapsed() < LEASE + Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn who_waited_long_enough_is_told_that_one_is_in_progress_and_the_owner_never_notices() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_secs(5), gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let begun = now();
    let answer = send(&service, post("key", "body")).await;
    assert_eq!((answer.status, answer.kind()), (409, Some(RejectionKind::InProgress)));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!((store.count(Verb::Release), store.count(Verb::Complete), runs.get()), (0, 0, 1));
    gate.open();
    assert_eq!(owner.await.unwrap().brief(), (201, "run 1"));
    assert_eq!(store.answers(Verb::Complete), ["held"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_outlasts_the_lease_of_an_owner_that_renews_it() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_mins(5), gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    sleep(Duration::from_secs(200)).await;
    assert_eq!(runs.get(), 1);
    gate.open();
    assert_eq!(owner.await.unwrap().status, 201);
    assert!(waiter.await.unwrap().is_replay());
}

#[tokio::test(start_paused = true)]
async fn who_waits_asks_the_store_a_few_times_a_second_at_most() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_secs(10), gated(&runs, &gate));
    let _owner = start(&service, post("key", "body"));
    settle().await;
    send(&service, post("key", "body")).await;
    assert!(store.count(Verb::Claim) <= 45, "{}", store.count(Verb::Claim));
    assert!(store.answers(Verb::Claim)[1..].iter().all(|answer| *answer == "in flight"));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_one_record_ask_for_each_other() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_secs(10), gated(&runs, &gate));
    let _owner = start(&service, post("key", "body"));
    settle().await;
    let waiters: Vec<_> = (0..20).map(|_| start(&service, post("key", "body"))).collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().kind(), Some(RejectionKind::InProgress));
    }
    // Each asks when it comes, after it got its place, and at the end. The leader asks in between.
    let asked = store.count(Verb::Claim);
    assert!(asked <= 1 + 3 * 20 + 60, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_asks_for_the_others_leaves_another_one_does() {
    let (store, runs, gate) = (memory(), Count::default(), Gate::closed());
    let elsewhere = builder(store.clone()).build().layer(gated(&runs, &gate));
    let here = builder(store).wait(Duration::from_mins(1)).build().layer(counting(&runs));
    let owner = start(&elsewhere, post("key", "body"));
    settle().await;
    let mut waiters = Vec::new();
    for _ in 0..5 {
        waiters.push(start(&here, post("key", "body")));
        settle().await;
    }
    for leaving in waiters.drain(..3) {
        leaving.abort();
        sleep(Duration::from_secs(1)).await;
    }
    gate.open();
    owner.await.unwrap();
    let finished = now();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().brief(), (201, "run 1"));
    }
    assert!(finished.elapsed() <= Duration::from_secs(1), "{:?}", finished.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_is_dropped_beyond_max_detached_a_waiter_runs_at_once() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let layer = builder(Exclusive::default()).claim_in_transaction().max_detached(0);
    let service = layer.wait(Duration::from_mins(1)).build().layer(gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    settle().await;
    gate.open();
    owner.abort();
    let dropped = now();
    assert_eq!(waiter.await.unwrap().brief(), (201, "run 2"));
    assert_eq!(dropped.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_key_does_not_wait_to_be_refused() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_mins(1), gated(&runs, &gate));
    let _owner = start(&service, post("key", "body"));
    settle().await;
    let begun = now();
    assert_eq!(send(&service, post("key", "other")).await.kind(), Some(RejectionKind::KeyReused));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_learn_that_the_response_cannot_be_replayed() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let layer = builder(store).wait(Duration::from_mins(1)).max_response_bytes(3).build();
    let service = layer.layer(gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    settle().await;
    gate.open();
    assert_eq!(owner.await.unwrap().brief(), (201, "run 1"));
    assert!(matches!(waiter.await.unwrap().kind(), Some(RejectionKind::Tombstone(_))));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_down_while_one_waits_is_told() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = waiting(&store, Duration::from_mins(1), gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    let waiter = start(&service, post("key", "body"));
    settle().await;
    store.next(Verb::Claim, [DOWN, DOWN]);
    assert_eq!(waiter.await.unwrap().kind(), Some(RejectionKind::StoreUnavailable));
    gate.open();
    assert_eq!((owner.await.unwrap().status, runs.get()), (201, 1));
}

#[tokio::test(start_paused = true)]
async fn one_whose_claim_was_lost_on_the_way_back_waits_for_nobody() {
    let (store, runs) = (Scripted::new(), Count::default());
    store.next(Verb::Claim, [Act::Lose]);
    let service = waiting(&store, Duration::from_mins(1), counting(&runs));
    let begun = now();
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    assert_eq!(begun.elapsed(), Duration::ZERO, "not for itself, that is");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_finishes_between_the_look_at_it_and_the_wait_for_it_is_not_missed() {
    let (store, runs, gate, held) = (Scripted::new(), Count::default(), Gate::closed(), Gate::closed());
    let service = waiting(&store, Duration::from_mins(1), gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    settle().await;
    store.next(Verb::Claim, [Act::Late(held.clone())]);
    let waiter = start(&service, post("key", "body"));
    settle().await;
    gate.open();
    owner.await.unwrap();
    // The late answer says that the owner runs, although it has finished.
    held.open();
    let begun = now();
    assert!(waiter.await.unwrap().is_replay());
    assert_eq!(
        (begun.elapsed(), store.answers(Verb::Claim)),
        (Duration::ZERO, vec!["run", "in flight", "replay"])
    );
}
