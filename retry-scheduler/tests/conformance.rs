//! The conformance kit: the scheduler in memory passes it, and a scheduler with a fault fails the test of its clause.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "conformance/faults.rs"]
mod faults;
#[path = "known_faults/mod.rs"]
mod known_faults;
#[path = "conformance/wrong.rs"]
mod wrong;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use retry_scheduler::conformance::{
    AdminClause, Clause, Harness, TransactionClause, TransactionalHarness, clock,
};
use retry_scheduler::{Cycle, CycleKey, EndReason, ManualClock, MemoryScheduler};
use tokio::runtime::{Builder, Runtime};

use self::faults::{FAULTS, Fault};
use self::wrong::{Connection, Transaction, Wrong};

/// The scheduler in memory, on a clock that the kit moves.
struct Memory(Arc<MemoryScheduler>, ManualClock, Endings);

type Endings = Arc<Mutex<Vec<(CycleKey, EndReason)>>>;

impl Memory {
    fn new() -> Self {
        Self::of(MemoryScheduler::default())
    }

    fn of(scheduler: MemoryScheduler) -> Self {
        let (clock, endings) = (clock(), Endings::default());
        let told = endings.clone();
        let scheduler = scheduler.with_clock(clock.clone()).on_ended(move |cycle, reason| {
            told.lock().unwrap().push((cycle.key.clone(), reason));
        });
        Self(Arc::new(scheduler), clock, endings)
    }
}

impl Harness for Memory {
    type Scheduler = Arc<MemoryScheduler>;

    async fn scheduler(&self) -> Self::Scheduler {
        self.0.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.1
    }

    fn rounds(&self) -> usize {
        400
    }

    fn endings(&self) -> Option<Vec<(CycleKey, EndReason)>> {
        Some(self.2.lock().unwrap().clone())
    }
}

mod memory_on_one_thread {
    use super::Memory;

    retry_scheduler::conformance_tests!(Memory::new(), flavor = "current_thread");
    retry_scheduler::admin_conformance_tests!(Memory::new(), flavor = "current_thread");
}

mod memory_on_threads {
    use super::Memory;

    retry_scheduler::conformance_tests!(Memory::new(), flavor = "multi_thread", worker_threads = 8);
    retry_scheduler::admin_conformance_tests!(Memory::new(), flavor = "multi_thread", worker_threads = 8);
}

mod memory_has_no_known_fault {
    use super::Memory;

    crate::known_faults!(Memory::new());
}

/// Handles of a scheduler with a fault; each round of a race counts, as there is one thread only.
struct Faulty(Wrong, ManualClock);

impl Faulty {
    fn new(fault: Fault) -> Self {
        let clock = clock();
        Self(Wrong::new(fault, &clock), clock)
    }
}

impl Harness for Faulty {
    type Scheduler = Wrong;

    async fn scheduler(&self) -> Wrong {
        self.0.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.1
    }

    fn rounds(&self) -> usize {
        12
    }

    fn crowd(&self) -> usize {
        300
    }

    async fn spoil(&self, key: &CycleKey) -> bool {
        self.0.set_spoilt(key, true).await;
        true
    }

    async fn mend(&self, key: &CycleKey) {
        self.0.set_spoilt(key, false).await;
    }

    async fn restore(&self, before: &Cycle) -> bool {
        self.0.restore(before).await;
        true
    }

    fn endings(&self) -> Option<Vec<(CycleKey, EndReason)>> {
        Some(self.0.endings())
    }
}

impl TransactionalHarness for Faulty {
    type Connection = Connection;
    type Transaction = Transaction;

    async fn begin(&self) -> Transaction {
        Transaction::begin(&self.0).await
    }

    async fn commit(&self, transaction: Transaction) {
        transaction.commit();
    }

    async fn roll_back(&self, transaction: Transaction) {
        drop(transaction);
    }
}

mod a_scheduler_without_a_fault {
    use super::{Fault, Faulty};

    retry_scheduler::conformance_tests!(Faulty::new(Fault::None), flavor = "current_thread");
    retry_scheduler::admin_conformance_tests!(Faulty::new(Fault::None), flavor = "current_thread");
    retry_scheduler::transactional_conformance_tests!(Faulty::new(Fault::None), flavor = "current_thread");
}

#[test]
fn a_fault_fails_its_clause_and_spares_the_others() {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let take_some = || {
        while let Some((fault, wanted)) = FAULTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seen = failing(*fault);
            if seen != wanted.iter().copied().collect() {
                wrong.lock().unwrap().push(format!("{fault:?} fails {seen:?} instead of {wanted:?}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(take_some);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let clauses = Clause::ALL.iter().map(|clause| clause.number());
    let clauses = clauses.chain(TransactionClause::ALL.iter().map(|clause| clause.number()));
    for clause in clauses.chain(AdminClause::ALL.iter().map(|clause| clause.number())) {
        let has_one = FAULTS.iter().any(|(_, fails)| fails[0] == clause);
        assert!(has_one, "no fault is meant for clause {clause}");
    }
}

/// The clauses that a scheduler with this fault fails.
fn failing(fault: Fault) -> BTreeSet<u8> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let mut failed = BTreeSet::new();
    for clause in Clause::ALL {
        let harness = Faulty::new(fault);
        if fails(&runtime, clause.check(&harness), &clause.to_string(), fault) {
            failed.insert(clause.number());
        }
    }
    for clause in TransactionClause::ALL {
        let harness = Faulty::new(fault);
        if fails(&runtime, clause.check(&harness), &clause.to_string(), fault) {
            failed.insert(clause.number());
        }
    }
    for clause in AdminClause::ALL {
        let harness = Faulty::new(fault);
        if fails(&runtime, clause.check(&harness), &clause.to_string(), fault) {
            failed.insert(clause.number());
        }
    }
    failed
}

fn fails(runtime: &Runtime, check: impl Future<Output = ()>, rule: &str, fault: Fault) -> bool {
    let run = AssertUnwindSafe(|| runtime.block_on(check));
    let Err(panic) = std::panic::catch_unwind(run) else { return false };
    let message = message(&*panic);
    assert!(message.starts_with(&format!("{rule}\n  But ")), "{fault:?} panicked with {message}");
    true
}

fn message(panic: &dyn Any) -> &str {
    panic.downcast_ref::<String>().map_or("no text", String::as_str)
}

#[test]
fn a_scheduler_that_fails_fails_every_clause() {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    for clause in Clause::ALL {
        let harness = Memory::of(MemoryScheduler::new(0));
        let run = AssertUnwindSafe(|| runtime.block_on(clause.check(&harness)));
        let panic = std::panic::catch_unwind(run).expect_err("nothing was asked of the scheduler");
        assert!(message(&*panic).contains("failed: SchedulerError"), "{}", message(&*panic));
    }
}

fn strip_links(text: &str) -> String {
    let mut parts = text.split("](crate::");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "]" + part.split_once(')').map_or(part, |(_, rest)| rest))
}

/// The kit quotes the traits' documentation.
#[test]
fn the_sentences_are_those_of_the_contract() {
    let source = concat!(include_str!("../src/scheduler.rs"), include_str!("../src/admin.rs"));
    let numbers =
        source.lines().map(|line| line.trim_start_matches("///").trim()).collect::<Vec<_>>().join(" ");
    let contract = strip_links(&numbers).replace(['`', '*', '[', ']'], "");
    let clauses = Clause::ALL.iter().map(|clause| (clause.number(), clause.sentence()));
    let transactions = TransactionClause::ALL.iter().map(|clause| (clause.number(), clause.sentence()));
    let admin = AdminClause::ALL.iter().map(|clause| (clause.number(), clause.sentence()));
    let mut all: Vec<_> = clauses.chain(transactions).chain(admin).collect();
    all.sort_unstable();
    let mut count = 0;
    for (number, sentence) in all {
        count += 1;
        assert_eq!(number, count);
        assert!(
            !sentence.is_empty() && contract.contains(&format!(" {number}. {sentence} ")),
            "{number}. {sentence}"
        );
    }
    assert!(!contract.contains(&format!(" {}. ", count + 1)), "a clause without a check");
}
