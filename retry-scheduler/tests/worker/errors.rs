//! Schedulers that answer, and refuse.

use retry_scheduler::{Ending, Verdict};
use tokio::time::sleep;

use crate::support::{LEASE, MINUTE, SECOND, Seen, World, report, start, success, until, worker};
use crate::watched::{Fault, Verb};

#[tokio::test(start_paused = true)]
async fn a_report_whose_hook_fails_is_repeated_until_it_works_and_keeps_nobody_else_waiting() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..15 {
        world.due("tenant", &n.to_string()).await;
    }
    let refused = world.due("tenant", "x").await;
    let view = world.view();
    view.fail_hook("x");
    let handler = seen.handler(|_| async {
        sleep(SECOND).await;
        report(Verdict::Success, "kept")
    });
    let running = start(worker(&view, handler).per_tenant(16));
    until("the others", || running.handle.snapshot().attempts.succeeded == 15).await;
    assert!(world.age() <= SECOND + SECOND / 5, "{:?}", world.age());

    // Nor those that come later, nor does anybody else get the cycle meanwhile.
    let other = start(worker(&world.view(), seen.handler(|_| async { success() })).namespaces(["webhook"]));
    sleep(10 * LEASE).await;
    other.stop().await;
    let late = world.due("tenant", "late").await;
    running.handle.wake();
    let begun = world.age();
    until("the late one", || running.handle.snapshot().attempts.succeeded == 16).await;
    assert!(world.age() <= begun + SECOND + SECOND / 5);
    assert_eq!(world.ending(&late).await, Some(Ending::Resolved));
    let snapshot = running.handle.snapshot();
    assert_eq!((snapshot.running, snapshot.reachable, snapshot.attempts.refused), (1, true, 0));
    assert!(view.calls(Verb::Finish) > 30, "{}", view.calls(Verb::Finish));

    view.heal();
    until("the last", || running.handle.snapshot().attempts.succeeded == 17).await;
    assert_eq!(world.recorded(&refused).await, [(Verdict::Success, "kept".to_owned())]);
    assert_eq!((world.cycle(&refused).await.lapses, seen.runs()), (0, 17));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cycle_whose_hook_fails_is_not_lost_with_the_worker() {
    let (world, seen, heir) = (World::new(), Seen::new(), Seen::new());
    let key = world.due("tenant", "x").await;
    let view = world.view();
    view.fail_hook("x");
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    sleep(LEASE).await;
    assert!(view.calls(Verb::Finish) > 1);
    running.crash().await;

    let running = start(worker(&world.view(), heir.handler(|_| async { success() })));
    until("the heir", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!((seen.runs(), heir.runs(), world.attempts(&key).await.len()), (1, 1, 1));
    assert_eq!(world.ending(&key).await, Some(Ending::Resolved));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_goes_on_trying_until_the_tables_are_there() {
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    until("an answer", || running.handle.snapshot().reachable).await;
    view.fail_all(Fault::NotMigrated);
    let (key, before) = (world.due("tenant", "1").await, view.calls(Verb::Claim));
    sleep(10 * MINUTE).await;
    // 100 ms, doubling up to 5 s.
    let calls = view.calls(Verb::Claim) - before;
    assert!((115..=130).contains(&calls), "{calls}");
    assert!(!running.handle.snapshot().reachable, "it does not look as if it worked");
    view.heal();
    let begun = world.age();
    until("the attempt", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert!(world.age() <= begun + 6 * SECOND);
    assert!(running.handle.snapshot().reachable);
    assert_eq!(world.ending(&key).await, Some(Ending::Resolved));
    running.stop().await;
}
