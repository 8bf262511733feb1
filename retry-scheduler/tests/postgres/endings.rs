//! The hook for ended cycles: in the transaction that ends them, whoever does.

use std::time::Duration;

use async_trait::async_trait;
use retry_scheduler::conformance::Harness;
use retry_scheduler::{
    BoxError, Cancelled, Clock, Cycle, EndReason, EndedHook, Fenced, Finished, NewCycle, Plan,
    PostgresScheduler, Report, Reschedule, RetryScheduler, SchedulerErrorKind, TransactionalScheduler,
};
use sqlx::{PgConnection, query};

use crate::OnServer;
use crate::known_faults::{ask, key, new};

/// Writes what ended, and fails for subjects that begin with "refused".
struct Ledger;

#[async_trait]
impl EndedHook<PgConnection> for Ledger {
    async fn on_ended(
        &self,
        connection: &mut PgConnection,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        let insert =
            query("INSERT INTO ledger VALUES ($1, $2)").bind(&cycle.key.subject).bind(reason.to_string());
        insert.execute(&mut *connection).await?;
        if cycle.key.subject.starts_with("refused") {
            query("SELECT 1 / 0").execute(connection).await?;
        }
        Ok(())
    }
}

async fn with_ledger() -> (OnServer, PostgresScheduler) {
    let harness = OnServer::new().await;
    query("CREATE TABLE ledger (subject text PRIMARY KEY, reason text)")
        .execute(&harness.database.pool)
        .await
        .unwrap();
    let scheduler = harness.scheduler().await.on_ended(Ledger);
    (harness, scheduler)
}

async fn ledger(harness: &OnServer) -> Vec<(String, String)> {
    let rows = sqlx::query_as("SELECT subject, reason FROM ledger ORDER BY subject");
    rows.fetch_all(&harness.database.pool).await.unwrap()
}

fn plan() -> Plan {
    Plan::every(Duration::from_secs(1), 1).unwrap()
}

fn once(subject: &str, plan: Plan) -> NewCycle {
    NewCycle::new(key(subject), plan).tenant("tenant")
}

#[tokio::test]
async fn whoever_ends_a_cycle_tells_the_hook_once_and_why() {
    let (harness, scheduler) = with_ledger().await;
    let soon = harness.clock().now() + Duration::from_secs(5);
    for subject in ["cancelled", "cancelled in", "deferred", "failed", "permanent", "succeeded", "used up"] {
        scheduler.schedule(once(subject, plan().max_deferrals(0))).await.unwrap();
    }
    let late = once("too late", plan().deadline(soon)).first_in(Duration::from_secs(4));
    scheduler.schedule(late).await.unwrap();
    let never = once("never", plan().deadline(soon)).first_in(Duration::from_secs(9));
    scheduler.schedule(never).await.unwrap();

    let claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    let claim = |subject: &str| claims.iter().find(|claim| claim.cycle.key.subject == subject).unwrap();
    assert_eq!(scheduler.defer(claim("deferred"), Duration::ZERO).await.unwrap(), Fenced::Held);
    assert!(matches!(
        scheduler.finish(claim("succeeded"), Report::success()).await.unwrap(),
        Finished::Recorded(_)
    ));
    let reports =
        vec![(claim("failed").clone(), Report::failure()), (claim("permanent").clone(), Report::permanent())];
    scheduler.finish_many(reports).await.unwrap();
    assert!(matches!(scheduler.cancel(&key("cancelled")).await.unwrap(), Cancelled::Cancelled(_)));
    let mut transaction = harness.database.pool.begin().await.unwrap();
    scheduler.cancel_in(&mut transaction, &key("cancelled in")).await.unwrap();
    assert!(!ledger(&harness).await.iter().any(|(subject, _)| subject == "cancelled in"));
    transaction.commit().await.unwrap();
    let none_left = plan().deadline(harness.clock().now());
    let change = Reschedule::new(none_left).next_in(Duration::from_secs(1));
    scheduler.reschedule(&key("used up"), change).await.unwrap();
    harness.clock().advance(Duration::from_secs(9));
    assert!(scheduler.claim_due(ask(10, 10)).await.unwrap().is_empty());

    let told = ledger(&harness).await;
    let told = told.iter().map(|(subject, reason)| (subject.as_str(), reason.as_str())).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            ("cancelled", "cancelled"),
            ("cancelled in", "cancelled"),
            ("deferred", "deferred too often"),
            ("failed", "attempts used up"),
            ("never", "too late"),
            ("permanent", "permanent failure"),
            ("succeeded", "succeeded"),
            ("too late", "too late"),
            ("used up", "too late"),
        ]
    );
}

#[tokio::test]
async fn a_hook_that_fails_rolls_back_its_ending_and_no_other() {
    let (harness, scheduler) = with_ledger().await;
    for subject in ["0", "refused 1", "2", "refused 3"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
    }
    let mut claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    claims.sort_by(|one, other| one.cycle.key.cmp(&other.cycle.key));
    let reports = claims.iter().map(|claim| (claim.clone(), Report::success())).collect();
    let answers = scheduler.finish_and_claim(reports, ask(10, 10)).await.unwrap();
    let answers = answers.finished.into_iter().map(|answer| answer.map(|_| ()).map_err(|error| error.kind()));
    let failed = Err(SchedulerErrorKind::HookFailed);
    assert_eq!(answers.collect::<Vec<_>>(), [Ok(()), Ok(()), failed, failed]);
    assert_eq!(ledger(&harness).await.len(), 2);
    let error = scheduler.cancel(&key("refused 1")).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::HookFailed);
    for subject in ["refused 1", "refused 3"] {
        let cycle = scheduler.get(&key(subject)).await.unwrap().unwrap();
        assert_eq!((cycle.ending(), cycle.attempts), (None, 0));
        assert!(scheduler.attempts(&key(subject), 0, 9).await.unwrap().is_empty());
    }
    // The claim holds: it is reported again, once the hook takes it.
    let plain = harness.scheduler().await;
    let answer = plain.finish(&claims[3], Report::success()).await.unwrap();
    assert!(matches!(answer, Finished::Recorded(_)));
}

#[tokio::test]
async fn a_cycle_that_is_too_late_and_whose_hook_fails_is_set_aside_and_stops_nobody() {
    let (harness, scheduler) = with_ledger().await;
    let soon = harness.clock().now() + Duration::from_secs(1);
    for subject in ["refused", "told"] {
        scheduler.schedule(once(subject, plan().deadline(soon))).await.unwrap();
    }
    scheduler.schedule(new("good", "tenant")).await.unwrap();
    harness.clock().advance(Duration::from_secs(2));
    let claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| &claim.cycle.key).collect::<Vec<_>>(), [&key("good")]);
    assert_eq!(claims.unreadable[0].key, Some(key("refused")));
    assert_eq!(claims.unreadable[0].error.kind(), SchedulerErrorKind::HookFailed);
    assert_eq!(ledger(&harness).await, [("told".to_owned(), "too late".to_owned())]);
    assert_eq!(scheduler.get(&key("refused")).await.unwrap().unwrap().ending(), None);

    harness.clock().advance(Duration::from_secs(10));
    let plain = harness.scheduler().await;
    assert!(plain.claim_due(ask(10, 10)).await.unwrap().is_empty());
    assert!(plain.get(&key("refused")).await.unwrap().unwrap().ending().is_some());
}
