//! Handlers that do not return.

use std::future::pending;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use retry_scheduler::{Attempt, Done, Plan, RetryScheduler, Verdict};
use tokio::time::sleep;

use crate::support::{
    MINUTE, SECOND, Seen, World, assert_at, assert_by, failure, report, start, success, until, worker,
};

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt_and_takes_nothing_else_down() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.schedule("tenant", "1", Duration::ZERO, Plan::every(MINUTE, 5).unwrap()).await;
    let other = world.due("tenant", "other").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().key.subject == "other" {
            sleep(SECOND).await;
        } else if attempt.number() == 1 {
            panic!("with a secret in its message");
        }
        success()
    });
    let running = start(worker(&world.view(), handler));
    until("both", || running.handle.snapshot().attempts.succeeded == 2).await;
    let recorded = world.recorded(&key).await;
    assert_eq!(
        recorded,
        [(Verdict::Failure, "the handler panicked".to_owned()), (Verdict::Success, String::new())]
    );
    assert_eq!(world.attempts(&other).await.len(), 1);
    assert_at(seen.starts()[2].at, MINUTE);
    assert_eq!(running.handle.snapshot().attempts.panicked, 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_before_its_first_await_is_a_failed_attempt_too() {
    let world = World::new();
    let key = world.due("tenant", "1").await;
    let handler = retry_scheduler::handler_fn(|_| -> std::future::Ready<Done> { panic!("at once") });
    let running = start(worker(&world.view(), handler));
    until("the failure", || running.handle.snapshot().attempts.failed == 1).await;
    assert_eq!(world.recorded(&key).await.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_a_failure() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let running = start(worker(&world.view(), seen.handler(|_| pending())).attempt_timeout(5 * MINUTE));
    until("the failure", || running.handle.snapshot().attempts.timed_out == 1).await;
    assert_by(world.age(), 5 * MINUTE);
    assert_at(seen.tokens()[0], 5 * MINUTE);
    assert_eq!((seen.dropped(), running.handle.snapshot().attempts.failed), (1, 1));
    assert_eq!(world.recorded(&key).await, [(Verdict::Failure, "the attempt took too long".to_owned())]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_take_fifteen_minutes_unless_said_otherwise() {
    for (timeout, ends) in [(None, 15 * MINUTE), (Some(Duration::MAX), 20 * MINUTE)] {
        let (world, seen) = (World::new(), Seen::new());
        world.due("tenant", "1").await;
        let handler = seen.handler(|_| async {
            sleep(20 * MINUTE).await;
            failure()
        });
        let builder = worker(&world.view(), handler);
        let running = start(match timeout {
            Some(timeout) => builder.attempt_timeout(timeout),
            None => builder,
        });
        until("its end", || running.handle.snapshot().attempts.failed == 1).await;
        assert_by(world.age(), ends);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deferred_attempt_does_not_count_and_is_made_when_it_says() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().epoch == 1 {
            Done::Deferred { retry_in: 7 * SECOND }
        } else {
            report(Verdict::Success, "")
        }
    });
    let running = start(worker(&world.view(), handler).poll(60 * MINUTE));
    until("the end", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_at(seen.starts()[1].at, 7 * SECOND);
    assert_eq!(seen.starts()[0].key, seen.starts()[1].key);
    assert_eq!((world.cycle(&key).await.attempts, running.handle.snapshot().gates_closed), (1, 0));
    running.stop().await;
}

/// In real time: a thread that is blocked is not paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_keeps_its_place_and_not_its_cycle() {
    let world = World::new();
    let (key, door) = (world.due("tenant", "1").await, Arc::new((Mutex::new(false), Condvar::new())));
    let inside = Arc::clone(&door);
    let handler = retry_scheduler::handler_fn(move |_| {
        let inside = Arc::clone(&inside);
        async move {
            let (open, opened) = &*inside;
            drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            success()
        }
    });
    let view = world.view();
    let running = start(worker(&view, handler).attempt_timeout(Duration::from_millis(20)));
    until("the failure", || running.handle.snapshot().attempts.failed == 1).await;
    assert_eq!(
        world.scheduler.attempts(&key, 0, usize::MAX).await.unwrap()[0].detail,
        "the attempt took too long"
    );
    assert_eq!(running.handle.snapshot().running, 1);
    *door.0.lock().unwrap() = true;
    door.1.notify_all();
    until("its place is free", || running.handle.snapshot().running == 0).await;
    running.stop().await;
}
