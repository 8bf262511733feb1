//! The verbs of operators beside other transactions.

use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    Changed, CycleAdmin, CycleClass, CycleFilter, Plan, Reschedule, RetryScheduler, SchedulerErrorKind,
};

use crate::OnServer;
use crate::known_faults::{key, new};

#[tokio::test]
async fn many_changes_wait_for_no_locked_cycle_and_report_it() {
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    for subject in ["1", "2", "3"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
    }
    let mut other = harness.database.pool.begin().await.unwrap();
    let lock = "SELECT id FROM retry_cycles WHERE id = (SELECT id FROM retry_subjects WHERE subject = '2') FOR UPDATE";
    sqlx::query(lock).execute(&mut *other).await.unwrap();

    let all = CycleFilter::new(CycleClass::Pending);
    let change = Reschedule::new(Plan::every(Duration::from_mins(5), 3).unwrap());
    let rescheduled = scheduler.reschedule_many(&all, change, 10).await.unwrap();
    let cancelled = scheduler.cancel_many(&all, 10).await.unwrap();
    for answer in [rescheduled, cancelled] {
        assert_eq!(answer.changed, 2);
        let failed: Vec<_> =
            answer.failed.iter().map(|failed| (failed.key.clone(), failed.error.kind())).collect();
        assert_eq!(failed, [(Some(key("2")), SchedulerErrorKind::Conflict)]);
    }

    other.rollback().await.unwrap();
    assert_eq!(scheduler.cancel_many(&all, 10).await.unwrap().changed, 1);
}

#[tokio::test]
async fn many_changes_stop_when_too_many_cycles_could_not_be_changed() {
    const BATCH: usize = 256;
    let harness = OnServer::new().await;
    let scheduler = harness.scheduler().await;
    let cycles = (0..Changed::MAX_FAILED + 2 * BATCH).map(|n| new(&n.to_string(), "tenant"));
    scheduler.schedule_many(cycles.collect()).await.unwrap();
    let mut other = harness.database.pool.begin().await.unwrap();
    sqlx::query("SELECT id FROM retry_cycles FOR UPDATE").execute(&mut *other).await.unwrap();

    let answer = scheduler.cancel_many(&CycleFilter::new(CycleClass::Pending), usize::MAX).await.unwrap();
    assert_eq!(answer.changed, 0);
    assert!((Changed::MAX_FAILED..Changed::MAX_FAILED + BATCH).contains(&answer.failed.len()));
}
