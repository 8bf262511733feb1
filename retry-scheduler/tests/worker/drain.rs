//! The end of a worker.

use std::future::pending;
use std::time::Duration;

use retry_scheduler::{Activity, Attempt, Done, State, Verdict, WorkerPhase};
use tokio::time::sleep;

use crate::support::{MINUTE, SECOND, Seen, World, assert_at, report, start, success, until, worker};
use crate::watched::{Fault, Verb};

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn at_a_shutdown_nothing_is_claimed_any_more_and_what_runs_ends_and_is_recorded() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..20 {
        world.due("tenant", &n.to_string()).await;
    }
    let handler = seen.handler(|_| async {
        sleep(15 * SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler).concurrency(8).grace(GRACE));
    sleep(10 * SECOND).await;
    let handle = running.handle.clone();
    running.stop().await;
    assert_at(world.age(), 15 * SECOND);
    let counts = handle.snapshot().attempts;
    assert_eq!((seen.runs(), counts.succeeded, counts.deferred, seen.dropped()), (8, 8, 0, 0));
    assert_eq!(handle.snapshot().phase, WorkerPhase::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_at_once() {
    let (world, seen) = (World::new(), Seen::new());
    let running = start(worker(&world.view(), seen.handler(|_| async { success() })).poll(60 * MINUTE));
    sleep(MINUTE).await;
    running.stop().await;
    assert_at(world.age(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_tokens_fire_and_what_handlers_then_say_is_done() {
    let (world, seen) = (World::new(), Seen::new());
    let back = world.due("tenant", "back").await;
    let done = world.due("tenant", "done").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        attempt.token().cancelled().await;
        sleep(SECOND / 2).await;
        if attempt.cycle().key.subject == "back" {
            Done::Deferred { retry_in: Duration::ZERO }
        } else {
            report(Verdict::Failure, "half way")
        }
    });
    let running = start(worker(&world.view(), handler).grace(GRACE));
    sleep(10 * SECOND).await;
    running.stop().await;
    assert_at(world.age(), 10 * SECOND + GRACE + SECOND / 2);
    assert_eq!(seen.tokens().len(), 2);
    assert_at(seen.tokens()[0], 10 * SECOND + GRACE);
    assert_eq!(world.recorded(&done).await, [(Verdict::Failure, "half way".to_owned())]);
    assert!(matches!(world.cycle(&back).await.state, State::Pending(Activity::Idle { .. })));
    assert_eq!(world.cycle(&back).await.attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_look_is_dropped_and_another_worker_makes_the_attempt_at_once() {
    let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    let leaving = start(worker(&view, seen.handler(|_| pending())).grace(GRACE));
    until("the attempt", || seen.runs() == 1).await;
    let staying = start(worker(&world.view(), other.handler(|_| async { success() })));
    let begun = world.age();
    leaving.stop().await;
    assert_at(world.age(), begun + GRACE + SECOND);
    assert_eq!(seen.dropped(), 1, "and is gone before its claim is given back");
    until("the other's", || staying.handle.snapshot().attempts.succeeded == 1).await;
    assert!(other.starts()[0].at <= begun + GRACE + 2 * SECOND + Duration::from_millis(10));
    assert_eq!(seen.starts()[0].key, other.starts()[0].key);
    assert_eq!(world.cycle(&key).await.lapses, 0);
    staying.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_being_claimed_at_the_shutdown_is_given_back_without_a_run() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    view.fail(Verb::Claim, Fault::Late(2 * SECOND));
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    sleep(SECOND).await;
    running.stop().await;
    assert_at(world.age(), 2 * SECOND);
    assert_eq!(seen.runs(), 0);
    assert!(matches!(world.cycle(&key).await.state, State::Pending(Activity::Idle { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_within_three_seconds_of_the_grace_whatever_hangs() {
    for verb in [Verb::Claim, Verb::Extend, Verb::Finish, Verb::Defer, Verb::NextWake] {
        for fault in [Fault::Hang, Fault::Down] {
            let (world, seen) = (World::new(), Seen::new());
            for n in 0..4 {
                world.due("tenant", &n.to_string()).await;
            }
            let view = world.view();
            let handler = seen.handler(|attempt: Attempt| async move {
                if attempt.cycle().key.subject.as_str() < "2" {
                    sleep(2 * SECOND).await;
                    return success();
                }
                pending().await
            });
            let running = start(worker(&view, handler).grace(GRACE));
            sleep(SECOND / 2).await;
            view.fail(verb, fault);
            sleep(MINUTE).await;
            let begun = world.age();
            running.stop().await;
            let took = world.age().saturating_sub(begun);
            assert!(took <= GRACE + 3 * SECOND + Duration::from_millis(10), "{verb:?} {fault:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_drops_its_attempts_and_says_that_it_is_gone() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..8 {
        world.due("tenant", &n.to_string()).await;
    }
    let running = start(worker(&world.view(), seen.handler(|_| pending())));
    until("the attempts", || seen.running() == 8).await;
    let handle = running.handle.clone();
    running.crash().await;
    until("they are gone", || seen.dropped() == 8).await;
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.phase, snapshot.running), (WorkerPhase::Stopped, 0));
}
