//! How often the server is asked.

use std::cell::Cell;
use std::time::Duration;

use retry_scheduler::conformance::Harness;
use retry_scheduler::{Namespaces, Reschedule, RetryScheduler, Verdict};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::OnServer;
use crate::known_faults::{LEASE, ask, key, new, report};

thread_local! {
    static SENT: Cell<usize> = const { Cell::new(0) };
}

/// Counts what sqlx says that it sent, on each thread. A pool's questions whether a connection is alive it does not say;
/// but the scheduler has no pool.
struct Statements;

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            SENT.set(SENT.get() + 1);
        }
    }
}

#[tokio::test]
async fn a_verb_is_one_statement_and_a_claim_one_transaction() {
    // For all threads: one for this thread alone is not always asked when another thread logs the same at that moment.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Statements)).unwrap();
    let harness = OnServer::new().await;
    // Its clock stands still, so that nothing is swept but at the first claim.
    let scheduler = harness.scheduler().await;
    let ask = |limit, per_tenant| ask(limit, per_tenant).namespaces(Namespaces::only([key("").namespace]));
    // The first one opens the connection, and registers the namespace.
    scheduler.schedule(new("zero", "tenant")).await.unwrap();
    scheduler.cancel(&key("zero")).await.unwrap();
    assert!(scheduler.claim_due(ask(1, usize::MAX)).await.unwrap().is_empty());
    let mut seen = SENT.get();
    let mut sent = |count: usize, verb: &str| {
        let now = SENT.get();
        assert_eq!(now - seen, count, "statements of {verb}");
        seen = now;
    };
    for subject in ["one", "two", "three"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
        sent(1, "schedule");
    }
    scheduler.schedule(new("one", "tenant")).await.unwrap();
    sent(2, "schedule of what exists");
    let more = (0..300).map(|n| new(&format!("of many {n}"), "tenant").first_in(LEASE)).collect();
    scheduler.schedule_many(more).await.unwrap();
    sent(4, "schedule_many: begin, two of 256 at most, commit");
    let mut claims = scheduler.claim_due(ask(1, usize::MAX)).await.unwrap();
    sent(3, "claim_due: begin, claim, commit");
    claims.extend(scheduler.claim_due(ask(2, 2)).await.unwrap());
    sent(3, "claim_due with shares");
    assert!(scheduler.claim_due(ask(2, 2)).await.unwrap().is_empty());
    sent(3, "claim_due of nothing");
    let _ = scheduler.extend(&claims[0], LEASE).await.unwrap();
    sent(1, "extend");
    scheduler.extend_many(&claims, LEASE).await.unwrap();
    sent(1, "extend_many");
    let _ = scheduler.defer(&claims[0], Duration::ZERO).await.unwrap();
    sent(1, "defer");
    let reports = claims.drain(1..).map(|claim| (claim, report(Verdict::Failure, ""))).collect();
    scheduler.finish_many(reports).await.unwrap();
    sent(1, "finish_many");
    let claims = scheduler.claim_due(ask(1, 1)).await.unwrap();
    sent(3, "claim_due");
    let reports = claims.into_iter().map(|claim| (claim, report(Verdict::Success, ""))).collect();
    scheduler.finish_and_claim(reports, ask(1, 1)).await.unwrap();
    sent(4, "finish_and_claim: begin, finish, claim, commit");
    let change = Reschedule::new(new("", "").plan).next_in(Duration::ZERO);
    scheduler.reschedule(&key("two"), change).await.unwrap();
    sent(2, "reschedule");
    let claims = scheduler.claim_due(ask(1, 1)).await.unwrap();
    sent(3, "claim_due");
    let _ = scheduler.finish(&claims[0], report(Verdict::Success, "")).await.unwrap();
    sent(1, "finish");
    scheduler.cancel(&key("three")).await.unwrap();
    sent(3, "cancel");
    scheduler.cancel(&key("three")).await.unwrap();
    sent(4, "cancel of what has ended");
    scheduler.get(&key("two")).await.unwrap();
    sent(1, "get");
    scheduler.attempts(&key("two"), 0, 10).await.unwrap();
    sent(1, "attempts");
    scheduler.next_wake(&Namespaces::only([key("").namespace])).await.unwrap();
    sent(1, "next_wake");
    scheduler.purge_ended(Duration::ZERO, 1).await.unwrap();
    sent(1, "purge_ended");
}
