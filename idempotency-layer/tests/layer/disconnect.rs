//! Clients that disconnect, at every await.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use idempotency_layer::{IdempotencyLayer, OnDisconnect, RejectionKind};
use tokio::task::yield_now;
use tower::{Layer, ServiceExt};

use crate::scripted::{Act, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, Req, Res, builder, counting, data, frames, gated, handler, memory, poll, post,
    protected, response, send, settle, start,
};

/// A handler that yields before and after its effect and answers in frames. The effect happens with the last frame; until
/// then the handler can be cancelled.
fn slow(effects: &Count, begun: &Arc<AtomicUsize>) -> Handler {
    let (effects, begun) = (effects.clone(), begun.clone());
    handler(move |request: Req| {
        let (effects, running) = (effects.clone(), Running::begin(&begun));
        async move {
            drop(request);
            for _ in 0..3 {
                yield_now().await;
            }
            let last = async move {
                let _running = running;
                yield_now().await;
                let effect = effects.one();
                data(effect.to_string())
            };
            let first = futures_util::stream::once(async {
                yield_now().await;
                data("effect ")
            });
            let both = futures_util::StreamExt::chain(first, futures_util::stream::once(last));
            let mut answer = response(201, "");
            *answer.body_mut() = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(both));
            answer
        }
    })
}

/// The number of handlers that have begun and neither ended nor been dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::SeqCst);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn in_frames(key: &str) -> Req {
    let request = Request::post("/orders").header("idempotency-key", key);
    request.body(frames(vec![data("a"), data("b"), data("c")])).unwrap()
}

/// A store whose verbs are pending once before they take effect and once after.
fn yielding() -> Scripted {
    let store = Scripted::new();
    for verb in [Verb::Claim, Verb::Complete, Verb::Release, Verb::Extend, Verb::Checkpoint] {
        store.always(verb, Act::Yield);
    }
    store
}

fn layer(store: &Scripted, policy: OnDisconnect) -> IdempotencyLayer<Scripted> {
    builder(store.clone()).on_disconnect(policy).build()
}

/// Drops a request after each possible number of polls, then retries it. Returns the number of effects before each retry.
async fn dropped_everywhere(policy: OnDisconnect) -> Vec<usize> {
    let mut before_retry = Vec::new();
    for polls in 0.. {
        let (store, effects, running) = (yielding(), Count::default(), Arc::default());
        let layer = layer(&store, policy);
        let service = layer.layer(slow(&effects, &running));
        let mut future = service.clone().oneshot(in_frames("key"));
        let mut ended = false;
        for _ in 0..polls {
            ended = poll(&mut future).await.is_ready();
            yield_now().await;
        }
        drop(future);
        if ended {
            assert!(polls > 12, "there are awaits to be dropped at: {polls}");
            return before_retry;
        }
        layer.shutdown().await;
        assert_eq!((layer.detached(), running.load(Ordering::SeqCst)), (0, 0), "after {polls} polls");
        before_retry.push(effects.get());
        // The retry is answered at once, and there was one effect, of the request or of its retry.
        for again in [false, true] {
            let retry = send(&service, in_frames("key")).await;
            assert_eq!(retry.brief(), (201, "effect 1"), "after {polls} polls");
            assert!(!again || retry.is_replay());
        }
        assert_eq!(effects.get(), 1, "after {polls} polls");
    }
    unreachable!("the future ends")
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_a_request_has_exactly_one_effect_and_its_retry_gets_the_answer() {
    let effects = dropped_everywhere(OnDisconnect::Finish).await;
    // Before the claim, nothing happened. After it, the request finished without its client.
    let claimed = effects.iter().position(|effects| *effects == 1).unwrap();
    assert!((2..8).contains(&claimed), "{effects:?}");
    assert!(effects[claimed..].iter().all(|effects| *effects == 1), "{effects:?}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_any_await_a_request_leaves_nothing_and_its_retry_runs() {
    let effects = dropped_everywhere(OnDisconnect::Cancel).await;
    // Before the end of the response, nothing happened. After it, the response was recorded without its client.
    let ended = effects.iter().position(|effects| *effects == 1).unwrap();
    assert!(ended > 6, "{effects:?}");
    assert!(effects[ended..].iter().all(|effects| *effects == 1), "{effects:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn aborted_at_any_time_on_many_threads_a_request_has_one_effect() {
    for policy in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        for round in 0..200 {
            let (store, effects, running) = (yielding(), Count::default(), Arc::default());
            let layer = layer(&store, policy);
            let service = layer.layer(slow(&effects, &running));
            let client = start(&service, in_frames("key"));
            for _ in 0..round % 25 {
                yield_now().await;
            }
            client.abort();
            let _ = client.await;
            layer.shutdown().await;
            assert_eq!(
                send(&service, in_frames("key")).await.brief(),
                (201, "effect 1"),
                "{policy:?}, {round}"
            );
            assert_eq!(effects.get(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_while_its_body_is_read_a_request_asks_nothing_of_the_store() {
    let (store, effects, running) = (Scripted::new(), Count::default(), Arc::default());
    let layer = layer(&store, OnDisconnect::Finish);
    let service = layer.layer(slow(&effects, &running));
    let mut future = service.clone().oneshot(in_frames("key"));
    assert!(poll(&mut future).await.is_pending());
    drop(future);
    settle().await;
    assert_eq!((store.count(Verb::Claim), layer.detached(), effects.get()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_while_its_claim_is_on_the_way_a_request_is_not_left_claimed() {
    let (store, gate, runs) = (Scripted::new(), Gate::closed(), Count::default());
    store.next(Verb::Claim, [Act::Wait(gate.clone())]);
    let open = Gate::closed();
    open.open();
    let layer = layer(&store, OnDisconnect::Finish);
    let service = layer.layer(gated(&runs, &open));
    let client = start(&service, post("key", "body"));
    settle().await;
    client.abort();
    settle().await;
    assert_eq!(layer.detached(), 1, "the claim may take effect: somebody has to see to it");
    gate.open();
    layer.shutdown().await;
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_its_claim_is_on_the_way_a_request_is_given_back_and_never_reaches_the_handler() {
    let (store, gate, runs) = (Scripted::new(), Gate::closed(), Count::default());
    store.next(Verb::Claim, [Act::Wait(gate.clone())]);
    let layer = layer(&store, OnDisconnect::Cancel);
    let service = layer.layer(counting(&runs));
    let client = start(&service, post("key", "body"));
    settle().await;
    client.abort();
    settle().await;
    gate.open();
    layer.shutdown().await;
    assert_eq!((runs.get(), store.answers(Verb::Release)), (0, vec!["held"]));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn dropped_while_its_outcome_is_recorded_a_request_is_recorded() {
    for policy in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        let (store, gate, effects, running) =
            (Scripted::new(), Gate::closed(), Count::default(), Arc::default());
        store.next(Verb::Complete, [Act::Wait(gate.clone())]);
        let layer = layer(&store, policy);
        let service = layer.layer(slow(&effects, &running));
        let client = start(&service, in_frames("key"));
        settle().await;
        assert_eq!(store.count(Verb::Complete), 1);
        client.abort();
        settle().await;
        gate.open();
        layer.shutdown().await;
        assert!(send(&service, in_frames("key")).await.is_replay(), "{policy:?}");
        assert_eq!(effects.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_while_its_response_is_read_a_request_is_recorded_whole() {
    let gate = Gate::closed();
    let door = gate.clone();
    let service = protected(handler(move |_| {
        let door = door.clone();
        async move {
            let first = futures_util::stream::iter([data("first ")]);
            let second = futures_util::stream::once(async move {
                door.pass().await;
                data("second")
            });
            let both = futures_util::StreamExt::chain(first, second);
            let mut answer = response(201, "");
            *answer.body_mut() = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(both));
            answer
        }
    }));
    let client = start(&service, post("key", "body"));
    settle().await;
    client.abort();
    settle().await;
    gate.open();
    settle().await;
    let retry = send(&service, post("key", "body")).await;
    assert_eq!((retry.brief(), retry.is_replay()), ((201, "first second"), true));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_leaves_the_owner_alone() {
    for polls in 1..6 {
        let (store, gate, runs) = (yielding(), Gate::closed(), Count::default());
        let layer = builder(store.clone()).wait(Duration::from_mins(1)).build();
        let service = layer.layer(gated(&runs, &gate));
        let owner = start(&service, post("key", "body"));
        settle().await;
        let mut waiter = service.clone().oneshot(post("key", "body"));
        for _ in 0..polls {
            assert!(poll(&mut waiter).await.is_pending());
            settle().await;
        }
        drop(waiter);
        settle().await;
        assert_eq!((store.count(Verb::Release), store.count(Verb::Complete)), (0, 0));
        gate.open();
        assert_eq!(owner.await.unwrap().brief(), (201, "run 1"), "after {polls} polls");
        layer.shutdown().await;
        assert!(send(&service, post("key", "body")).await.is_replay());
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_request_finishes_without_its_client_a_retry_is_told_so_and_then_gets_the_answer() {
    let (gate, runs) = (Gate::closed(), Count::default());
    let layer = builder(memory()).build();
    let service = layer.layer(gated(&runs, &gate));
    let client = start(&service, post("key", "body"));
    settle().await;
    client.abort();
    settle().await;
    assert_eq!(layer.detached(), 1);
    // Its lease is renewed as if the client were there.
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    layer.shutdown().await;
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!((runs.get(), layer.detached()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_every_request_whose_client_went_away_and_can_be_asked_again() {
    let (gate, runs) = (Gate::closed(), Count::default());
    let layer = builder(memory()).build();
    let service = layer.layer(gated(&runs, &gate));
    for key in ["a", "b", "c"] {
        let client = start(&service, post(key, "body"));
        settle().await;
        client.abort();
    }
    settle().await;
    let mut shutdown = Box::pin(layer.shutdown());
    assert!(poll(&mut shutdown).await.is_pending());
    drop(shutdown);
    let mut shutdown = Box::pin(layer.shutdown());
    settle().await;
    assert!(poll(&mut shutdown).await.is_pending());
    assert_eq!(layer.clone().detached(), 3, "a clone sees the same");
    gate.open();
    shutdown.await;
    for key in ["a", "b", "c"] {
        assert!(send(&service, post(key, "body")).await.is_replay());
    }
    assert_eq!(runs.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn cancelled_a_handler_is_dropped_before_its_claim_is_given_back() {
    let (store, running) = (Scripted::new(), Arc::new(AtomicUsize::new(0)));
    let (begun, gate) = (running.clone(), Gate::closed());
    let held = gate.clone();
    let layer = layer(&store, OnDisconnect::Cancel);
    let service = layer.layer(handler(move |_| {
        let (running, gate) = (Running::begin(&begun), held.clone());
        async move {
            gate.pass().await;
            drop(running);
            response(201, "done")
        }
    }));
    let hold_back = Gate::closed();
    store.next(Verb::Release, [Act::Wait(hold_back.clone())]);
    let client = start(&service, post("key", "body"));
    settle().await;
    assert_eq!(running.load(Ordering::SeqCst), 1);
    client.abort();
    settle().await;
    assert_eq!((running.load(Ordering::SeqCst), store.count(Verb::Release)), (0, 1));
    hold_back.open();
    layer.shutdown().await;
    gate.open();
    let retry = send(&service, post("key", "body")).await;
    assert_eq!((retry.brief(), retry.is_replay()), ((201, "done"), false));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_cancelled_as_it_would_be_without_the_layer() {
    let running = Arc::new(AtomicUsize::new(0));
    let begun = running.clone();
    let layer = builder(memory()).build();
    let service = layer.layer(handler(move |_| {
        let running = Running::begin(&begun);
        async move {
            std::future::pending::<()>().await;
            drop(running);
            response(201, "done")
        }
    }));
    let client = start(&service, crate::support::post_without_key("body"));
    settle().await;
    client.abort();
    settle().await;
    assert_eq!((running.load(Ordering::SeqCst), layer.detached()), (0, 0));
}

#[test]
fn a_request_that_outlives_its_runtime_is_dropped_in_silence() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (gate, runs) = (Gate::closed(), Count::default());
    let service = protected(gated(&runs, &gate));
    let mut future = service.oneshot(post("key", "body"));
    assert!(runtime.block_on(poll(&mut future)).is_pending());
    drop(runtime);
    drop(future);
    assert_eq!(runs.get(), 1);
}

tokio::task_local! {
    static REQUEST_ID: u32;
}

#[tokio::test(start_paused = true)]
async fn a_task_local_of_the_caller_is_seen_by_the_handler_at_each_of_its_polls() {
    let seen = |_: Req| async {
        let before = REQUEST_ID.with(|id| *id);
        yield_now().await;
        let after = REQUEST_ID.with(|id| *id);
        response(201, format!("{before} {after}"))
    };
    let service = protected(handler(seen));
    let answer = REQUEST_ID.scope(17, send(&service, post("key", "body"))).await;
    assert_eq!(answer.brief(), (201, "17 17"));
}

/// A handler that runs on another task than its client from the first poll on does not notice.
#[tokio::test(start_paused = true)]
async fn the_handler_runs_on_the_task_of_its_client() {
    let service = protected(handler(|_| async { response(201, format!("{:?}", tokio::task::id())) }));
    let client = tokio::spawn(async move {
        let answer: Res = service.oneshot(post("key", "body")).await.unwrap();
        let answer = crate::support::Answer::of(answer).await;
        assert_eq!(answer.text(), format!("{:?}", tokio::task::id()));
    });
    client.await.unwrap();
}

#[test]
fn dropped_outside_of_any_runtime_or_in_another_one_a_request_finishes_where_it_was_polled() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    for elsewhere in [None, Some(runtime())] {
        let runtime = runtime();
        let (runs, gate) = (Count::default(), Gate::closed());
        let layer = builder(memory()).build();
        let service = layer.layer(gated(&runs, &gate));
        let mut first = Box::pin(service.clone().oneshot(post("key", "body")));
        runtime.block_on(async {
            while runs.get() == 0 {
                let _ = poll(&mut first).await;
            }
        });
        match elsewhere {
            None => drop(first),
            Some(elsewhere) => {
                elsewhere.block_on(async { drop(first) });
                elsewhere.shutdown_background();
            }
        }
        gate.open();
        runtime.block_on(async {
            layer.shutdown().await;
            let retry = send(&service, post("key", "body")).await;
            assert_eq!((retry.brief(), retry.is_replay()), ((201, "run 1"), true));
        });
    }
}
