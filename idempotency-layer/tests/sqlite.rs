//! Records in an SQLite file: correct by the kit, and what only this store has to get right.

#[path = "sqlite/file.rs"]
mod file;
#[path = "sqlite/load.rs"]
mod load;
#[path = "sqlite/support.rs"]
mod support;

use std::time::Duration;

use idempotency_layer::conformance::{Harness, check_purge, check_transactions};
use idempotency_layer::{Layered, SqliteStore};

use self::support::Folder;

/// Processes with one file: each has its own connections.
struct Processes(Folder);

impl Harness for Processes {
    type Store = SqliteStore;

    async fn store(&self) -> SqliteStore {
        self.0.store().await
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }

    fn rounds(&self) -> usize {
        40
    }
}

/// The same, each with a memory of its own.
struct LayeredProcesses(Processes);

impl Harness for LayeredProcesses {
    type Store = Layered<SqliteStore>;

    async fn store(&self) -> Self::Store {
        Layered::new(self.0.store().await, 64 * 1024 * 1024)
    }

    fn unit(&self) -> Duration {
        self.0.unit()
    }

    fn rounds(&self) -> usize {
        self.0.rounds()
    }
}

/// One process without a file.
struct InMemory(SqliteStore);

impl InMemory {
    async fn new() -> Self {
        Self(SqliteStore::open("sqlite::memory:").await.expect("a database"))
    }
}

impl Harness for InMemory {
    type Store = SqliteStore;

    async fn store(&self) -> SqliteStore {
        self.0.clone()
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(400)
    }

    fn rounds(&self) -> usize {
        40
    }
}

mod processes_on_one_file {
    use super::{Folder, Processes};

    idempotency_layer::conformance_tests!(Processes(Folder::new()));
}

mod layered_processes_on_one_file {
    use super::{Folder, LayeredProcesses, Processes};

    idempotency_layer::conformance_tests!(LayeredProcesses(Processes(Folder::new())));
}

mod a_database_in_memory {
    use super::InMemory;

    idempotency_layer::conformance_tests!(InMemory::new().await);
}

#[tokio::test]
async fn a_purge_drops_what_expired_and_no_more() {
    check_purge(&Processes(Folder::new())).await;
    check_purge(&InMemory::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_is_a_claim() {
    check_transactions(&Processes(Folder::new())).await;
    check_transactions(&LayeredProcesses(Processes(Folder::new()))).await;
    check_transactions(&InMemory::new().await).await;
}
