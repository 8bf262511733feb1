//! `PostgresStore`: correct by the kit, as several processes on one database, what it costs, and how it bears a database
//! that is slow, locked or gone.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "postgres/costs.rs"]
mod costs;
#[path = "postgres/crowds.rs"]
mod crowds;
#[path = "postgres/locked.rs"]
mod locked;
#[path = "postgres/outage.rs"]
mod outage;
#[path = "postgres/refused.rs"]
mod refused;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/support.rs"]
mod support;
#[path = "postgres/transactions.rs"]
mod transactions;

use std::time::Duration;

use idempotency_layer::PostgresStore;
use idempotency_layer::conformance::{Harness, check_purge, check_transactions};

use self::support::{fresh, store};

/// Each handle has a pool and a connection of its own, as another process has.
struct Processes(String);

impl Harness for Processes {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        store(&self.0)
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }
}

mod several_processes {
    use super::{Processes, fresh};

    idempotency_layer::conformance_tests!(Processes(fresh().await));
}

/// Handles of one process, whose verbs meet in one batch.
struct OneProcess(PostgresStore);

impl Harness for OneProcess {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        self.0.clone()
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }
}

mod one_process {
    use super::{OneProcess, fresh, store};

    idempotency_layer::conformance_tests!(OneProcess(store(&fresh().await)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_purges_what_expired_and_no_more() {
    check_purge(&Processes(fresh().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_is_a_claim() {
    check_transactions(&Processes(fresh().await)).await;
    check_transactions(&OneProcess(store(&fresh().await))).await;
}
