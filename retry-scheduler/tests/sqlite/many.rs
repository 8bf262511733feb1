//! Many cycles: what is not wanted costs nothing.

use std::time::Duration;

use retry_scheduler::{CycleAdmin, CycleClass, CycleFilter, Namespaces, RetryScheduler, SqliteScheduler};
use sqlx::{AssertSqlSafe, Executor};

use crate::known_faults::{ask, new};

/// Cycles of the namespace, each of a tenant of its own or all of one, due so many milliseconds from now, and each a
/// millisecond later.
async fn fill(scheduler: &SqliteScheduler, namespace: &str, tenants: &str, count: u32, due_in: i64) {
    let text = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) \
         INSERT INTO retry_subjects (namespace, subject, payload) \
         SELECT '{namespace}', '{tenants} ' || n, zeroblob(10) FROM n; \
         INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) \
         SELECT id, namespace, '{tenants}', 5, '1000', \
         CAST(unixepoch('subsec') * 1000 AS INTEGER) + {due_in} + id FROM retry_subjects \
         WHERE id NOT IN (SELECT id FROM retry_cycles)"
    );
    let text = if tenants == "each" { text.replace("'each', 5", "'tenant ' || id, 5") } else { text };
    scheduler.pool().execute(sqlx::raw_sql(AssertSqlSafe(text))).await.unwrap();
}

#[tokio::test]
async fn of_100_000_tenants_with_pending_work_the_one_with_a_due_cycle_is_found_by_two_calls() {
    let scheduler = SqliteScheduler::open(":memory:").await.unwrap();
    fill(&scheduler, "test", "each", 100_000, 60_000).await;
    fill(&scheduler, "test", "greedy", 5_000, -3_600_000).await;
    scheduler.schedule(new("small", "small")).await.unwrap();
    let running = std::collections::HashMap::from([("greedy".to_owned(), 4)]);
    let mut found = 0;
    for _ in 0..2 {
        let request = ask(1, 4).running(running.clone());
        let claims = scheduler.claim_due(request).await.unwrap();
        found += claims.iter().filter(|claim| claim.cycle.tenant == "small").count();
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn operators_verbs_work_with_many_cycles() {
    let scheduler = SqliteScheduler::open(":memory:").await.unwrap();
    fill(&scheduler, "down", "one", 20_000, -3_600_000).await;
    fill(&scheduler, "test", "two", 1_000, 3_600_000).await;
    let up = Namespaces::except(["down"]);
    assert!(scheduler.claim_due(ask(10, 10).namespaces(up.clone())).await.unwrap().is_empty());
    assert!(scheduler.next_wake(&up).await.unwrap() > Some(Duration::from_mins(50)));
    let counts = scheduler.counts().await.unwrap();
    let seen: Vec<_> =
        counts.iter().map(|one| (one.namespace.as_str(), one.due, one.waiting, one.leased)).collect();
    assert_eq!(seen, [("down", 20_000, 0, 0), ("test", 0, 1_000, 0)]);
    let filter = CycleFilter::new(CycleClass::Due).tenant("one");
    let changed = scheduler.cancel_many(&filter, usize::MAX).await.unwrap();
    assert_eq!((changed.changed, changed.failed.len()), (20_000, 0));
    assert!(scheduler.list(&filter, None, 10).await.unwrap().is_empty());
    let mut purged = 0;
    for _ in 0..20 {
        purged += scheduler.purge_ended(Duration::ZERO, 1_000).await.unwrap();
    }
    assert_eq!(purged, 20_000);
    assert_eq!(scheduler.counts().await.unwrap().len(), 1);
}
