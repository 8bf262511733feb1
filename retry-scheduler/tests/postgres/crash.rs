//! The server is killed while it is worked with.

use std::sync::Arc;
use std::time::Duration;

use private_postgres::Postgres;
use retry_scheduler::{
    ClaimDue, CycleKey, Finished, NewCycle, PostgresScheduler, RetryScheduler, SchedulerErrorKind, State,
    Verdict,
};

use crate::known_faults::{new, report};
use crate::pool;

const ROUNDS: usize = 3;
const CYCLES: usize = 300;
const WORKERS: usize = 4;

/// Each attempt that was answered is kept, none is kept twice, and every cycle is resolved in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_outlives_the_server_and_the_rest_is_done_again() {
    let postgres = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.unwrap());
    let url = postgres.fresh_database();
    let caller = PostgresScheduler::new(pool(&url));
    caller.migrate().await.unwrap();
    let workers =
        (0..WORKERS).map(|_| tokio::spawn(work(PostgresScheduler::new(pool(&url)), ROUNDS * CYCLES)));
    let workers = workers.collect::<Vec<_>>();
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let cycles = (0..CYCLES).map(|n| new(&format!("{round} {n}"), &format!("tenant {}", n % 5)));
        let cycles = cycles.collect::<Vec<_>>();
        for new in &cycles {
            caller.schedule(new.clone()).await.unwrap();
        }
        while resolved(&caller, &cycles).await < CYCLES / 10 {
            tokio::task::yield_now().await;
        }
        let server = postgres.clone();
        tokio::task::spawn_blocking(move || server.restart()).await.unwrap();
        // The connections were lost, and the first verb notices.
        while let Err(error) = caller.get(&cycles[0].key).await {
            assert_eq!(error.kind(), SchedulerErrorKind::Unavailable);
        }
        all.extend(cycles);
    }
    let mut answered = Vec::new();
    for worker in workers {
        answered.extend(worker.await.unwrap());
    }
    assert_eq!(resolved(&caller, &all).await, all.len());
    for new in &all {
        let attempts = caller.attempts(&new.key, 0, 10).await.unwrap();
        assert_eq!(attempts.len(), 1, "attempts of {:?}", new.key);
    }
    let answers = answered.len();
    answered.sort();
    answered.dedup();
    assert_eq!(answers, answered.len(), "an attempt was answered as recorded twice");
}

/// Claims and finishes until so many attempts are kept. What was answered as recorded.
async fn work(scheduler: PostgresScheduler, all: usize) -> Vec<CycleKey> {
    let mut recorded = Vec::new();
    loop {
        let request = ClaimDue::new(5, Duration::from_millis(300)).per_tenant(5);
        let Ok(claims) = scheduler.claim_due(request).await else { continue };
        if claims.is_empty() {
            let kept = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM retry_attempts");
            let kept = kept.fetch_one(scheduler.pool()).await;
            if kept.is_ok_and(|kept| usize::try_from(kept).unwrap() == all) {
                return recorded;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let reports = claims.into_iter().map(|claim| (claim, report(Verdict::Success, "done")));
        let reports = reports.collect::<Vec<_>>();
        match scheduler.finish_many(reports.clone()).await {
            Ok(answers) => {
                for ((claim, _), answer) in reports.into_iter().zip(answers) {
                    if let Ok(Finished::Recorded(_)) = answer {
                        recorded.push(claim.cycle.key);
                    }
                }
            }
            Err(error) => assert_eq!(error.kind(), SchedulerErrorKind::Unavailable),
        }
    }
}

async fn resolved(scheduler: &PostgresScheduler, cycles: &[NewCycle]) -> usize {
    let mut count = 0;
    for new in cycles {
        if let Ok(Some(cycle)) = scheduler.get(&new.key).await
            && let State::Ended { .. } = cycle.state
        {
            count += 1;
        }
    }
    count
}
