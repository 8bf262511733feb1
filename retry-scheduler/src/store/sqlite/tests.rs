//! How the statements find their rows.

use sqlx::{AssertSqlSafe, Row, query};

use super::*;

#[tokio::test]
async fn every_statement_finds_its_rows_through_an_index() {
    let scheduler = SqliteScheduler::open(":memory:").await.unwrap();
    let texts = [
        sql::GET,
        sql::READ,
        sql::WRITE,
        sql::EXTEND,
        sql::DEFER,
        sql::CANCEL,
        sql::ATTEMPTS,
        sql::TENANTS,
        sql::SCHEDULE_SUBJECT,
        sql::SCHEDULE,
        sql::CLAIM,
        sql::CLAIM_OF,
        sql::FINISH_ATTEMPTS,
        sql::FINISH_CYCLES,
        sql::NEXT_WAKE,
    ];
    for text in texts {
        let explain = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
        let rows = explain.fetch_all(scheduler.pool()).await.unwrap();
        let steps = rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>();
        for step in &steps {
            let scans = step.starts_with("SCAN retry_") || step.starts_with("SCAN due");
            assert!(!scans || step.contains("retry_cycles_wake"), "{text}\n{}", steps.join("\n"));
            assert!(!step.contains("AUTOMATIC"), "{text}\n{}", steps.join("\n"));
        }
    }
}
