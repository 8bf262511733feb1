//! The hook of endings: in the transaction that ends a cycle, or not at all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use retry_scheduler::{
    BoxError, Cancelled, Cycle, CycleAdmin, CycleClass, CycleFilter, CycleKey, EndReason, EndedHook,
    Finished, ManualClock, NewCycle, Plan, RetryScheduler, SchedulerErrorKind, SqliteScheduler,
    TransactionalScheduler, Verdict,
};
use sqlx::SqliteConnection;

use crate::known_faults::{LEASE, ask, key, new, report};

/// Writes each ending into a table of the application's; but those of some subjects fail, after they are written.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashSet<String>>>);

impl Ledger {
    fn refuse(&self, subject: &str) {
        self.0.lock().unwrap().insert(subject.to_owned());
    }

    fn refuse_none(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[async_trait]
impl EndedHook<SqliteConnection> for Ledger {
    async fn on_ended(
        &self,
        connection: &mut SqliteConnection,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        let insert = sqlx::query("INSERT INTO ledger VALUES ($1, $2)");
        insert.bind(&cycle.key.subject).bind(reason.to_string()).execute(connection).await?;
        let refused = self.0.lock().unwrap().contains(&cycle.key.subject);
        if refused { Err("the ledger is closed".into()) } else { Ok(()) }
    }
}

async fn with_ledger() -> (SqliteScheduler, Ledger, ManualClock) {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let ledger = Ledger::default();
    let scheduler = SqliteScheduler::open(":memory:").await.unwrap();
    sqlx::query("CREATE TABLE ledger (subject TEXT, reason TEXT)").execute(scheduler.pool()).await.unwrap();
    (scheduler.with_clock(clock.clone()).on_ended(ledger.clone()), ledger, clock)
}

async fn written(scheduler: &SqliteScheduler) -> Vec<(String, String)> {
    let all = sqlx::query_as("SELECT subject, reason FROM ledger ORDER BY rowid");
    all.fetch_all(scheduler.pool()).await.unwrap()
}

fn entry(subject: &str, reason: EndReason) -> (String, String) {
    (subject.to_owned(), reason.to_string())
}

#[tokio::test]
async fn what_the_hook_writes_commits_with_the_ending_in_the_callers_transaction() {
    let (scheduler, _, _) = with_ledger().await;
    scheduler.schedule(new("payment", "tenant")).await.unwrap();
    let claim = scheduler.claim_due(ask(1, 1)).await.unwrap().remove(0);
    for commits in [false, true] {
        let mut transaction = scheduler.pool().begin().await.unwrap();
        let finished =
            scheduler.finish_in(&mut transaction, &claim, report(Verdict::Success, "")).await.unwrap();
        assert!(matches!(finished, Finished::Recorded(_)));
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        assert_eq!(written(&scheduler).await.len(), usize::from(commits));
    }
    assert_eq!(written(&scheduler).await, [entry("payment", EndReason::Succeeded)]);
}

#[tokio::test]
async fn a_hook_that_fails_keeps_its_cycle_from_ending_and_no_other() {
    let (scheduler, ledger, _) = with_ledger().await;
    for subject in ["1", "2", "3"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
    }
    ledger.refuse("2");
    let claims = scheduler.claim_due(ask(3, 3)).await.unwrap();
    let verdict = |claim: &retry_scheduler::Claimed| match claim.cycle.key.subject.as_str() {
        "3" => Verdict::Failure,
        _ => Verdict::Success,
    };
    let reports: Vec<_> =
        claims.iter().map(|claim| (claim.clone(), report(verdict(claim), "said"))).collect();
    let answers = scheduler.finish_many(reports.clone()).await.unwrap();
    for ((claim, _), answer) in reports.iter().zip(&answers) {
        match claim.cycle.key.subject.as_str() {
            "2" => assert_eq!(answer.as_ref().unwrap_err().kind(), SchedulerErrorKind::HookFailed),
            _ => assert!(matches!(answer, Ok(Finished::Recorded(_)))),
        }
    }
    // As if nothing had been said of it.
    let claim = claims.iter().find(|claim| claim.cycle.key.subject == "2").unwrap();
    assert_eq!(scheduler.get(&key("2")).await.unwrap().as_ref(), Some(&claim.cycle));
    assert!(scheduler.attempts(&key("2"), 0, 10).await.unwrap().is_empty());
    assert_eq!(written(&scheduler).await, [entry("1", EndReason::Succeeded)]);
    // So it can be said again.
    ledger.refuse_none();
    let again = scheduler.finish(claim, report(Verdict::Success, "again")).await.unwrap();
    assert!(matches!(again, Finished::Recorded(_)));
    let both = [entry("1", EndReason::Succeeded), entry("2", EndReason::Succeeded)];
    assert_eq!(written(&scheduler).await, both);
}

#[tokio::test]
async fn a_cycle_that_is_too_late_and_whose_hook_fails_is_set_aside() {
    let (scheduler, ledger, clock) = with_ledger().await;
    let last_start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let plan = Plan::every(LEASE, 3).unwrap().deadline(last_start);
    scheduler.schedule(NewCycle::new(key("late"), plan)).await.unwrap();
    scheduler.schedule(new("beside", "tenant")).await.unwrap();
    clock.advance(Duration::from_secs(1));
    ledger.refuse("late");
    let claims = scheduler.claim_due(ask(10, 10)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| &claim.cycle.key).collect::<Vec<_>>(), [&key("beside")]);
    let aside: Vec<_> = claims.unreadable.iter().map(|one| (one.key.clone(), one.error.kind())).collect();
    assert_eq!(aside, [(Some(key("late")), SchedulerErrorKind::HookFailed)]);
    assert!(scheduler.claim_due(ask(10, 10)).await.unwrap().unreadable.is_empty());
    assert_eq!(scheduler.get(&key("late")).await.unwrap().unwrap().ending(), None);
    ledger.refuse_none();
    clock.advance(Duration::from_secs(11));
    assert!(scheduler.claim_due(ask(10, 10)).await.unwrap().unreadable.is_empty());
    assert_eq!(written(&scheduler).await, [entry("late", EndReason::TooLate)]);
}

#[tokio::test]
async fn a_cancel_whose_hook_fails_fails_and_changes_nothing() {
    let (scheduler, ledger, _) = with_ledger().await;
    for subject in ["1", "2", "3"] {
        scheduler.schedule(new(subject, "tenant")).await.unwrap();
    }
    ledger.refuse("2");
    let before = scheduler.get(&key("2")).await.unwrap();
    let refused = scheduler.cancel(&key("2")).await.unwrap_err();
    assert_eq!(refused.kind(), SchedulerErrorKind::HookFailed);
    let changed = scheduler.cancel_many(&CycleFilter::new(CycleClass::Due), 10).await.unwrap();
    assert_eq!(changed.changed, 2);
    let failed: Vec<_> = changed.failed.iter().map(|one| one.key.clone()).collect();
    assert_eq!(failed, [Some(key("2"))]);
    assert_eq!(scheduler.get(&key("2")).await.unwrap(), before);
    // In the caller's transaction too, which can go on with other things.
    let mut transaction = scheduler.pool().begin().await.unwrap();
    assert!(scheduler.cancel_in(&mut transaction, &key("2")).await.is_err());
    transaction.commit().await.unwrap();
    assert_eq!(scheduler.get(&key("2")).await.unwrap(), before);
    ledger.refuse_none();
    assert!(matches!(scheduler.cancel(&key("2")).await.unwrap(), Cancelled::Cancelled(_)));
    let keys: Vec<_> = written(&scheduler).await.into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(keys, ["1", "3", "2"]);
}

#[tokio::test]
async fn a_cycle_that_has_no_time_is_told_of_when_it_is_scheduled() {
    let (scheduler, ledger, _) = with_ledger().await;
    let plan = Plan::every(LEASE, 3).unwrap().deadline(SystemTime::UNIX_EPOCH);
    let late = NewCycle::new(CycleKey::new("test", "late"), plan);
    ledger.refuse("late");
    let refused = scheduler.schedule(late.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), SchedulerErrorKind::HookFailed);
    assert_eq!(scheduler.get(&late.key).await.unwrap(), None);
    ledger.refuse_none();
    scheduler.schedule(late).await.unwrap();
    assert_eq!(written(&scheduler).await, [entry("late", EndReason::TooLate)]);
}
