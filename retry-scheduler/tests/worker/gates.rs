//! Services that are down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use retry_scheduler::{Attempt, CycleKey, Done, Plan, RetryScheduler};
use tokio::time::sleep;

use crate::support::{MINUTE, SECOND, Seen, World, assert_at, start, success, until, worker};
use crate::watched::Verb;

const UNAVAILABLE: Done = Done::Unavailable { retry_in: MINUTE };

/// Whether the service is there.
#[derive(Clone, Default)]
struct Service(Arc<AtomicBool>);

impl Service {
    fn comes(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn ask(&self) -> Done {
        if self.0.load(Ordering::SeqCst) { success() } else { UNAVAILABLE }
    }
}

/// So many due cycles of one tenant, after one that was due before.
async fn many(world: &World, count: usize) -> Vec<CycleKey> {
    let mut keys = vec![world.due("tenant", "first").await];
    sleep(SECOND).await;
    for n in 0..count {
        keys.push(world.due("tenant", &n.to_string()).await);
    }
    keys
}

#[tokio::test(start_paused = true)]
async fn while_a_service_is_down_its_namespace_waits_and_no_attempts_are_spent() {
    let (world, seen, service) = (World::new(), Seen::new(), Service::default());
    let keys = many(&world, 200).await;
    let asked = service.clone();
    let handler = seen.handler(move |_| {
        let done = asked.ask();
        async { done }
    });
    let running = start(worker(&world.view(), handler).concurrency(1));
    sleep(59 * SECOND).await;
    assert_eq!(seen.runs(), 1, "the one that found out");
    assert_eq!(running.handle.snapshot().gates_closed, 1);
    for key in &keys {
        let cycle = world.cycle(key).await;
        assert_eq!((cycle.attempts, cycle.used), (0, 0));
    }
    service.comes();
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 201).await;
    assert_eq!(running.handle.snapshot().gates_closed, 0);
    let starts = seen.starts();
    assert_eq!(starts.len(), 202);
    assert_at(starts[1].at, SECOND + MINUTE);
    assert!(starts[201].at < MINUTE + 2 * SECOND, "{:?}", starts[201].at);
    let deferred = running.handle.snapshot().attempts.deferred;
    assert_eq!(deferred, 1, "what waits is not claimed and given back");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_down_is_asked_once_in_each_closure() {
    let (world, seen, service) = (World::new(), Seen::new(), Service::default());
    many(&world, 200).await;
    let handler = seen.handler(move |_| {
        let done = service.ask();
        async move {
            sleep(SECOND).await; // others come while it is being found out
            done
        }
    });
    let running = start(worker(&world.view(), handler).concurrency(1));
    sleep(10 * MINUTE).await;
    // Each closure begins when the one before has been found to go on: every minute, and a second
    // for the asking.
    assert!((9..=10).contains(&seen.runs()), "{}", seen.runs());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_attempt_at_a_time_finds_out_however_many_places_there_are() {
    let (world, seen, service) = (World::new(), Seen::new(), Service::default());
    let asked = service.clone();
    let handler = seen.handler(move |_| {
        let asked = asked.clone();
        async move {
            sleep(10 * SECOND).await;
            asked.ask()
        }
    });
    many(&world, 200).await;
    let running = start(worker(&world.view(), handler).concurrency(16).per_tenant(16));
    sleep(MINUTE).await;
    assert_eq!(seen.runs(), 16, "all places, before it was known");
    service.comes();
    until("one finds out", || seen.runs() == 17).await;
    sleep(9 * SECOND).await;
    assert_eq!((seen.runs(), seen.running()), (17, 1));
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 201).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_namespace_goes_on() {
    let (world, seen) = (World::new(), Seen::new());
    let down = world.due("tenant", "1").await;
    let plan = Plan::every(MINUTE, 5).unwrap();
    world.schedule_key(CycleKey::new("validation", "1"), "tenant", 5 * SECOND, plan).await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().key.namespace == "webhook" { UNAVAILABLE } else { success() }
    });
    let running = start(worker(&world.view(), handler));
    sleep(30 * SECOND).await;
    assert_eq!(running.handle.snapshot().attempts.succeeded, 1);
    assert_at(seen.starts()[1].at, 5 * SECOND);
    assert_eq!(world.attempts(&down).await.len(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_began_before_the_gate_closed_does_not_open_it() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "slow").await;
    world.due("tenant", "down").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().key.subject == "slow" {
            sleep(10 * SECOND).await;
            success()
        } else {
            UNAVAILABLE
        }
    });
    let running = start(worker(&world.view(), handler));
    until("the slow one's end", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(running.handle.snapshot().gates_closed, 1);
    world.due("tenant", "later").await;
    sleep(30 * SECOND).await;
    assert_eq!(seen.runs(), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_to_find_out_and_did_not_leaves_that_to_the_next() {
    let (world, seen) = (World::new(), Seen::new());
    let first =
        world.schedule("tenant", "first", Duration::ZERO, Plan::every(24 * 60 * MINUTE, 5).unwrap()).await;
    let handler = seen.handler(|attempt: Attempt| async move {
        match (attempt.cycle().key.subject.as_str(), attempt.cycle().epoch) {
            ("first", 1) => UNAVAILABLE,
            ("first", _) => panic!("while finding out"),
            _ => success(),
        }
    });
    let running = start(worker(&world.view(), handler));
    sleep(30 * SECOND).await;
    world.due("tenant", "next").await;
    until("the next", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(running.handle.snapshot().attempts.panicked, 1);
    assert_eq!(running.handle.snapshot().gates_closed, 0);
    assert_eq!(world.scheduler.attempts(&first, 0, usize::MAX).await.unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_closure_of_no_time_is_not_a_busy_loop() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "1").await;
    let handler = seen.handler(|_| async { Done::Unavailable { retry_in: Duration::ZERO } });
    let running = start(worker(&world.view(), handler));
    sleep(10 * SECOND).await;
    assert!((50..=101).contains(&seen.runs()), "{}", seen.runs());
    running.stop().await;
}

/// So many due cycles of a namespace, begun before anything else.
async fn backlog(world: &World, namespace: &str, count: usize) {
    let plan = Plan::every(MINUTE, 5).unwrap();
    for n in 0..count {
        let key = CycleKey::new(namespace, n.to_string());
        world.schedule_key(key, "tenant", Duration::ZERO, plan.clone()).await;
    }
    sleep(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_behind_twenty_thousand_due_cycles_of_a_service_that_is_down() {
    let (world, seen) = (World::new(), Seen::new());
    backlog(&world, "down", 20_000).await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().key.namespace == "down" { UNAVAILABLE } else { success() }
    });
    let view = world.view();
    let running = start(worker(&view, handler).concurrency(64));
    sleep(SECOND).await;
    let (claims, begun) = (view.calls(Verb::Claim), world.age());
    let plan = Plan::every(MINUTE, 5).unwrap();
    let up = world.schedule_key(CycleKey::new("up", "1"), "tenant", Duration::ZERO, plan).await;
    until("the other service's", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert!(world.age() <= begun + SECOND + SECOND / 5, "{:?}", world.age().saturating_sub(begun));
    assert!(world.ending(&up).await.is_some());
    sleep(50 * SECOND).await;
    // At every poll, and no more.
    assert!(view.calls(Verb::Claim) - claims <= 55, "{}", view.calls(Verb::Claim) - claims);
    assert!(running.handle.snapshot().attempts.deferred <= 64, "those that were claimed before it was known");
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_claims_only_from_its_namespaces() {
    let (world, seen) = (World::new(), Seen::new());
    backlog(&world, "foreign", 100).await;
    let plan = Plan::every(MINUTE, 5).unwrap();
    for namespace in ["mine", "mine too"] {
        world.schedule_key(CycleKey::new(namespace, "1"), "tenant", 5 * SECOND, plan.clone()).await;
    }
    let view = world.view();
    let handler = seen.handler(|_| async { success() });
    let running = start(worker(&view, handler).namespaces(["mine", "mine too"]).poll(60 * MINUTE));
    sleep(MINUTE).await;
    assert_eq!((seen.runs(), running.handle.snapshot().attempts.succeeded), (2, 2));
    assert_at(seen.starts()[0].at, 6 * SECOND);
    // It is not woken by what it may not claim.
    assert!(view.calls(Verb::Claim) <= 4, "{}", view.calls(Verb::Claim));
    let foreign = world.cycle(&CycleKey::new("foreign", "1")).await;
    assert_eq!((foreign.epoch, foreign.attempts), (0, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_only_namespace_is_closed_rests_until_the_probe() {
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "1").await;
    let view = world.view();
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().epoch == 1 { UNAVAILABLE } else { success() }
    });
    let running = start(worker(&view, handler).namespaces(["webhook"]).poll(60 * MINUTE));
    sleep(59 * SECOND).await;
    assert!(view.calls(Verb::Claim) <= 2, "{}", view.calls(Verb::Claim));
    until("the probe", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_at(seen.starts()[1].at, MINUTE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_time_is_over_without_due_cycles_lets_the_first_that_comes_find_out_alone() {
    let (world, seen, service) = (World::new(), Seen::new(), Service::default());
    let first = world.due("tenant", "first").await;
    let asked = service.clone();
    let handler = seen.handler(move |_| {
        let asked = asked.clone();
        async move {
            let done = asked.ask();
            sleep(SECOND).await;
            done
        }
    });
    let running = start(worker(&world.view(), handler).concurrency(16).per_tenant(16));
    sleep(30 * SECOND).await;
    world.scheduler.cancel(&first).await.unwrap();
    sleep(2 * MINUTE).await;
    service.comes();
    for n in 0..10 {
        world.due("tenant", &n.to_string()).await;
    }
    let begun = world.age();
    until("the first of them", || seen.runs() == 2).await;
    assert!(world.age() <= begun + SECOND + SECOND / 5, "{:?}", world.age().saturating_sub(begun));
    sleep(SECOND / 2).await;
    assert_eq!(seen.runs(), 2, "the probe is alone");
    until("all", || running.handle.snapshot().attempts.succeeded == 10).await;
    assert!(world.age() <= begun + 4 * SECOND);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_probed_in_time_while_another_namespace_has_every_place() {
    let (world, seen, service) = (World::new(), Seen::new(), Service::default());
    backlog(&world, "down", 10).await;
    let asked = service.clone();
    let handler = seen.handler(move |attempt: Attempt| {
        let asked = asked.clone();
        async move {
            if attempt.cycle().key.namespace == "down" {
                return asked.ask();
            }
            sleep(SECOND).await;
            success()
        }
    });
    let running = start(worker(&world.view(), handler).concurrency(4));
    sleep(SECOND).await;
    service.comes();
    backlog(&world, "busy", 1_000).await;
    sleep(MINUTE + 5 * SECOND).await;
    // Those that were deferred are due later than all of the other namespace.
    for n in 4..10 {
        let key = CycleKey::new("down", n.to_string());
        assert!(world.ending(&key).await.is_some(), "{n}");
    }
    assert!(running.handle.snapshot().attempts.succeeded < 500, "the other has not ended");
    running.crash().await;
}
