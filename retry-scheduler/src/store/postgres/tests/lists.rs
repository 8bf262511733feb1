//! What the verbs of operators read.

use super::super::admin::{Way, count_text, due_count_text, list_text, oldest_text};
use super::*;
use crate::admin::{CycleClass, CycleFilter};

const CLASSES: [CycleClass; 7] = [
    CycleClass::Pending,
    CycleClass::Due,
    CycleClass::Waiting,
    CycleClass::Leased,
    CycleClass::Resolved,
    CycleClass::Exhausted,
    CycleClass::Cancelled,
];

/// Returns a scheduler with this many cycles in four states, 20 of each tenant. 100 of them are due, and 50 of these leased.
async fn with_all_classes(cycles: usize, is_analyzed: bool) -> PostgresScheduler {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    let pool = PgPool::connect_lazy(&url).unwrap();
    PostgresScheduler::new(pool.clone()).migrate().await.unwrap();
    let tenants = cycles / 20;
    let fill = format!(
        "ALTER TABLE retry_cycles SET (autovacuum_enabled = off); \
         ALTER TABLE retry_subjects SET (autovacuum_enabled = off); \
         INSERT INTO retry_namespaces VALUES ('test'); \
         INSERT INTO retry_subjects (namespace, subject, owner, payload) \
         SELECT 'test', n::text, 'tenant ' || n % {tenants}, '' FROM generate_series(1, {cycles}) AS n; \
         INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at, state, reason, ended_at, \
         claimed_at, lease_until) \
         SELECT id, namespace, owner, 1000, '3600000', now + CASE WHEN id <= 400 THEN -id ELSE id * 1000 END, id % 4, \
         CASE id % 4 WHEN 1 THEN 0 WHEN 2 THEN 2 WHEN 3 THEN 4 END, CASE WHEN id % 4 <> 0 THEN now - id END, \
         CASE WHEN id <= 400 AND id % 8 = 0 THEN now - 10 END, \
         CASE WHEN id <= 400 AND id % 8 = 0 THEN now + 3600000 END \
         FROM retry_subjects, (SELECT (extract(epoch FROM now()) * 1000)::bigint AS now) AS clock; \
         {}",
        if is_analyzed { "ANALYZE" } else { "" }
    );
    psql(&url, &fill);
    PostgresScheduler::new(pool)
}

async fn list(scheduler: &PostgresScheduler, filter: &CycleFilter) -> (u64, String) {
    let way = if filter.tenant.is_some() { Way::Tenant } else { Way::Class };
    pages(scheduler, &list_text(filter, way), |list| {
        list.bind(None::<i64>)
            .bind("test")
            .bind(i64::MIN)
            .bind(0_i64)
            .bind(20_i64)
            .bind(filter.tenant.as_deref())
    })
    .await
}

#[tokio::test]
async fn a_list_reads_as_much_of_many_cycles_as_of_few() {
    for is_analyzed in [true, false] {
        let few = with_all_classes(FEW, is_analyzed).await;
        let many = with_all_classes(MANY, is_analyzed).await;
        for class in CLASSES {
            for filter in [CycleFilter::new(class), CycleFilter::new(class).tenant("tenant 8")] {
                let (with_few, _) = list(&few, &filter).await;
                let (with_many, plan) = list(&many, &filter).await;
                // Each row is found through indexes of one level more.
                let most = with_few * 3 / 2 + 30;
                let what = format!("{with_many} pages instead of {with_few}, analyzed: {is_analyzed}");
                assert!(with_many <= most, "{filter:?}: {what}:\n{plan}");
            }
        }
    }
}

#[tokio::test]
async fn counts_stop_where_they_are_bounded_and_find_the_due_without_the_waiting() {
    let (few, many) = (with_all_classes(FEW, true).await, with_all_classes(MANY, true).await);
    let count = async |scheduler: &PostgresScheduler, text: &str, is_limited: bool| {
        pages(scheduler, text, |count| {
            let count = count.bind(None::<i64>).bind("test");
            if is_limited { count.bind(200_i64) } else { count }
        })
        .await
    };
    let mut texts = vec![(due_count_text(), true), (oldest_text(), false)];
    texts.extend(CLASSES.map(|class| (count_text(class), true)));
    for (text, is_limited) in texts {
        let (with_few, _) = count(&few, &text, is_limited).await;
        let (with_many, plan) = count(&many, &text, is_limited).await;
        assert!(with_many <= with_few * 3 / 2 + 30, "{with_many} pages instead of {with_few}:\n{plan}");
    }
}
