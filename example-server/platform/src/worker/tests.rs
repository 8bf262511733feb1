//! Tests that the handler, not the worker, records an attempt without an outcome.

use std::future::pending;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use retry_scheduler::{ClaimDue, ManualClock, MemoryScheduler, NewCycle, Plan, RetryScheduler, Verdict};
use tokio_util::sync::CancellationToken;

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Clone, Copy)]
enum Fate {
    Answers,
    Panics,
    Hangs,
}

struct Doomed {
    fate: Fate,
    recorded: Arc<Mutex<Vec<(Verdict, Bytes)>>>,
}

#[async_trait]
impl TransactionalHandler for Doomed {
    async fn make(&self, _: &Attempt) -> Result<Done, BoxError> {
        match self.fate {
            Fate::Answers => Ok(Done::AlreadyRecorded),
            Fate::Panics => panic!("on purpose"),
            Fate::Hangs => pending().await,
        }
    }

    async fn record_without_outcome(&self, _: &Attempt, report: Report) -> Result<Done, BoxError> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).push((report.verdict, report.detail));
        Ok(Done::AlreadyRecorded)
    }
}

/// Runs an attempt that has crashed `crashes` processes, and returns what the handler recorded.
async fn recorded(fate: Fate, crashes: u32) -> Vec<(Verdict, Bytes)> {
    let clock = ManualClock::new(std::time::SystemTime::UNIX_EPOCH);
    let scheduler = MemoryScheduler::new(1).with_clock(clock.clone());
    let plan = Plan::delays([LEASE], 3).unwrap();
    let _ = scheduler.schedule(NewCycle::new(CycleKey::new("doomed", "it"), plan)).await.unwrap();
    for _ in 0..crashes {
        scheduler.claim_due(ClaimDue::new(1, LEASE)).await.unwrap().pop().unwrap();
        clock.advance(LEASE);
    }
    let claimed = scheduler.claim_due(ClaimDue::new(1, LEASE)).await.unwrap().pop().unwrap();
    let recorded = Arc::default();
    let mut handlers = Handlers::default();
    handlers.add_transactional("doomed", Doomed { fate, recorded: Arc::clone(&recorded) }, LONGEST);
    let done = handlers.attempt(Attempt::new(claimed, CancellationToken::new())).await;
    assert!(matches!(done, Done::AlreadyRecorded), "{done:?}");
    let mut recorded = recorded.lock().unwrap();
    std::mem::take(&mut *recorded)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_outcome_is_recorded_by_its_handler() {
    assert_eq!(recorded(Fate::Answers, 0).await, []);
    assert_eq!(recorded(Fate::Panics, 0).await, [(Verdict::Failure, "panicked".into())]);
    assert_eq!(recorded(Fate::Hangs, 0).await, [(Verdict::Failure, "timed_out".into())]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_crashed_too_many_processes_is_recorded_and_not_made_again() {
    assert_eq!(recorded(Fate::Answers, CRASHES - 1).await, []);
    assert_eq!(recorded(Fate::Panics, CRASHES).await, [(Verdict::Crashed, "crashed".into())]);
}

/// Otherwise, the worker would end the attempt before it is recorded.
#[test]
fn the_worker_waits_longer_than_any_attempt_may_take() {
    let mut handlers = Handlers::default();
    handlers.add_transactional("doomed", Doomed { fate: Fate::Answers, recorded: Arc::default() }, LONGEST);
    assert!(handlers.attempt_timeout > LONGEST);
    const { assert!(POISON_LIMIT > CRASHES) };
}

#[tokio::test]
async fn ended_cycles_are_kept_a_month_or_as_long_as_a_handler_needs_them() {
    let month = Duration::from_hours(30 * 24);
    for (at_least, kept) in [(month / 4, month), (14 * month, 14 * month)] {
        let mut handlers = Handlers::default();
        handlers.keep_ended(at_least);
        let database = crate::db::Database::open("sqlite::memory:").await.unwrap();
        let file = "[scheduler]\nconcurrency = 1\npoll_seconds = 1\nlease_seconds = 30";
        let config = crate::testing::config(&[file], "").unwrap().section("scheduler").unwrap();
        let crate::Platform { cycles, worker: handle, .. } = crate::testing::platform(&database);
        let worker = worker(&cycles, handle, handlers, &config, Duration::ZERO);
        assert!(format!("{worker:?}").contains(&format!("keep_ended: {kept:?}")), "{worker:?}");
    }
}
