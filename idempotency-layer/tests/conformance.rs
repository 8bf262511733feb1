//! The conformance kit: the stores of this crate pass it, and a store with a fault fails the check of its clause.

#[path = "conformance/faults.rs"]
mod faults;
#[path = "conformance/remote.rs"]
mod remote;
#[path = "conformance/wrong_response.rs"]
mod wrong_response;
#[path = "conformance/wrong_store.rs"]
mod wrong_store;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use idempotency_layer::conformance::{Clause, Harness, TransactionClause, check_purge};
use idempotency_layer::{AnyStore, MemoryStore, Store};

use self::faults::{FAULTS, Fault, PURGE_FAULTS, PurgeFault};
use self::remote::Remote;
use self::wrong_store::WrongStore;

/// A store on tokio's paused clock.
struct Paused<S>(S);

impl<S: Store + Clone> Harness for Paused<S> {
    type Store = S;

    async fn store(&self) -> S {
        self.0.clone()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}

/// The same on several threads, where tokio cannot pause the clock.
struct Threads<S>(S);

impl<S: Store + Clone> Harness for Threads<S> {
    type Store = S;

    async fn store(&self) -> S {
        self.0.clone()
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }

    fn rounds(&self) -> usize {
        400
    }
}

fn shared() -> Arc<MemoryStore> {
    Arc::default()
}

fn erased() -> AnyStore {
    AnyStore::new(MemoryStore::default())
}

mod memory_store_on_a_paused_clock {
    use super::{Paused, shared};

    idempotency_layer::conformance_tests!(Paused(shared()), flavor = "current_thread", start_paused = true);
}

mod memory_store_on_threads {
    use super::{Threads, shared};

    idempotency_layer::conformance_tests!(Threads(shared()));
}

mod any_store_on_a_paused_clock {
    use super::{Paused, erased};

    idempotency_layer::conformance_tests!(Paused(erased()), flavor = "current_thread", start_paused = true);
}

mod any_store_on_threads {
    use super::{Threads, erased};

    idempotency_layer::conformance_tests!(Threads(erased()), flavor = "multi_thread", worker_threads = 8);
}

mod remote_store_on_a_paused_clock {
    use super::{Paused, Remote};

    idempotency_layer::conformance_tests!(
        Paused(Remote::default()),
        flavor = "current_thread",
        start_paused = true
    );
}

mod remote_store_on_threads {
    use super::{Remote, Threads};

    idempotency_layer::conformance_tests!(Threads(Remote::default()));
}

#[tokio::test(start_paused = true)]
async fn memory_store_purges_what_expired_and_no_more() {
    check_purge(&Paused(Remote::default())).await;
}

/// Handles of a store with a fault. One round of a race is enough, because there is one thread.
struct Wrong(WrongStore);

impl Harness for Wrong {
    type Store = WrongStore;

    async fn store(&self) -> WrongStore {
        self.0.handle()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    fn rounds(&self) -> usize {
        20
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_without_a_fault_passes() {
    for clause in Clause::ALL {
        clause.check(&Wrong(WrongStore::new(Fault::None))).await;
    }
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
    for clause in Clause::ALL {
        let has_one = FAULTS.iter().any(|(_, fails)| fails[0] == clause.number());
        assert!(has_one, "no fault is meant for {clause}");
    }
}

/// Returns the clauses that a store with this fault fails.
fn failing(fault: Fault) -> BTreeSet<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let mut failed = BTreeSet::new();
    for clause in Clause::ALL {
        let harness = Wrong(WrongStore::new(fault));
        let check = AssertUnwindSafe(clause.check(&harness)).catch_unwind();
        if let Err(panic) = runtime.block_on(check) {
            let message = message(&*panic);
            let names_it =
                message.starts_with(&format!("clause {}, {}\n  But ", clause.number(), clause.sentence()));
            assert!(names_it, "{fault:?} panicked with {message}");
            failed.insert(clause.number());
        }
    }
    failed
}

fn message(panic: &dyn Any) -> &str {
    panic.downcast_ref::<String>().map_or("no text", String::as_str)
}

/// If there is no await between the two steps, only another thread can come between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn threads_find_the_gap_between_two_locks() {
    let harness = Threads(Arc::new(WrongStore::new(Fault::TwoLocksToClaim)));
    let check = AssertUnwindSafe(Clause::OneRunner.check(&harness)).catch_unwind();
    let panic = check.await.expect_err("two claims ran, unseen");
    assert!(message(&*panic).starts_with("clause 2, "), "{}", message(&*panic));
}

#[tokio::test(start_paused = true)]
async fn a_purge_with_a_fault_fails() {
    for fault in PURGE_FAULTS {
        let store = Wrong(WrongStore::purging(fault));
        let check = AssertUnwindSafe(check_purge(&store)).catch_unwind().await;
        assert_eq!(check.is_err(), fault != PurgeFault::None, "{fault:?}");
        if let Err(panic) = check {
            assert!(message(&*panic).starts_with("Purge. "), "{fault:?} panicked with {}", message(&*panic));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_fails_every_clause() {
    for clause in Clause::ALL {
        let harness = Paused(Arc::new(MemoryStore::new(0)));
        let check = AssertUnwindSafe(clause.check(&harness)).catch_unwind().await;
        let panic = check.expect_err("nothing was asked of the store");
        assert!(message(&*panic).contains("failed: StoreError"), "{}", message(&*panic));
    }
}

#[test]
fn the_sentences_of_transactions_are_those_of_their_contract() {
    let source = include_str!("../src/store/transactional.rs");
    let contract = source.split("# The contract").nth(1).unwrap().split("# Errors").next().unwrap();
    let contract =
        contract.lines().map(|line| line.trim_start_matches("///").trim()).collect::<Vec<_>>().join(" ");
    let contract = contract.replace(['`', '*'], "");
    for clause in TransactionClause::ALL {
        let numbered = format!(" {}. {} ", clause.number(), clause.sentence());
        assert!(contract.contains(&numbered), "the contract does not say:{numbered}");
    }
}

/// The sentences of the kit are those of the trait's documentation.
#[test]
fn the_sentences_are_those_of_the_contract() {
    let source = include_str!("../src/store.rs");
    let contract = source.split("# The contract").nth(1).unwrap().split("# Errors").next().unwrap();
    let contract =
        contract.lines().map(|line| line.trim_start_matches("///").trim()).collect::<Vec<_>>().join(" ");
    let contract = contract.replace("(Fingerprint::matches)", "").replace(['`', '*', '[', ']'], "");
    for clause in Clause::ALL {
        let numbered = format!(" {}. {} ", clause.number(), clause.sentence());
        assert!(contract.contains(&numbered), "the contract does not say:{numbered}");
    }
    assert!(!contract.contains(&format!(" {}. ", Clause::ALL.len() + 1)), "a clause without a check");
}
