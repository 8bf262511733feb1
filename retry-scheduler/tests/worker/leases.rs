//! Leases: kept, lost, taken over.

use retry_scheduler::{Attempt, Ending, Plan, Reschedule, RetryScheduler, Verdict};
use tokio::time::sleep;

use crate::support::{
    BEAT, LEASE, MINUTE, SECOND, Seen, World, assert_at, assert_by, report, start, success, until, worker,
};
use crate::watched::{Fault, Verb};

/// An attempt of ten minutes, whatever its token says.
async fn long(_: Attempt) -> retry_scheduler::Done {
    sleep(10 * MINUTE).await;
    report(Verdict::Success, "first")
}

/// Another worker's attempt.
async fn second(_: Attempt) -> retry_scheduler::Done {
    report(Verdict::Failure, "second")
}

#[tokio::test(start_paused = true)]
async fn a_long_attempt_keeps_its_lease_and_is_not_made_by_two() {
    let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let running = start(worker(&world.view(), seen.handler(long)));
    until("the attempt", || seen.runs() == 1).await;
    let idle = start(worker(&world.view(), other.handler(second)));
    until("its end", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!((seen.runs(), other.runs(), world.cycle(&key).await.lapses), (1, 0, 0));
    assert_by(world.age(), 10 * MINUTE);
    running.stop().await;
    idle.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_late_report_of_a_worker_that_lost_its_lease_does_not_overwrite_the_next_ones() {
    let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let cut_off = world.view();
    cut_off.fail(Verb::Extend, Fault::Down);
    let late = |_: Attempt| async {
        sleep(MINUTE).await;
        report(Verdict::Success, "first")
    };
    let loser = start(worker(&cut_off, seen.handler(late)).poll(24 * 60 * MINUTE));
    until("the attempt", || seen.runs() == 1).await;
    cut_off.fail(Verb::Claim, Fault::Down); // it could win its own cycle
    let winner = start(worker(&world.view(), other.handler(second)));
    until("the late report", || loser.handle.snapshot().attempts.refused == 1).await;
    assert_at(seen.tokens()[0], LEASE);
    assert_eq!(cut_off.calls(Verb::Finish), 1, "it was said, and refused");
    assert_eq!(world.recorded(&key).await, [(Verdict::Failure, "second".to_owned())]);
    assert_eq!(world.ending(&key).await, None);
    assert_eq!(seen.starts()[0].key, other.starts()[0].key, "the same attempt");
    loser.stop().await;
    winner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_after_the_lease_counts_where_nobody_has_taken_over() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    view.fail(Verb::Extend, Fault::Down);
    let late = seen.handler(|attempt: Attempt| async move {
        attempt.token().cancelled().await;
        report(Verdict::Success, "late")
    });
    let running = start(worker(&view, late));
    until("the attempt", || seen.runs() == 1).await;
    view.fail(Verb::Claim, Fault::Down);
    until("the report", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_by(world.age(), LEASE);
    assert_eq!(world.recorded(&key).await, [(Verdict::Success, "late".to_owned())]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_keep_the_token_from_firing_when_the_lease_is_over() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "1").await;
    let view = world.view();
    let running = start(worker(&view, seen.handler(long)));
    sleep(15 * SECOND).await;
    view.fail(Verb::Extend, Fault::Hang);
    until("the token", || !seen.tokens().is_empty()).await;
    assert_at(seen.tokens()[0], BEAT + LEASE);
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again_before_the_lease_is_over() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "1").await;
    let view = world.view();
    let running = start(worker(&view, seen.handler(long)));
    sleep(BEAT / 2).await;
    view.fail(Verb::Extend, Fault::Down);
    sleep(2 * BEAT).await;
    view.heal();
    sleep(LEASE).await;
    assert_eq!(seen.tokens().len(), 0);
    assert_eq!(running.handle.snapshot().running, 1);
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_cancel_a_running_attempt_hears_of_it_within_a_heartbeat_and_leaves_no_trace() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        attempt.token().cancelled().await;
        success() // too late
    });
    let view = world.view();
    let running = start(worker(&view, handler));
    sleep(12 * SECOND).await;
    world.scheduler.cancel(&key).await.unwrap();
    let cancelled = world.cycle(&key).await;
    until("the end", || running.handle.snapshot().running == 0).await;
    assert_at(seen.tokens()[0], 2 * BEAT);
    assert_eq!(world.cycle(&key).await, cancelled);
    assert_eq!(world.ending(&key).await, Some(Ending::Cancelled));
    assert_eq!(world.attempts(&key).await.len(), 0);
    assert_eq!((running.handle.snapshot().attempts.refused, seen.runs()), (1, 1));
    assert_eq!(view.calls(Verb::Finish), 0, "the scheduler is not asked what is known");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_success_reported_between_a_cancel_and_the_heartbeat_is_refused() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let handler = seen.handler(|_| async {
        sleep(8 * SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler));
    sleep(5 * SECOND).await;
    world.scheduler.cancel(&key).await.unwrap();
    until("the refusal", || running.handle.snapshot().attempts.refused == 1).await;
    assert_eq!((world.ending(&key).await, world.attempts(&key).await.len()), (Some(Ending::Cancelled), 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_change_of_plan_the_running_attempt_is_told_and_the_next_is_by_the_new_plan() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().epoch == 1 {
            attempt.token().cancelled().await;
        }
        success()
    });
    let running = start(worker(&world.view(), handler));
    sleep(SECOND).await;
    let change = Reschedule::new(Plan::every(MINUTE, 9).unwrap()).next_in(5 * MINUTE);
    world.scheduler.reschedule(&key, change).await.unwrap();
    until("the next", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_at(seen.tokens()[0], BEAT);
    assert_at(seen.starts()[1].at, 5 * MINUTE + SECOND);
    assert_eq!(world.attempts(&key).await.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_worker_makes_the_attempt_of_one_that_died_as_soon_as_the_lease_is_over() {
    let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let dying = start(worker(&world.view(), seen.handler(long)));
    until("the attempt", || seen.runs() == 1).await;
    sleep(SECOND).await;
    dying.crash().await;
    until("the handler is gone", || seen.dropped() == 1).await;
    assert_eq!(seen.tokens().len(), 1, "and what it left running was told");
    // It sleeps until the lease is over: no poll helps.
    let taking = start(worker(&world.view(), other.handler(|_| async { success() })).poll(24 * 60 * MINUTE));
    until("the second", || taking.handle.snapshot().attempts.succeeded == 1).await;
    assert_at(other.starts()[0].at, LEASE);
    assert_eq!(seen.starts()[0].key, other.starts()[0].key);
    let cycle = world.cycle(&key).await;
    assert_eq!((cycle.attempts, cycle.used), (1, 1), "the one that died did not count");
    taking.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_its_lease_is_given_back() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    view.fail(Verb::Claim, Fault::Late(LEASE + SECOND));
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    sleep(LEASE).await;
    view.heal();
    until("the attempt", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!((seen.runs(), running.handle.snapshot().attempts.deferred), (1, 1));
    assert_eq!(world.attempts(&key).await.len(), 1);
    assert_eq!(seen.tokens()[0], seen.starts()[0].at, "and never ran without a lease");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_all_attempts_are_renewed_in_one_call_for_each_heartbeat() {
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    let running = start(worker(&view, seen.handler(long)).per_tenant(16));
    for n in 0..16 {
        world.due("tenant", &n.to_string()).await;
        running.handle.wake();
        sleep(SECOND / 4).await;
    }
    until("all", || seen.runs() == 16).await;
    let before = view.calls(Verb::Extend);
    sleep(5 * MINUTE).await;
    let calls = view.calls(Verb::Extend) - before;
    assert!(calls <= 35, "{calls} calls in thirty heartbeats");
    assert_eq!(view.sizes(Verb::Extend).last(), Some(&16));
    assert_eq!(seen.tokens().len(), 0);
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_locked_row_does_not_cost_the_others_their_leases() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..7 {
        world.due("tenant", &n.to_string()).await;
    }
    world.lockable("tenant", "x").await;
    let view = world.view();
    let running = start(worker(&view, seen.handler(long)));
    sleep(SECOND).await;
    view.lock("x");
    sleep(5 * MINUTE).await;
    assert_eq!(seen.tokens().len(), 1, "that of the locked one");
    view.heal();
    until("all ends", || running.handle.snapshot().attempts.succeeded == 8).await;
    assert_eq!(seen.runs(), 8);
    running.stop().await;
}
