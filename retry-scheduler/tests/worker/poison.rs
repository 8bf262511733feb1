//! Cycles that take their workers down with them.

use std::future::pending;

use retry_scheduler::{Plan, Verdict};
use std::time::Duration;

use crate::support::{MINUTE, Seen, World, start, success, until, worker};

#[tokio::test(start_paused = true)]
async fn a_cycle_that_three_workers_died_of_is_a_crashed_attempt_without_a_run() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.schedule("tenant", "1", Duration::ZERO, Plan::every(MINUTE, 5).unwrap()).await;
    for death in 1..=3 {
        let dying = start(worker(&world.view(), seen.handler(|_| pending())));
        until("the attempt", || seen.runs() == death).await;
        dying.crash().await;
    }
    let (other, view) = (Seen::new(), world.view());
    let wary = start(worker(&view, other.handler(|_| async { success() })));
    until("the failure", || wary.handle.snapshot().attempts.poisoned == 1).await;
    assert_eq!(other.runs(), 0);
    until("the next attempt, with the count begun anew", || wary.handle.snapshot().attempts.succeeded == 1)
        .await;
    let recorded = world.recorded(&key).await;
    assert_eq!(
        recorded.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(),
        [Verdict::Crashed, Verdict::Success]
    );
    assert!(recorded[0].1.contains("not attempted"), "{recorded:?}");
    assert_eq!((other.runs(), other.starts()[0].key.as_str()), (1, "webhook:1:2"));
    wary.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_deaths_are_not_yet_poison_and_the_limit_can_be_set() {
    for (limit, runs) in [(3, 1), (2, 0), (0, 0)] {
        let (world, seen, other) = (World::new(), Seen::new(), Seen::new());
        world.due("tenant", "1").await;
        for death in 1..=2 {
            let dying = start(worker(&world.view(), seen.handler(|_| pending())));
            until("the attempt", || seen.runs() == death).await;
            dying.crash().await;
        }
        let last = start(worker(&world.view(), other.handler(|_| async { success() })).poison_limit(limit));
        until("an attempt", || {
            let counts = last.handle.snapshot().attempts;
            counts.succeeded + counts.failed == 1
        })
        .await;
        assert_eq!(other.runs(), runs, "{limit}");
        last.stop().await;
    }
}
