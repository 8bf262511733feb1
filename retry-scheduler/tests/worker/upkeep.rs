//! What the worker does beside its attempts: deleting ended cycles, reporting unreadable ones.

use std::time::Duration;

use retry_scheduler::{CycleKey, Plan, RetryScheduler, WorkerBuilder};
use tokio::time::sleep;

use crate::support::{MINUTE, SECOND, Seen, World, start, success, until, worker};
use crate::watched::{Fault, Verb};

const DAY: Duration = Duration::from_hours(24);

/// So many cycles that ended now.
async fn ended(world: &World, count: usize) {
    for n in 0..count {
        let key = world.due("tenant", &n.to_string()).await;
        world.scheduler.cancel(&key).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn ended_cycles_are_deleted_after_thirty_days_unless_set_and_never_if_set_so() {
    type Change = fn(WorkerBuilder) -> WorkerBuilder;
    let cases: [(Change, Option<Duration>); 3] = [
        (|builder| builder, Some(30 * DAY)),
        (|builder| builder.keep_ended(DAY), Some(DAY)),
        (|builder| builder.keep_ended(Duration::MAX), None),
    ];
    for (change, kept) in cases {
        let (world, seen) = (World::new(), Seen::new());
        ended(&world, 10).await;
        let pending = world.schedule("tenant", "pending", 1_000 * DAY, Plan::every(MINUTE, 5).unwrap()).await;
        let view = world.view();
        let handler = seen.handler(|_| async { success() });
        let running = start(change(worker(&view, handler).poll(DAY)));
        if let Some(kept) = kept {
            sleep(kept.saturating_sub(MINUTE)).await;
            assert_eq!(world.scheduler.stats().ended, 10);
            sleep(3 * MINUTE).await;
            assert_eq!((world.scheduler.stats().ended, running.handle.snapshot().purged), (0, 10));
        } else {
            sleep(60 * DAY).await;
            assert_eq!((world.scheduler.stats().ended, view.calls(Verb::Purge)), (10, 0));
        }
        assert!(world.ending(&pending).await.is_none());
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_ended_cycles_are_deleted_in_batches_while_claims_go_on() {
    let (world, seen) = (World::new(), Seen::new());
    ended(&world, 5_500).await;
    let view = world.view();
    view.fail(Verb::Purge, Fault::Late(SECOND));
    let running = start(worker(&view, seen.handler(|_| async { success() })).keep_ended(Duration::ZERO));
    sleep(MINUTE + SECOND / 2).await;
    let begun = world.age();
    world.due("tenant", "meanwhile").await;
    running.handle.wake();
    until("the attempt", || seen.runs() == 1).await;
    assert!(world.age() <= begun + SECOND / 5, "{:?}", world.age().saturating_sub(begun));
    sleep(8 * SECOND).await;
    assert_eq!(world.scheduler.stats().ended, 0);
    assert_eq!(view.sizes(Verb::Purge), [1_000; 6]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_deletion_is_tried_again_a_minute_later() {
    let (world, seen) = (World::new(), Seen::new());
    ended(&world, 10).await;
    let view = world.view();
    view.fail(Verb::Purge, Fault::Down);
    let running = start(worker(&view, seen.handler(|_| async { success() })).keep_ended(Duration::ZERO));
    sleep(MINUTE + SECOND).await;
    assert_eq!((view.calls(Verb::Purge), world.scheduler.stats().ended), (1, 10));
    view.heal();
    sleep(MINUTE).await;
    assert_eq!(running.handle.snapshot().purged, 10);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn unreadable_cycles_are_counted_and_stop_nobody() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..5 {
        world.due("tenant", &n.to_string()).await;
    }
    let view = world.view();
    for subject in ["bad", "worse"] {
        view.spoil(CycleKey::new("webhook", subject));
    }
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    until("the others", || running.handle.snapshot().attempts.succeeded == 5).await;
    assert_eq!(running.handle.snapshot().unreadable, 2);
    assert!(world.age() <= SECOND);
    assert!(world.scheduler.next_wake(&retry_scheduler::Namespaces::All).await.unwrap().is_none());
    running.stop().await;
}
