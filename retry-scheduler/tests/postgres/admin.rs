//! The verbs of operators beside other transactions.

use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    CycleAdmin, CycleClass, CycleFilter, Plan, Reschedule, RetryScheduler, SchedulerErrorKind,
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
