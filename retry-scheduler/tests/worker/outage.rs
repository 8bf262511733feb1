//! Schedulers that are not reached.

use retry_scheduler::{Attempt, Verdict};
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
    until("all are told", || running.handle.snapshot().attempts.refused == 8).await;
    for key in &keys {
        assert_eq!(world.recorded(key).await, [(Verdict::Failure, "once".to_owned())]);
    }
    assert_eq!(seen.runs(), 8);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_recorded_is_left_to_the_lease_and_the_attempt_made_again() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.due("tenant", "1").await;
    let view = world.view();
    let running = start(worker(
        &view,
        seen.handler(|attempt: Attempt| async move {
            sleep(SECOND).await;
            report(Verdict::Success, if attempt.cycle().epoch == 1 { "lost" } else { "again" })
        }),
    ));
    sleep(SECOND / 2).await;
    view.fail_all(Fault::Down);
    sleep(2 * MINUTE).await;
    let counts = running.handle.snapshot().attempts;
    assert_eq!((counts.undelivered, counts.succeeded, running.handle.snapshot().running), (1, 0, 0));
    view.heal();
    until("the second", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(world.recorded(&key).await, [(Verdict::Success, "again".to_owned())]);
    assert_eq!(seen.starts()[0].key, seen.starts()[1].key);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reports_that_hang_are_given_up_when_the_lease_is_over_and_do_not_hold_the_worker() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..8 {
        world.due("tenant", &n.to_string()).await;
    }
    let view = world.view();
    let running = start(worker(
        &view,
        seen.handler(|_| async {
            sleep(SECOND).await;
            success()
        }),
    ));
    sleep(SECOND / 2).await;
    view.fail_all(Fault::Hang);
    until("all are given up", || running.handle.snapshot().attempts.undelivered == 8).await;
    assert!(world.age() <= 2 * LEASE, "{:?}", world.age());
    running.crash().await;
}
