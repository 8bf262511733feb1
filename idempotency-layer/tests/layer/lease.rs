//! Leases and times to live, to the millisecond.

use std::time::Duration;

use idempotency_layer::{CheckpointError, Contract, Idempotency, OnOrphan, RejectionKind};
use tokio::time::{advance, sleep};
use tower::Layer;

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, Req, builder, counting, die_during, gated, handler, memory, post, response, send,
    settle, start, under,
};

const LEASE: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(1);

/// A handler whose first run does `last` after a minute, and whose later ones answer when the gate opens.
fn slow_first<F, Fut>(runs: &Count, gate: &Gate, last: F) -> Handler
where
    F: Fn(Idempotency) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = crate::support::Res> + Send + 'static,
{
    let (runs, gate) = (runs.clone(), gate.clone());
    handler(move |request: Req| {
        let idempotency = request.extensions().get::<Idempotency>().unwrap().clone();
        let (run, gate, last) = (runs.one(), gate.clone(), last.clone());
        async move {
            if run == 1 {
                sleep(Duration::from_mins(1)).await;
                return last(idempotency).await;
            }
            gate.pass().await;
            response(201, format!("run {run}"))
        }
    })
}

/// A store whose renewals fail.
fn without_renewals() -> Scripted {
    let store = Scripted::new();
    store.always(Verb::Extend, DOWN);
    store
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_lease_does_not_answer_a_success_that_nobody_recorded() {
    let (store, runs, gate) = (without_renewals(), Count::default(), Gate::closed());
    let service =
        builder(store.clone()).build().layer(slow_first(&runs, &gate, |_| async { response(201, "run 1") }));
    let first = start(&service, post("key", "body"));
    sleep(LEASE + MOMENT).await;
    gate.open();
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    let first = first.await.unwrap();
    assert_eq!((first.status, first.kind()), (409, Some(RejectionKind::InProgress)));
    assert!(first.header("retry-after").is_some(), "and the retry will get the second run's answer");
    assert_eq!(store.answers(Verb::Complete), ["held", "stale"]);
    let replay = send(&service, post("key", "body")).await;
    assert_eq!((replay.brief(), replay.is_replay()), ((201, "run 2"), true));
}

#[tokio::test(start_paused = true)]
async fn the_late_completion_of_a_lost_run_does_not_touch_the_running_one() {
    let (store, runs, gate) = (without_renewals(), Count::default(), Gate::closed());
    let service =
        builder(store.clone()).build().layer(slow_first(&runs, &gate, |_| async { response(201, "run 1") }));
    let first = start(&service, post("key", "body"));
    sleep(LEASE + MOMENT).await;
    store.always(Verb::Extend, Act::Pass);
    let second = start(&service, post("key", "body"));
    assert_eq!(first.await.unwrap().status, 409);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!(second.await.unwrap().brief(), (201, "run 2"));
    assert_eq!((send(&service, post("key", "body")).await.brief(), runs.get()), ((201, "run 2"), 2));
}

#[tokio::test(start_paused = true)]
async fn the_late_release_of_a_lost_run_does_not_free_the_running_one() {
    let (store, runs, gate) = (without_renewals(), Count::default(), Gate::closed());
    let service = builder(store.clone())
        .build()
        .layer(slow_first(&runs, &gate, |_| async { response(503, "try again") }));
    let first = start(&service, post("key", "body"));
    sleep(LEASE + MOMENT).await;
    store.always(Verb::Extend, Act::Pass);
    let second = start(&service, post("key", "body"));
    assert_eq!(first.await.unwrap().status, 503);
    assert_eq!(store.answers(Verb::Release), ["stale"]);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!((second.await.unwrap().brief(), runs.get()), ((201, "run 2"), 2));
}

#[tokio::test(start_paused = true)]
async fn the_late_panic_of_a_lost_run_does_not_end_the_running_ones_lease_under_any_policy() {
    let reconcile = OnOrphan::reconcile(|_| async { idempotency_layer::Reconciled::Rerun });
    for policy in [OnOrphan::Rerun, reconcile] {
        let (store, runs, gate) = (without_renewals(), Count::default(), Gate::closed());
        let layer = builder(store.clone()).on_orphan(policy.clone()).build();
        let service = layer.layer(slow_first(&runs, &gate, |_| async { panic!("late") }));
        let first = start(&service, post("key", "body"));
        sleep(LEASE + MOMENT).await;
        store.always(Verb::Extend, Act::Pass);
        let second = start(&service, post("key", "body"));
        assert!(first.await.unwrap_err().is_panic());
        assert_eq!(
            send(&service, post("key", "body")).await.kind(),
            Some(RejectionKind::InProgress),
            "{policy:?}"
        );
        gate.open();
        assert_eq!((second.await.unwrap().brief(), runs.get()), ((201, "run 2"), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn the_late_checkpoint_of_a_lost_run_is_refused_and_not_seen_by_the_next() {
    let (store, runs, gate) = (without_renewals(), Count::default(), Gate::closed());
    let service = builder(store.clone()).build().layer(slow_first(&runs, &gate, |idempotency| async move {
        let refused = idempotency.checkpoint("charged", "late").await.unwrap_err();
        assert!(matches!(refused, CheckpointError::Stale), "{refused}");
        response(201, "run 1")
    }));
    let first = start(&service, post("key", "body"));
    sleep(LEASE + MOMENT).await;
    let second = start(&service, post("key", "body"));
    assert_eq!(first.await.unwrap().status, 409);
    assert_eq!(store.answers(Verb::Checkpoint), ["stale"]);
    gate.open();
    assert_eq!(second.await.unwrap().brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_response_too_large_of_a_lost_run_is_no_answer_either() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let layer = builder(without_renewals()).max_response_bytes(10).build();
    let service = layer.layer(slow_first(&runs, &gate, |_| async { response(201, "more than ten bytes") }));
    let first = start(&service, post("key", "body"));
    sleep(LEASE + MOMENT).await;
    gate.open();
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    assert_eq!(first.await.unwrap().kind(), Some(RejectionKind::InProgress));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_lease_ran_out_but_that_nobody_took_over_is_recorded() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = builder(without_renewals())
        .build()
        .layer(slow_first(&runs, &gate, |_| async { response(201, "run 1") }));
    assert_eq!(start(&service, post("key", "body")).await.unwrap().brief(), (201, "run 1"));
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_for_as_long_as_the_handler_runs() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = builder(store.clone()).lease(Duration::from_secs(3)).build().layer(gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    for _ in 0..200 {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    }
    assert!(
        (95..=101).contains(&store.count(Verb::Extend)),
        "every third of the lease: {}",
        store.count(Verb::Extend)
    );
    gate.open();
    assert_eq!((owner.await.unwrap().status, runs.get()), (201, 1));
    sleep(Duration::from_secs(30)).await;
    assert!(store.count(Verb::Extend) <= 101, "and not after");
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_the_response_is_read() {
    let store = Scripted::new();
    let service = builder(store.clone()).build().layer(handler(|_| async {
        let slow = futures_util::stream::unfold(0, |piece| async move {
            sleep(Duration::from_secs(50)).await;
            (piece < 4).then(|| (crate::support::data("x"), piece + 1))
        });
        let mut answer = response(201, "");
        *answer.body_mut() = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(slow));
        answer
    }));
    let owner = start(&service, post("key", "body"));
    sleep(Duration::from_secs(199)).await;
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    assert_eq!(owner.await.unwrap().brief(), (201, "xxxx"));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_the_outcome_is_recorded() {
    let (store, runs) = (Scripted::new(), Count::default());
    let service = builder(store.clone()).lease(Duration::from_secs(3)).build().layer(counting(&runs));
    store.next(Verb::Complete, [Act::After(Duration::from_secs(10))]);
    let owner = start(&service, post("key", "body"));
    sleep(Duration::from_secs(5)).await;
    // The effect took place, and its completion has begun. A second run must not start now.
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    assert_eq!((owner.await.unwrap().brief(), runs.get()), ((201, "run 1"), 1));
}

#[tokio::test(start_paused = true)]
async fn one_renewal_that_fails_does_not_lose_the_lease() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = builder(store.clone()).build().layer(gated(&runs, &gate));
    store.next(Verb::Extend, [DOWN, Act::Pass, DOWN, Act::Pass, Act::Lose]);
    let owner = start(&service, post("key", "body"));
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    }
    gate.open();
    assert_eq!((owner.await.unwrap().status, runs.get()), (201, 1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_hold_up_the_handler() {
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    store.always(Verb::Extend, Act::Hang);
    let service =
        builder(store).build().layer(slow_first(&runs, &gate, |_| async { response(201, "run 1") }));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_owners_claim_is_given_away_when_its_lease_is_over_and_not_a_moment_before() {
    let (store, runs, gate) = (memory(), Count::default(), Gate::closed());
    let service = builder(store).build().layer(gated(&runs, &gate));
    die_during(&service, post("key", "body")).await;
    gate.open();
    advance(LEASE.saturating_sub(MOMENT)).await;
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    advance(MOMENT).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
}

#[tokio::test(start_paused = true)]
async fn asking_for_an_owners_answer_does_not_prolong_its_lease() {
    let (store, runs, gate) = (memory(), Count::default(), Gate::closed());
    let service = builder(store).build().layer(gated(&runs, &gate));
    die_during(&service, post("key", "body")).await;
    gate.open();
    for _ in 0..29 {
        advance(Duration::from_secs(1)).await;
        assert_eq!(send(&service, post("key", "body")).await.status, 409);
    }
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_kept_for_its_time_to_live_and_not_a_moment_longer() {
    for ttl in [Duration::from_millis(1500), Duration::from_hours(24), Duration::from_hours(2160)] {
        let runs = Count::default();
        let service = under(Contract::veriko().ttl(ttl), counting(&runs));
        send(&service, post("key", "body")).await;
        advance(ttl.saturating_sub(MOMENT)).await;
        assert!(send(&service, post("key", "body")).await.is_replay(), "{ttl:?}");
        assert_eq!(send(&service, post("key", "other")).await.status, 422);
        advance(MOMENT).await;
        assert_eq!(send(&service, post("key", "other")).await.brief(), (201, "run 2"), "{ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn replays_do_not_prolong_the_time_to_live() {
    let runs = Count::default();
    let service = under(Contract::veriko().ttl(Duration::from_secs(10)), counting(&runs));
    for second in 0..30 {
        assert_eq!(send(&service, post("key", "body")).await.text(), format!("run {}", second / 10 + 1));
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_renewed_outlives_its_time_to_live() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let layer = builder(memory()).contract(Contract::veriko().ttl(Duration::from_secs(5))).build();
    let service = layer.layer(gated(&runs, &gate));
    let owner = start(&service, post("key", "body"));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!((owner.await.unwrap().status, runs.get()), (201, 1));
}

#[tokio::test(start_paused = true)]
async fn no_length_of_time_is_too_long_or_too_short() {
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let (runs, gate) = (Count::default(), Gate::closed());
        let contract = Contract::veriko().ttl(Duration::MAX);
        let layer = builder(memory()).contract(contract).lease(time).wait(time).build();
        let service = layer.layer(gated(&runs, &gate));
        let owner = start(&service, post("key", "body"));
        settle().await;
        gate.open();
        assert_eq!(owner.await.unwrap().status, 201, "{time:?}");
        assert!(send(&service, post("key", "body")).await.is_replay());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_before_the_store_was_asked() {
    // The answers to the claim and to each renewal take ten seconds, which is a third of the lease.
    let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
    let service = builder(store.clone()).lease(Duration::from_secs(30)).build().layer(gated(&runs, &gate));
    let answer = Gate::closed();
    store.next(Verb::Claim, [Act::Late(answer.clone())]);
    let owner = start(&service, post("key", "body"));
    settle().await;
    sleep(Duration::from_secs(9)).await;
    answer.open();
    settle().await;
    assert_eq!((runs.get(), store.count(Verb::Extend)), (1, 0));
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(
        store.count(Verb::Extend),
        1,
        "ten seconds after the claim was asked for, not after its answer"
    );
    let answer = Gate::closed();
    store.next(Verb::Extend, [Act::Late(answer.clone())]);
    sleep(Duration::from_secs(15)).await;
    answer.open();
    settle().await;
    assert_eq!(store.count(Verb::Extend), 2);
    sleep(Duration::from_millis(5_001)).await;
    assert_eq!(store.count(Verb::Extend), 3);
    gate.open();
    assert_eq!(owner.await.unwrap().brief(), (201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_before_the_lease_does_does_not_lose_it() {
    // From just before the first renewal to just before the end of the lease.
    for (lease, begins, ends) in [(30_000, 9_000, 28_900), (30_000, 19_000, 38_900), (300, 90, 260)] {
        let (store, runs, gate) = (Scripted::new(), Count::default(), Gate::closed());
        let lease = Duration::from_millis(lease);
        let service = builder(store.clone()).lease(lease).build().layer(gated(&runs, &gate));
        let owner = start(&service, post("key", "body"));
        settle().await;
        sleep(Duration::from_millis(begins)).await;
        store.always(Verb::Extend, DOWN);
        sleep(Duration::from_millis(ends - begins)).await;
        store.always(Verb::Extend, Act::Pass);
        sleep(lease).await;
        assert_eq!(
            send(&service, post("key", "body")).await.kind(),
            Some(RejectionKind::InProgress),
            "{lease:?}"
        );
        gate.open();
        assert_eq!((owner.await.unwrap().brief(), runs.get()), ((201, "run 1"), 1));
    }
}
