//! How the statements find their rows.

use sqlx::{AssertSqlSafe, Row, query};

use super::*;
use crate::admin::{CycleClass, CycleFilter};

#[tokio::test]
async fn every_statement_finds_its_rows_through_an_index() {
    let scheduler = SqliteScheduler::open(":memory:").await.unwrap();
    let mut texts: Vec<String> = [
        sql::GET,
        sql::GET_MANY,
        sql::GET_TO_CLAIM,
        sql::SCHEDULE_SUBJECT,
        sql::SCHEDULE,
        sql::WRITE,
        sql::WRITE_PLAN,
        sql::KEEP_ATTEMPTS,
        sql::ATTEMPTS,
        sql::NAMESPACES,
        sql::ENDED_NAMESPACES,
        sql::DUE,
        sql::DUE_TENANTS,
        sql::DUE_OF_TENANTS,
        sql::SET_ASIDE,
        sql::FIRST_WAKE,
        sql::ENDED,
    ]
    .into_iter()
    .chain(sql::PURGE)
    .map(str::to_owned)
    .collect();
    let classes = [
        CycleClass::Pending,
        CycleClass::Due,
        CycleClass::Waiting,
        CycleClass::Leased,
        CycleClass::Resolved,
        CycleClass::Exhausted,
        CycleClass::Cancelled,
    ];
    for class in classes {
        texts.push(admin::count_text(class));
        texts.push(admin::list_text(&CycleFilter::new(class)));
        texts.push(admin::list_text(&CycleFilter::new(class).tenant("tenant")));
    }
    for text in texts {
        let explain = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
        let rows = explain.fetch_all(scheduler.pool()).await.unwrap();
        let steps = rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>();
        let plan = steps.join("\n");
        for step in &steps {
            let tables = ["retry_", "due", "seen", "behind"];
            let scans = tables.iter().any(|table| step.starts_with(&format!("SCAN {table}")));
            assert!(!scans || step.starts_with("SCAN retry_paused"), "{text}\n{plan}");
            assert!(!step.contains("AUTOMATIC"), "{text}\n{plan}");
        }
        if text == sql::DUE_TENANTS {
            // Each look is one step down the index, from where the last one was.
            let look = "USING INDEX retry_cycles_due_tenants (namespace=? AND (bucket,tenant)>(?,?))";
            assert!(plan.replace("COVERING ", "").matches(look).count() == 2, "{text}\n{plan}");
        }
    }
}
