//! Claiming, starting, recording, resting.

use std::sync::Arc;
use std::time::Duration;

use retry_scheduler::{
    Attempt, Done, Ending, Finished, MAX_BYTES, MemoryScheduler, Plan, Report, RetryScheduler, Verdict,
    Worker, WorkerHandle, WorkerPhase, handler_fn,
};
use tokio::time::sleep;

use crate::support::{
    MINUTE, SECOND, Seen, World, assert_at, assert_by, failure, start, success, until, worker,
};
use crate::watched::{Fault, Verb};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn no_more_attempts_run_at_a_time_than_the_concurrency_and_each_is_made() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..100 {
        world.due(["one", "two", "three"][n % 3], &n.to_string()).await;
    }
    let handler = seen.handler(|_| async {
        sleep(SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler).concurrency(7).per_tenant(7));
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 100).await;
    assert_eq!((seen.peak(), seen.runs()), (7, 100));
    // 15 rounds of 7: no place was left empty for the length of an attempt.
    assert_by(world.age(), 15 * SECOND);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cycle_is_attempted_by_its_plan_until_it_is_resolved() {
    let (world, seen) = (World::new(), Seen::new());
    let plan = Plan::delays([MINUTE, 10 * MINUTE], 9).unwrap();
    let key = world.schedule("tenant", "1", 5 * SECOND, plan).await;
    let handler = seen.handler(|attempt: Attempt| async move {
        sleep(SECOND).await;
        if attempt.number() == 4 { success() } else { failure() }
    });
    // No poll helps: the worker knows when its own cycles are due.
    let running = start(worker(&world.view(), handler).poll(24 * HOUR));
    until("resolved", || running.handle.snapshot().attempts.succeeded == 1).await;
    let starts: Vec<_> = seen.starts().iter().map(|start| start.at).collect();
    let expected = [5 * SECOND, 66 * SECOND, 667 * SECOND, 1_268 * SECOND];
    assert_eq!(starts.len(), 4);
    starts.iter().zip(expected).for_each(|(at, expected)| assert_at(*at, expected));
    let keys: Vec<_> = seen.starts().into_iter().map(|start| start.key).collect();
    assert_eq!(keys, ["webhook:1:1", "webhook:1:2", "webhook:1:3", "webhook:1:4"]);
    assert_eq!(world.ending(&key).await, Some(Ending::Resolved));
    assert_eq!(world.attempts(&key).await.len(), 4);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_of_a_plan_and_a_permanent_one_exhaust_the_cycle() {
    let (world, seen) = (World::new(), Seen::new());
    let twice = world.schedule("tenant", "twice", Duration::ZERO, Plan::every(MINUTE, 2).unwrap()).await;
    let permanent = world.due("tenant", "permanent").await;
    let handler = seen.handler(|attempt: Attempt| async move {
        if attempt.cycle().key.subject == "twice" {
            failure()
        } else {
            crate::support::report(Verdict::Permanent, "")
        }
    });
    let running = start(worker(&world.view(), handler));
    sleep(HOUR).await;
    assert_eq!(world.ending(&twice).await, Some(Ending::Exhausted));
    assert_eq!(world.ending(&permanent).await, Some(Ending::Exhausted));
    let counts = running.handle.snapshot().attempts;
    assert_eq!((counts.failed, counts.permanent, seen.runs()), (2, 1, 3));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_cycle_is_not_attempted_again_before_its_delay_is_over() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..20 {
        world.schedule("tenant", &n.to_string(), Duration::ZERO, Plan::every(MINUTE, 9).unwrap()).await;
    }
    let running = start(worker(&world.view(), seen.handler(|_| async { failure() })).concurrency(64));
    sleep(59 * SECOND).await;
    assert_eq!(seen.runs(), 20);
    sleep(2 * SECOND).await;
    assert_eq!(seen.runs(), 40);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_finds_what_was_scheduled_without_waiting_for_the_poll() {
    let (world, seen) = (World::new(), Seen::new());
    let running = start(worker(&world.view(), seen.handler(|_| async { success() })).poll(HOUR));
    sleep(MINUTE).await;
    world.due("tenant", "1").await;
    running.handle.wake();
    until("an attempt", || seen.runs() == 1).await;
    assert_at(seen.starts()[0].at, MINUTE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_while_the_worker_is_claiming_is_not_lost() {
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    view.fail(Verb::NextWake, Fault::Late(SECOND));
    let running = start(worker(&view, seen.handler(|_| async { success() })).poll(HOUR));
    sleep(SECOND / 2).await; // it has been told that there is nothing, and does not know yet
    world.due("tenant", "1").await;
    running.handle.wake();
    sleep(SECOND).await;
    assert_eq!(seen.runs(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_schedule_is_found_at_the_poll() {
    let (world, seen) = (World::new(), Seen::new());
    let running = start(worker(&world.view(), seen.handler(|_| async { success() })).poll(10 * MINUTE));
    sleep(MINUTE).await;
    world.due("tenant", "1").await;
    until("an attempt", || seen.runs() == 1).await;
    assert_at(seen.starts()[0].at, 10 * MINUTE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_made_before_the_worker_wakes_it() {
    let (world, seen, handle) = (World::new(), Seen::new(), WorkerHandle::default());
    assert_eq!(handle.snapshot().phase, WorkerPhase::Built);
    // The first attempt begins another cycle, and says so.
    let (next, inside) = (world.clone(), handle.clone());
    let handler = seen.handler(move |attempt: Attempt| {
        let (next, inside) = (next.clone(), inside.clone());
        async move {
            if attempt.cycle().key.subject == "first" {
                next.due("tenant", "second").await;
                inside.wake();
            }
            success()
        }
    });
    world.due("tenant", "first").await;
    let running = start(worker(&world.view(), handler).poll(HOUR).handle(handle.clone()));
    until("both", || handle.snapshot().attempts.succeeded == 2).await;
    assert_by(world.age(), Duration::ZERO);
    running.stop().await;
    assert_eq!(handle.snapshot().phase, WorkerPhase::Stopped);
}

#[tokio::test(start_paused = true)]
async fn reports_that_arrive_while_others_are_recorded_go_in_one_call() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..32 {
        world.due("tenant", &n.to_string()).await;
    }
    let view = world.view();
    view.fail(Verb::Finish, Fault::Slow(SECOND));
    let handler = seen.handler(|attempt: Attempt| async move {
        let n: u32 = attempt.cycle().key.subject.parse().unwrap();
        sleep(MINUTE + n * Duration::from_millis(10)).await;
        success()
    });
    let running = start(worker(&view, handler).concurrency(64));
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 32).await;
    assert_eq!(view.sizes(Verb::Finish), [1, 31], "one alone, at once; then all that had come meanwhile");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_more_due_than_places_results_are_recorded_and_the_next_claimed_in_one_call() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..160 {
        world.due("tenant", &n.to_string()).await;
    }
    let view = world.view();
    let handler = seen.handler(|_| async {
        sleep(SECOND).await;
        success()
    });
    let running = start(worker(&view, handler));
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 160).await;
    assert_by(world.age(), 10 * SECOND);
    assert_eq!(view.sizes(Verb::FinishAndClaim), [16; 10]);
    assert_eq!((view.calls(Verb::Finish), seen.peak()), (10, 16));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_takes_long_does_not_hold_the_reports_back() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..32 {
        world.due("tenant", &n.to_string()).await;
    }
    let view = world.view();
    let handler = seen.handler(|attempt: Attempt| async move {
        let n: u32 = attempt.cycle().key.subject.parse().unwrap();
        sleep(SECOND * (1 + n)).await;
        success()
    });
    let running = start(worker(&view, handler));
    sleep(SECOND / 2).await;
    view.fail(Verb::Claim, Fault::Hang);
    until("the ends of all that run", || running.handle.snapshot().attempts.succeeded == 16).await;
    assert!(world.age() <= 17 * SECOND, "{:?}", world.age());
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_schedule_is_found_at_once_when_the_scheduler_tells() {
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    let running = start(worker(&view, seen.handler(|_| async { success() })).poll(HOUR));
    for minute in 1..=3_usize {
        sleep(MINUTE).await;
        world.due("tenant", &minute.to_string()).await;
        let told = world.age();
        view.tell();
        until("an attempt", || seen.runs() == minute).await;
        assert_at(seen.starts()[minute - 1].at, told);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_the_scheduler_refuses_does_not_take_others_with_it_and_is_recorded_without_its_detail()
{
    let world = World::new();
    let mut keys = Vec::new();
    for n in 0..8 {
        keys.push(world.due("tenant", &n.to_string()).await);
    }
    let handler = handler_fn(|attempt: Attempt| async move {
        sleep(SECOND).await;
        let bytes = if attempt.cycle().key.subject == "3" { MAX_BYTES + 1 } else { 1 };
        Done::Report(Report::success().detail(vec![b'x'; bytes]))
    });
    let view = world.view();
    view.fail(Verb::Finish, Fault::Slow(SECOND));
    let running = start(worker(&view, handler));
    until("all resolved", || running.handle.snapshot().attempts.succeeded == 8).await;
    for (n, key) in keys.iter().enumerate() {
        let expected = if n == 3 { "" } else { "x" };
        assert_eq!(world.recorded(key).await, [(Verdict::Success, expected.to_owned())], "{n}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_recorded_itself_is_not_reported_again_and_the_next_attempt_is_in_time() {
    let (world, seen) = (World::new(), Seen::new());
    let key = world.schedule("tenant", "1", Duration::ZERO, Plan::every(20 * SECOND, 2).unwrap()).await;
    let scheduler: Arc<MemoryScheduler> = Arc::clone(&world.scheduler);
    let handler = seen.handler(move |attempt: Attempt| {
        let scheduler = Arc::clone(&scheduler);
        async move {
            let report = Report::failure().detail("mine");
            assert!(matches!(scheduler.finish(attempt.claimed(), report).await, Ok(Finished::Recorded(_))));
            sleep(15 * SECOND).await; // a heartbeat, which finds that the claim is over
            Done::AlreadyRecorded
        }
    });
    let view = world.view();
    let running = start(worker(&view, handler).poll(HOUR));
    until("both", || running.handle.snapshot().attempts.already_recorded == 2).await;
    assert_eq!(view.calls(Verb::Finish), 0);
    // Sooner than the lease that the worker knew of would have been over.
    assert_at(seen.starts()[1].at, 20 * SECOND);
    assert_eq!(
        world.recorded(&key).await,
        [(Verdict::Failure, "mine".to_owned()), (Verdict::Failure, "mine".to_owned())]
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_work_or_without_places_asks_no_more_than_at_its_poll() {
    let (world, seen) = (World::new(), Seen::new());
    let (idle, blocked) = (world.view(), World::new());
    let nothing = start(worker(&idle, seen.handler(|_| async { success() })));
    for n in 0..100 {
        blocked.due("tenant", &n.to_string()).await;
    }
    let view = blocked.view();
    let long = handler_fn(|_| async {
        sleep(HOUR).await;
        success()
    });
    let busy = start(worker(&view, long));
    sleep(10 * MINUTE).await;
    assert!((600..=602).contains(&idle.calls(Verb::Claim)), "{}", idle.calls(Verb::Claim));
    assert!(view.calls(Verb::Claim) <= 2, "{}", view.calls(Verb::Claim));
    nothing.stop().await;
    busy.crash().await;
}

#[tokio::test(start_paused = true)]
async fn ending_attempts_do_not_make_the_worker_look_where_nothing_is_due() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..16 {
        world.due("tenant", &n.to_string()).await;
    }
    let lengths = |attempt: Attempt| async move {
        sleep(SECOND * attempt.cycle().key.subject.parse::<u32>().unwrap()).await;
        failure()
    };
    let view = world.view();
    let running = start(worker(&view, seen.handler(lengths)).per_tenant(16).poll(HOUR));
    sleep(MINUTE).await;
    let claims = view.calls(Verb::Claim);
    // When they are claimed, when there is a place again, and when the leases that were there then
    // would be over.
    assert!(claims <= 4, "{claims} claims, for sixteen that were due at once and none after");
    assert_eq!(running.handle.snapshot().attempts.failed, 16);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_what_the_worker_does() {
    let world = World::new();
    for n in 0..3 {
        world.due("tenant", &n.to_string()).await;
    }
    let handler = handler_fn(|_| async {
        sleep(MINUTE).await;
        success()
    });
    let worker = Worker::builder(world.scheduler.clone(), handler).concurrency(8).build();
    let before = worker.handle().snapshot();
    assert_eq!((before.phase, before.running, before.concurrency), (WorkerPhase::Built, 0, 8));
    assert_eq!((before.reachable, before.since_answer), (false, None));
    let (shutdown, handle) = (tokio_util::sync::CancellationToken::new(), worker.handle());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    sleep(SECOND / 2).await;
    let working = handle.snapshot();
    assert_eq!((working.phase, working.running, working.reachable), (WorkerPhase::Working, 3, true));
    assert!(working.since_answer.unwrap() <= SECOND);
    shutdown.cancel();
    sleep(SECOND).await;
    assert_eq!((handle.snapshot().phase, handle.snapshot().running), (WorkerPhase::Draining, 3));
    task.await.unwrap();
    let after = handle.snapshot();
    assert_eq!((after.phase, after.running, after.attempts.deferred), (WorkerPhase::Stopped, 0, 3));
}
