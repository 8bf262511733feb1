//! Verbs in the caller's transaction: clauses 27 to 31.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::TransactionalHarness;
use super::probe::{INTERVAL, LEASE, Probe, ask, counts, report};
use crate::claim::Namespaces;
use crate::cycle::{EndReason, Ending, NewCycle, Reschedule, Verdict};
use crate::scheduler::{Cancelled, Finished, Rescheduled, RetryScheduler, Scheduled, TransactionalScheduler};

/// How long a verb beside an open transaction is given to show that it does not wait.
const A_WHILE: Duration = Duration::from_millis(30);

pub(super) async fn commit<H: TransactionalHarness>(probe: &Probe<'_, H>) {
    let run = Run::prepare(probe).await;
    let mut transaction = probe.harness.begin().await;
    run.all_verbs(probe, &mut transaction).await;
    probe.harness.commit(transaction).await;

    let cycle = probe.known(&run.new.key).await;
    probe.is_idle(&cycle, probe.now() + INTERVAL, "after a schedule_in, a reschedule_in and the commit");
    let cycle = probe.known(&run.to_cancel.key).await;
    probe.is_ended(&cycle, EndReason::Cancelled, "after a cancel_in and the commit");
    let cycle = probe.known(&run.claim.cycle.key).await;
    probe.is_idle(&cycle, probe.now() + INTERVAL, "after a finish_in and the commit");
    probe.same(&counts(&cycle), &(1, 1, 0, 0), "what is counted after a finish_in and the commit");
    probe.same(
        &probe.attempts(&cycle.key).await.len(),
        &1,
        "the number of attempts after a finish_in and the commit",
    );
    probe.none_due("of cycles that are due later").await;
    probe.advance(INTERVAL);
    let claims = probe.all_due().await;
    probe.same(&claims.len(), &2, "the number of due cycles after the commit");
    let claim = claims.iter().find(|claim| claim.cycle.key == run.new.key);
    let payload = claim.map(|claim| claim.payload.clone());
    probe.same(&payload, &Some(run.new.payload), "the payload after a schedule_in and the commit");
}

pub(super) async fn rollback<H: TransactionalHarness>(probe: &Probe<'_, H>) {
    for dropped in [false, true] {
        probe.clear().await;
        let run = Run::prepare(probe).await;
        let mut transaction = probe.harness.begin().await;
        run.all_verbs(probe, &mut transaction).await;
        if dropped {
            drop(transaction);
        } else {
            probe.harness.roll_back(transaction).await;
        }
        probe.same(&probe.get(&run.new.key).await, &None, "a cycle whose schedule_in was rolled back");
        let idle = probe.known(&run.to_cancel.key).await;
        probe.is_idle(&idle, probe.now() + LEASE, "whose cancel_in was rolled back");
        probe.is(&run.claim.cycle, "when its finish_in was rolled back").await;
        let attempts = probe.attempts(&run.claim.cycle.key).await;
        probe.same(&attempts, &Vec::new(), "the list of attempts when a finish_in was rolled back");
        // All of it can be done again.
        let _ = probe.recorded(&run.claim, Verdict::Success, "when a finish_in was rolled back").await;
        probe.schedule(&run.new).await;
        let claim = probe
            .claim(&run.new.key, "when its schedule_in was rolled back, and it was scheduled again")
            .await;
        probe.same(&claim.payload, &run.new.payload, "the payload when a schedule_in was rolled back");
        probe.advance(LEASE);
        probe.same(
            &probe.all_due().await.len(),
            &2,
            "the number of due cycles when a cancel_in was rolled back",
        );
    }
}

pub(super) async fn not_before<H: TransactionalHarness>(probe: &Probe<'_, H>) {
    for commits in [true, false] {
        probe.clear().await;
        let new = probe.new_cycle();
        let mut transaction = probe.harness.begin().await;
        schedule_in(probe, &mut transaction, &new).await;
        // They are shown nothing, or wait: a database with one writer may have room for one only.
        let (scheduler, key) = (probe.handle(), new.key.clone());
        let shown = tokio::spawn(async move { scheduler.get(&key).await });
        let scheduler = probe.handle();
        let given = tokio::spawn(async move { scheduler.claim_due(ask(10, LEASE)).await });
        let scheduler = probe.handle();
        let wake = tokio::spawn(async move { scheduler.next_wake(&Namespaces::All).await });
        tokio::time::sleep(A_WHILE).await;
        if shown.is_finished() {
            let seen = probe.unfailing(over(shown).await, "get");
            probe.same(&seen, &None, "a cycle before the commit of its schedule_in");
        }
        if wake.is_finished() {
            let seen = probe.unfailing(over(wake).await, "next_wake");
            probe.same(&seen, &None, "next_wake before the commit of a schedule_in");
        }
        let early = given.is_finished();
        if commits {
            probe.harness.commit(transaction).await;
        } else {
            probe.harness.roll_back(transaction).await;
        }
        let given = probe.unfailing(over(given).await, "claim_due");
        if early || !commits {
            probe.ensure(
                given.is_empty(),
                format_args!("claim_due beside an open schedule_in gave {given:?}"),
            );
        }
        let count = given.len() + probe.all_due().await.len();
        probe.same(
            &count,
            &usize::from(commits),
            format_args!("how often it is given, with commit: {commits},"),
        );
    }
}

pub(super) async fn first_commit_wins<H: TransactionalHarness>(probe: &Probe<'_, H>) {
    for round in 0..8 {
        let (commits, changes) = (round % 2 == 0, round / 2 % 2 == 1);
        probe.clear().await;
        let new = probe.new_cycle();
        let claim = probe.claimed(&new).await;
        let mut transaction = probe.harness.begin().await;
        let scheduler = probe.handle();
        if changes {
            let change = Reschedule::new(new.plan.clone()).next_in(INTERVAL);
            let answer = scheduler.reschedule_in(&mut transaction, &new.key, change).await;
            let answer = probe.unfailing(answer, "reschedule_in");
            let good = matches!(answer, Rescheduled::Changed(_));
            probe.ensure(good, format_args!("reschedule_in of a running attempt was {answer:?}"));
        } else {
            let answer = probe.unfailing(scheduler.cancel_in(&mut transaction, &new.key).await, "cancel_in");
            let good = matches!(answer, Cancelled::Cancelled(_));
            probe.ensure(good, format_args!("cancel_in of a running attempt was {answer:?}"));
        }
        let (scheduler, late) = (probe.handle(), claim.clone());
        let report = tokio::spawn(async move { scheduler.finish(&late, report(Verdict::Success)).await });
        tokio::time::sleep(A_WHILE).await;
        probe.ensure(
            !report.is_finished(),
            "a report did not wait for a transaction that had changed its cycle",
        );
        if commits {
            probe.harness.commit(transaction).await;
        } else {
            probe.harness.roll_back(transaction).await;
        }
        let report = probe.unfailing(over(report).await, "finish");
        let (attempts, cycle) = (probe.attempts(&new.key).await.len(), probe.known(&new.key).await);
        if commits {
            probe.same(&report, &Finished::Stale, "the report after the commit of what came first");
            probe.same(&attempts, &0, "the number of attempts after the commit of what came first");
            if changes {
                probe.is_idle(&cycle, probe.now() + INTERVAL, "after the commit of what came first");
            } else {
                probe.is_ended(&cycle, EndReason::Cancelled, "after the commit of what came first");
            }
        } else {
            probe.same(&report, &Finished::Recorded(cycle.clone()), "the report after a rollback");
            probe.same(&attempts, &1, "the number of attempts after a rollback");
            probe.is_ended(&cycle, EndReason::Succeeded, "after a rollback");
        }
    }
}

pub(super) async fn stale_report<H: TransactionalHarness>(probe: &Probe<'_, H>) {
    let new = probe.new_cycle();
    let old = probe.claimed(&new).await;
    probe.advance(LEASE);
    let heir = probe.claim(&new.key, "when the lease is over").await;

    let beside = NewCycle { first_in: INTERVAL, ..probe.new_cycle() };
    let mut transaction = probe.harness.begin().await;
    schedule_in(probe, &mut transaction, &beside).await;
    let answer = probe.handle().finish_in(&mut transaction, &old, report(Verdict::Success)).await;
    let answer = probe.unfailing(answer, "finish_in");
    probe.same(&answer, &Finished::Stale, "finish_in of a claim that was taken over");
    let seen = probe.unfailing(probe.handle().get_in(&mut transaction, &new.key).await, "get_in");
    probe.same(&seen.as_ref(), &Some(&heir.cycle), "the cycle after a stale finish_in");
    probe.harness.roll_back(transaction).await;
    probe.same(&probe.get(&beside.key).await, &None, "a cycle scheduled beside a stale report");
    probe.is(&heir.cycle, "after a stale report that was rolled back").await;

    // And where it is not rolled back, it has changed nothing either.
    let mut transaction = probe.harness.begin().await;
    let answer = probe.handle().finish_in(&mut transaction, &old, report(Verdict::Success)).await;
    probe.same(&probe.unfailing(answer, "finish_in"), &Finished::Stale, "finish_in again");
    probe.harness.commit(transaction).await;
    probe.is(&heir.cycle, "after a stale report that was committed").await;
    probe.same(&probe.attempts(&new.key).await, &Vec::new(), "the list of attempts after a stale report");
    let _ = probe.recorded(&heir, Verdict::Success, "by the heir").await;
}

/// What the verbs of a transaction have at hand: a cycle to begin, one that is idle, one that is being attempted.
struct Run {
    new: NewCycle,
    to_cancel: crate::Cycle,
    claim: crate::Claimed,
}

impl Run {
    async fn prepare<H: TransactionalHarness>(probe: &Probe<'_, H>) -> Self {
        let claim = probe.claimed(&probe.new_cycle()).await;
        let idle = NewCycle { first_in: LEASE, ..probe.new_cycle() };
        let to_cancel = probe.schedule(&idle).await;
        let new = probe.new_cycle();
        probe.note(&new.key);
        Self { new, to_cancel, claim }
    }

    /// Each verb once, and each is seen by those after it.
    async fn all_verbs<H: TransactionalHarness>(&self, probe: &Probe<'_, H>, connection: &mut H::Connection) {
        let scheduler: Arc<H::Scheduler> = probe.handle();
        let Self { new, to_cancel, claim } = self;
        let seen = probe.unfailing(scheduler.get_in(connection, &new.key).await, "get_in");
        probe.same(&seen, &None, "an unknown cycle in a transaction");
        schedule_in(probe, connection, new).await;
        let again = probe.unfailing(scheduler.schedule_in(connection, new.clone()).await, "schedule_in");
        let exists = matches!(again, Scheduled::Exists(_));
        probe.ensure(exists, format_args!("schedule_in for the second time was {again:?}, not Exists"));
        let change = Reschedule::new(new.plan.clone()).next_in(INTERVAL);
        let answer = scheduler.reschedule_in(connection, &new.key, change).await;
        let answer = probe.unfailing(answer, "reschedule_in");
        let Rescheduled::Changed(cycle) = answer else {
            probe.fail(format_args!("reschedule_in of what was scheduled before was {answer:?}"))
        };
        let seen = probe.unfailing(scheduler.get_in(connection, &new.key).await, "get_in");
        probe.same(&seen, &Some(cycle), "a cycle in the transaction that rescheduled it");

        let answer = probe.unfailing(scheduler.cancel_in(connection, &to_cancel.key).await, "cancel_in");
        let good = matches!(answer, Cancelled::Cancelled(_));
        probe.ensure(good, format_args!("cancel_in of an idle cycle was {answer:?}"));
        let answer = probe.unfailing(scheduler.cancel_in(connection, &to_cancel.key).await, "cancel_in");
        probe.same(&answer, &Cancelled::Ended(Ending::Cancelled), "cancel_in for the second time");

        let answer = scheduler.finish_in(connection, claim, report(Verdict::Failure)).await;
        let answer = probe.unfailing(answer, "finish_in");
        let Finished::Recorded(cycle) = answer else {
            probe.fail(format_args!("finish_in of a running attempt was {answer:?}"))
        };
        let seen = probe.unfailing(scheduler.get_in(connection, &cycle.key).await, "get_in");
        let number = cycle.attempts;
        probe.same(&seen, &Some(cycle), "a cycle in the transaction that finished its attempt");
        let attempts = scheduler.attempts_in(connection, &claim.cycle.key, 0, usize::MAX).await;
        let numbers: Vec<_> =
            probe.unfailing(attempts, "attempts_in").iter().map(|attempt| attempt.number).collect();
        let recorded = (1..=number).collect();
        probe.same(&numbers, &recorded, "the attempts in the transaction that recorded the last one");
        let answer = scheduler.finish_in(connection, claim, report(Verdict::Failure)).await;
        probe.same(&probe.unfailing(answer, "finish_in"), &Finished::Stale, "finish_in for the second time");
    }
}

async fn schedule_in<H: TransactionalHarness>(
    probe: &Probe<'_, H>,
    connection: &mut H::Connection,
    new: &NewCycle,
) {
    probe.note(&new.key);
    let answer = probe.unfailing(probe.handle().schedule_in(connection, new.clone()).await, "schedule_in");
    let good = matches!(answer, Scheduled::New(_));
    probe.ensure(good, format_args!("schedule_in under an unknown key was {answer:?}, not New"));
}

async fn over<T>(task: JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))
}
