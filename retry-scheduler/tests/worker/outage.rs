//! Schedulers that are not reached.

use retry_scheduler::{Attempt, Done, Verdict};
use tokio::time::sleep;

use crate::support::{LEASE, MINUTE, SECOND, Seen, World, report, start, success, until, worker};
use crate::watched::{Fault, Verb};

#[tokio::test(start_paused = true)]
async fn a_worker_backs_off_from_a_scheduler_that_is_down_and_goes_on_when_it_is_back() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "1").await;
    let view = world.view();
    view.fail_all(Fault::Down);
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    for _ in 0..600 {
        sleep(SECOND).await;
        running.handle.wake(); // does not get through the pause
    }
    // 100 ms, doubling up to 5 s.
    let calls = view.calls(Verb::Claim);
    assert!((115..=130).contains(&calls), "{calls}");
    let snapshot = running.handle.snapshot();
    assert_eq!((snapshot.reachable, snapshot.since_answer, seen.runs()), (false, None, 0));
    view.heal();
    let begun = world.age();
    until("the attempt", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert!(world.age() <= begun + 6 * SECOND);
    assert!(running.handle.snapshot().reachable);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_claims_and_cannot_tell_what_is_next_is_backed_off_from_too() {
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    view.fail(Verb::NextWake, Fault::Down);
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    sleep(10 * MINUTE).await;
    let calls = view.calls(Verb::Claim);
    assert!((115..=130).contains(&calls), "{calls}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_is_tried_again_until_the_scheduler_is_back_and_the_attempt_is_not_made_again() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    let running = start(worker(
        &view,
        seen.handler(|_| async {
            sleep(5 * SECOND).await;
            report(Verdict::Success, "kept")
        }),
    ));
    sleep(SECOND).await;
    view.fail_all(Fault::Down);
    sleep(25 * SECOND).await;
    assert!(view.calls(Verb::Finish) > 3);
    view.heal();
    until("the report", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(world.recorded(&key).await, [(Verdict::Success, "kept".to_owned())]);
    assert_eq!(seen.runs(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_answer_was_lost_is_recorded_once() {
    let (world, seen) = (World::new(), Seen::new());
    let mut keys = Vec::new();
    for n in 0..8 {
        keys.push(world.due("tenant", &n.to_string()).await);
    }
    let view = world.view();
    view.fail(Verb::Finish, Fault::Deaf);
    let running = start(worker(
        &view,
        seen.handler(|_| async {
            sleep(SECOND).await;
            report(Verdict::Failure, "once")
        }),
    ));
    sleep(SECOND + SECOND / 20).await;
    view.heal();
    until("all are told", || running.handle.snapshot().attempts.failed == 8).await;
    for key in &keys {
        assert_eq!(world.recorded(key).await, [(Verdict::Failure, "once".to_owned())]);
    }
    assert_eq!((seen.runs(), running.handle.snapshot().attempts.refused), (8, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reports_outlast_an_outage_of_ten_leases_and_the_attempts_are_not_made_again() {
    for fault in [Fault::Down, Fault::Hang] {
        let (world, seen) = (World::new(), Seen::new());
        let mut keys = Vec::new();
        for n in 0..40 {
            keys.push(world.due("tenant", &n.to_string()).await);
        }
        let view = world.view();
        let handler = seen.handler(|_| async {
            sleep(SECOND).await;
            report(Verdict::Success, "kept")
        });
        let running = start(worker(&view, handler));
        sleep(SECOND / 2).await;
        view.fail_all(fault);
        sleep(10 * LEASE).await;
        assert_eq!((seen.runs(), running.handle.snapshot().attempts.undelivered), (16, 0));
        view.heal();
        let begun = world.age();
        until("all", || running.handle.snapshot().attempts.succeeded == 40).await;
        assert!(world.age() <= begun + 20 * SECOND, "{:?}", world.age().saturating_sub(begun));
        for key in &keys {
            assert_eq!(world.recorded(key).await, [(Verdict::Success, "kept".to_owned())]);
            assert_eq!(world.cycle(key).await.lapses, 0);
        }
        assert_eq!((seen.runs(), running.handle.snapshot().attempts.refused), (40, 0), "{fault:?}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_runs_through_an_outage_is_not_made_a_second_time_beside_itself() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    let running = start(worker(
        &view,
        seen.handler(|_| async {
            sleep(10 * MINUTE).await;
            report(Verdict::Success, "the first")
        }),
    ));
    sleep(SECOND).await;
    view.fail_all(Fault::Down);
    sleep(2 * LEASE).await;
    assert_eq!(seen.tokens().len(), 1, "the handler is told that its lease ran out");
    view.heal();
    view.fail(Verb::Extend, Fault::Down);
    sleep(MINUTE).await;
    assert_eq!(seen.runs(), 1, "it does not claim while it could claim its own");
    view.heal();
    until("its end", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(world.recorded(&key).await, [(Verdict::Success, "the first".to_owned())]);
    assert_eq!((seen.runs(), world.cycle(&key).await.lapses), (1, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_waited_too_long_is_refused_when_another_worker_made_the_attempt() {
    let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    let handler = seen.handler(|_| async {
        sleep(SECOND).await;
        report(Verdict::Success, "too late")
    });
    let running = start(worker(&view, handler));
    sleep(SECOND / 2).await;
    view.fail_all(Fault::Down);
    let second =
        start(worker(&world.view(), other.handler(|_| async { report(Verdict::Success, "in time") })));
    until("the other's", || second.handle.snapshot().attempts.succeeded == 1).await;
    view.heal();
    until("the refusal", || running.handle.snapshot().attempts.refused == 1).await;
    assert_eq!(world.recorded(&key).await, [(Verdict::Success, "in time".to_owned())]);
    running.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deferral_is_repeated_like_a_report_and_counted_once() {
    for fault in [Fault::Down, Fault::Deaf, Fault::Hang] {
        let (world, seen) = (World::new(), Seen::new());
        let key = world.due("tenant", "1").await;
        let view = world.view();
        let handler = seen.handler(|attempt: Attempt| async move {
            if attempt.cycle().epoch > 1 {
                return success();
            }
            sleep(SECOND).await;
            Done::Deferred { retry_in: 60 * MINUTE }
        });
        let running = start(worker(&view, handler));
        sleep(SECOND / 2).await;
        view.fail_all(Fault::Down);
        view.fail(Verb::Defer, fault);
        sleep(10 * LEASE).await;
        view.heal();
        until("it is given back", || running.handle.snapshot().attempts.deferred == 1).await;
        let counts = running.handle.snapshot().attempts;
        assert_eq!((counts.refused, counts.undelivered, seen.runs()), (0, 0, 1), "{fault:?}");
        let cycle = world.cycle(&key).await;
        assert_eq!((cycle.deferrals, cycle.lapses), (1, 0));
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_locked_row_does_not_keep_the_other_reports_waiting_and_is_recorded_when_it_is_free() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..15 {
        world.due("tenant", &n.to_string()).await;
    }
    let locked = world.lockable("tenant", "x").await;
    let view = world.view();
    let handler = seen.handler(|_| async {
        sleep(15 * SECOND).await;
        success()
    });
    let running = start(worker(&view, handler).per_tenant(16));
    sleep(SECOND).await;
    view.lock("x");
    until("the others", || running.handle.snapshot().attempts.succeeded == 15).await;
    assert!(world.age() <= 15 * SECOND + SECOND / 5, "{:?}", world.age());
    sleep(10 * LEASE).await;
    let snapshot = running.handle.snapshot();
    assert_eq!((snapshot.running, snapshot.attempts.refused, snapshot.reachable), (1, 0, true));
    view.heal();
    until("the last", || running.handle.snapshot().attempts.succeeded == 16).await;
    assert_eq!((seen.runs(), world.attempts(&locked).await.len()), (16, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_a_shutdown_reports_are_repeated_until_the_end() {
    for (outage, recorded) in [(6 * SECOND, true), (60 * MINUTE, false)] {
        let (world, seen) = (World::new(), Seen::new());
        let key = world.due("tenant", "1").await;
        let view = world.view();
        let handler = seen.handler(|_| async {
            sleep(SECOND).await;
            success()
        });
        let running = start(worker(&view, handler).grace(5 * SECOND));
        sleep(SECOND / 2).await;
        view.fail_all(Fault::Down);
        running.shutdown.cancel();
        let back = view.clone();
        let healing = tokio::spawn(async move {
            sleep(outage).await;
            back.heal();
        });
        let handle = running.handle.clone();
        running.stop().await;
        assert!(world.age() <= 9 * SECOND, "{:?}", world.age());
        healing.abort();
        let counts = handle.snapshot().attempts;
        assert_eq!((counts.succeeded, counts.undelivered), (u64::from(recorded), u64::from(!recorded)));
        assert_eq!(world.attempts(&key).await.len(), usize::from(recorded));
    }
}
