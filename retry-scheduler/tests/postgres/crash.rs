//! The server is killed while it is worked with.

use std::sync::Arc;
use std::time::Duration;

use private_postgres::Postgres;
use retry_scheduler::{
    CycleKey, Finished, NewCycle, PostgresScheduler, RetryScheduler, SchedulerErrorKind, State, Verdict,
};

use crate::known_faults::{new, report};
use crate::pool;

const CYCLES: usize = 400;
const WORKERS: usize = 4;

/// Each attempt that was answered is kept, none is kept twice, and every cycle is resolved in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_outlives_the_server_and_the_rest_is_done_again() {
    let postgres = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.unwrap());
    let url = postgres.fresh_database();
    PostgresScheduler::new(pool(&url)).migrate().await.unwrap();
    let caller = PostgresScheduler::new(pool(&url));
    let keys = (0..CYCLES).map(|n| new(&format!("{n}"), &format!("tenant {}", n % 5))).collect::<Vec<_>>();
    for new in &keys {
        caller.schedule(NewCycle { first_in: Duration::ZERO, ..new.clone() }).await.unwrap();
    }
    let workers = (0..WORKERS).map(|_| {
        let scheduler = PostgresScheduler::new(pool(&url));
        tokio::spawn(work(scheduler))
    });
    let workers = workers.collect::<Vec<_>>();
    for _ in 0..3 {
        let before = resolved(&caller, &keys).await;
        while resolved(&caller, &keys).await < before + CYCLES / 10 {
            tokio::task::yield_now().await;
        }
        let server = postgres.clone();
        tokio::task::spawn_blocking(move || server.restart()).await.unwrap();
        // It is reached again with the next verb or the one after: the connections were lost.
        while let Err(error) = caller.get(&keys[0].key).await {
            assert_eq!(error.kind(), SchedulerErrorKind::Unavailable);
        }
    }
    let mut answered = Vec::new();
    for worker in workers {
        answered.extend(worker.await.unwrap());
    }
    assert_eq!(resolved(&caller, &keys).await, CYCLES);
    for new in &keys {
        let attempts = caller.attempts(&new.key).await.unwrap();
        assert_eq!(attempts.len(), 1, "attempts of {:?}", new.key);
    }
    answered.sort();
    let all = answered.len();
    answered.dedup();
    assert_eq!(all, answered.len(), "an attempt was answered as recorded twice");
}

/// Claims and finishes until nothing is pending. What was answered as recorded.
async fn work(scheduler: PostgresScheduler) -> Vec<CycleKey> {
    let mut recorded = Vec::new();
    loop {
        let request =
            retry_scheduler::ClaimDue { lease: Duration::from_millis(300), ..crate::known_faults::ask(5, 5) };
        let Ok(claims) = scheduler.claim_due(request).await else { continue };
        if claims.is_empty() {
            match scheduler.next_wake().await {
                Ok(None) => return recorded,
                Ok(Some(wait)) => tokio::time::sleep(wait.min(Duration::from_millis(50))).await,
                Err(error) => assert_eq!(error.kind(), SchedulerErrorKind::Unavailable),
            }
            continue;
        }
        let reports =
            claims.into_iter().map(|claim| (claim, report(Verdict::Success, "done"))).collect::<Vec<_>>();
        match scheduler.finish_many(reports.clone()).await {
            Ok(answers) => {
                for ((claim, _), answer) in reports.into_iter().zip(answers) {
                    if let Finished::Recorded(_) = answer {
                        recorded.push(claim.cycle.key);
                    }
                }
            }
            Err(error) => assert_eq!(error.kind(), SchedulerErrorKind::Unavailable),
        }
    }
}

async fn resolved(scheduler: &PostgresScheduler, keys: &[NewCycle]) -> usize {
    let mut count = 0;
    for new in keys {
        if let Ok(Some(cycle)) = scheduler.get(&new.key).await
            && let State::Ended { .. } = cycle.state
        {
            count += 1;
        }
    }
    count
}
