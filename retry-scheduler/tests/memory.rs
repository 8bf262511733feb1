//! What only the scheduler in memory does: forget, refuse, and be exactly fair.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use retry_scheduler::{
    ClaimDue, Claimed, CycleKey, Ending, ManualClock, MemoryScheduler, Namespaces, NewCycle, Plan, Report,
    RetryScheduler, Scheduled, SchedulerErrorKind, Verdict,
};

const MS: Duration = Duration::from_millis(1);

fn clock() -> ManualClock {
    ManualClock::new(UNIX_EPOCH + Duration::from_hours(24))
}

fn new(tenant: &str, subject: impl Display) -> NewCycle {
    let key = CycleKey::new("test", subject.to_string());
    NewCycle::new(key, Plan::every(MS, u32::MAX).unwrap()).tenant(tenant)
}

fn ask(limit: usize) -> ClaimDue {
    ClaimDue::new(limit, Duration::from_secs(30))
}

fn report(verdict: Verdict) -> Report {
    Report::new(verdict)
}

async fn one(scheduler: &MemoryScheduler) -> Claimed {
    scheduler.claim_due(ask(1)).await.unwrap().pop().unwrap()
}

#[tokio::test]
async fn the_cycle_that_ended_first_makes_room_for_a_new_one() {
    let clock = clock();
    let scheduler = MemoryScheduler::new(3).with_clock(clock.clone());
    for subject in [1, 2, 3] {
        scheduler.schedule(new("a", subject)).await.unwrap();
    }
    // Ended in another order than they began.
    for subject in [2, 1] {
        scheduler.cancel(&CycleKey::new("test", subject.to_string())).await.unwrap();
        clock.advance(MS);
    }
    let stats = scheduler.stats();
    assert_eq!((stats.pending, stats.ended, stats.forgotten), (1, 2, 0));
    scheduler.schedule(new("a", 4)).await.unwrap();
    assert_eq!(scheduler.get(&CycleKey::new("test", "2")).await.unwrap(), None);
    assert!(scheduler.get(&CycleKey::new("test", "1")).await.unwrap().is_some());
    // Its key is unknown now, and may begin.
    assert!(matches!(scheduler.schedule(new("a", 2)).await.unwrap(), Scheduled::New(_)));
    let stats = scheduler.stats();
    assert_eq!((stats.pending, stats.ended, stats.forgotten), (3, 0, 2));
}

#[tokio::test]
async fn a_pending_cycle_is_never_dropped() {
    let scheduler = MemoryScheduler::new(2).with_clock(clock());
    scheduler.schedule(new("a", 1)).await.unwrap();
    scheduler.schedule(new("a", 2)).await.unwrap();
    let claim = one(&scheduler).await;
    let refused = scheduler.schedule(new("a", 3)).await.unwrap_err();
    assert_eq!(refused.kind(), SchedulerErrorKind::Full);
    assert_eq!(scheduler.get(&CycleKey::new("test", "3")).await.unwrap(), None);
    // What is known needs no room.
    assert!(matches!(scheduler.schedule(new("a", 1)).await.unwrap(), Scheduled::Exists(_)));
    let _ = scheduler.finish(&claim, report(Verdict::Success)).await.unwrap();
    assert!(matches!(scheduler.schedule(new("a", 3)).await.unwrap(), Scheduled::New(_)));
}

#[tokio::test]
async fn the_latest_attempts_are_kept_and_numbers_go_on() {
    let clock = clock();
    let scheduler = MemoryScheduler::new(1).with_clock(clock.clone());
    scheduler.schedule(new("a", 1)).await.unwrap();
    let made = MemoryScheduler::ATTEMPTS_KEPT + 10;
    for _ in 0..made {
        let claim = one(&scheduler).await;
        let _ = scheduler.finish(&claim, report(Verdict::Failure)).await.unwrap();
        clock.advance(MS);
    }
    let attempts = scheduler.attempts(&CycleKey::new("test", "1"), 0, usize::MAX).await.unwrap();
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number as usize).collect();
    assert_eq!(numbers, (11..=made).collect::<Vec<_>>());
    assert_eq!(one(&scheduler).await.attempt() as usize, made + 1);
}

/// A payload cut from a large buffer would keep all of it alive.
#[tokio::test]
async fn what_is_kept_is_copied() {
    let scheduler = MemoryScheduler::new(1).with_clock(clock());
    let buffer = Bytes::from(vec![7; 1 << 20]);
    let payload = buffer.slice(..3);
    scheduler.schedule(new("a", 1).payload(payload)).await.unwrap();
    let claim = one(&scheduler).await;
    let said = Report::success().detail(buffer.slice(3..6));
    let _ = scheduler.finish(&claim, said).await.unwrap();
    assert!(buffer.is_unique());
}

/// One tenant's million due cycles do not starve the rest: not by one call.
#[tokio::test]
async fn a_due_cycle_is_claimed_at_once_however_many_of_another_tenant_are_due_longer() {
    let clock = clock();
    let scheduler = MemoryScheduler::new(1_000_000).with_clock(clock.clone());
    for subject in 0..50_000 {
        scheduler.schedule(new("greedy", subject)).await.unwrap();
    }
    clock.advance(MS);
    scheduler.schedule(new("small", "s")).await.unwrap();
    let request = ask(1).per_tenant(2).running(HashMap::from([("greedy".to_owned(), 2)]));
    let claims = scheduler.claim_due(request).await.unwrap();
    assert_eq!(claims[0].cycle.tenant, "small");
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_what_is_pending_and_breaks_nothing() {
    let clock = clock();
    let scheduler = MemoryScheduler::new(10).with_clock(clock.clone());
    scheduler.schedule(new("a", 1)).await.unwrap();
    let claim = one(&scheduler).await;
    clock.set(UNIX_EPOCH);
    let wait = Duration::from_hours(24) + Duration::from_secs(30);
    assert_eq!(scheduler.next_wake(&Namespaces::All).await.unwrap(), Some(wait));
    scheduler.schedule(new("a", 2)).await.unwrap();
    assert_eq!(one(&scheduler).await.cycle.key.subject, "2");
    let _ = scheduler.finish(&claim, report(Verdict::Failure)).await.unwrap();
    assert_eq!(scheduler.next_wake(&Namespaces::All).await.unwrap(), Some(MS));
    clock.advance(MS);
    assert_eq!(one(&scheduler).await.cycle.key.subject, "1");
}

#[tokio::test]
async fn ended_cycles_of_the_same_moment_go_in_the_order_they_began() {
    let scheduler = MemoryScheduler::new(2).with_clock(clock());
    for subject in [1, 2] {
        scheduler.schedule(new("a", subject)).await.unwrap();
    }
    for claim in scheduler.claim_due(ask(2)).await.unwrap() {
        let _ = scheduler.finish(&claim, report(Verdict::Permanent)).await.unwrap();
    }
    scheduler.schedule(new("a", 3)).await.unwrap();
    let left = scheduler.get(&CycleKey::new("test", "2")).await.unwrap();
    assert_eq!(left.and_then(|cycle| cycle.ending()), Some(Ending::Exhausted));
}
