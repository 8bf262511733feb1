//! An operator's list: what waits, and how to intervene. Run it with `cargo run -p retry-scheduler
//! --example operator`.
//!
//! The same verbs work on SQLite and PostgreSQL, from any process that reaches the database.

#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use retry_scheduler::{
    Attempt, CycleAdmin, CycleClass, CycleFilter, CycleKey, Done, MemoryScheduler, NewCycle, Plan, Report,
    RetryScheduler, RunNow, Worker, handler_fn,
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scheduler = Arc::new(MemoryScheduler::default());

    // Three webhooks that are due, and a report for tomorrow.
    let plan = Plan::every(Duration::from_mins(10), 5)?;
    for number in 1..=3 {
        let key = CycleKey::new("webhook", format!("delivery {number}"));
        scheduler.schedule(NewCycle::new(key, plan.clone()).tenant("account 1")).await?;
    }
    let report = CycleKey::new("report", "monthly");
    let tomorrow = NewCycle::new(report.clone(), plan).first_in(Duration::from_hours(24));
    scheduler.schedule(tomorrow).await?;

    // The receiver of the webhooks is being moved: nothing of them is claimed meanwhile.
    scheduler.pause("webhook").await?;
    // The report is wanted today.
    assert!(matches!(scheduler.run_now(&report).await?, RunNow::Due(_)));

    let handler = handler_fn(async |_: Attempt| Done::Report(Report::success()));
    let worker = Worker::builder(scheduler.clone(), handler).poll(Duration::from_millis(50)).build();
    let handle = worker.handle();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let wait_for = async |count: u64| {
        while handle.snapshot().attempts.succeeded < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait_for(1).await;
    show(&*scheduler).await?;

    scheduler.resume("webhook").await?;
    handle.wake();
    wait_for(4).await;
    show(&*scheduler).await?;

    shutdown.cancel();
    running.await?;
    Ok(())
}

/// Prints the counts of each namespace, and its cycles that are due.
async fn show(scheduler: &dyn CycleAdmin) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<10} {:>6} {:>4} {:>8} {:>7} {:>9}",
        "namespace", "paused", "due", "waiting", "leased", "resolved"
    );
    for counts in scheduler.counts().await? {
        println!(
            "{:<10} {:>6} {:>4} {:>8} {:>7} {:>9}",
            counts.namespace, counts.paused, counts.due, counts.waiting, counts.leased, counts.resolved
        );
        let due = CycleFilter::new(CycleClass::Due).namespace(counts.namespace);
        // A page of a hundred, which says in `next` where the next one begins.
        for cycle in scheduler.list(&due, None, 100).await? {
            println!("  due: {} of {}, {} attempts made", cycle.key.subject, cycle.tenant, cycle.attempts);
        }
    }
    println!();
    Ok(())
}
