//! The scheduler in PostgreSQL: each handle has connections of its own, as processes on one server have.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "postgres/claims.rs"]
mod claims;
#[path = "postgres/crash.rs"]
mod crash;
#[path = "known_faults/mod.rs"]
mod known_faults;
#[path = "postgres/locks.rs"]
mod locks;
#[path = "model/mod.rs"]
mod model;
#[path = "postgres/statements.rs"]
mod statements;

use std::time::{Duration, SystemTime};

use private_postgres::shared_database;
use proptest::prelude::*;
use retry_scheduler::conformance::{Harness, TransactionalHarness, clock};
use retry_scheduler::{Cycle, ManualClock, PostgresScheduler};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

known_faults!(OnServer::new().await);

/// A database of the test's own, with the tables made.
struct Database {
    url: String,
    pool: PgPool,
}

impl Database {
    async fn new() -> Self {
        let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
        let pool = pool(&url);
        PostgresScheduler::new(pool.clone()).migrate().await.unwrap();
        Self { url, pool }
    }

    /// A handle as another process would have it.
    fn open(&self) -> PostgresScheduler {
        PostgresScheduler::new(pool(&self.url))
    }
}

fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(4).test_before_acquire(false).connect_lazy(url).unwrap()
}

struct OnServer {
    database: Database,
    clock: ManualClock,
}

impl OnServer {
    async fn new() -> Self {
        Self { database: Database::new().await, clock: clock() }
    }
}

impl model::Operated for PostgresScheduler {
    async fn set_paused(&self, _: &str, _: bool) -> bool {
        false
    }

    async fn restore(&self, _: &Cycle) -> bool {
        false
    }
}

impl Harness for OnServer {
    type Scheduler = PostgresScheduler;

    async fn scheduler(&self) -> PostgresScheduler {
        self.database.open().with_clock(self.clock.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl TransactionalHarness for OnServer {
    type Connection = PgConnection;
    type Transaction = Transaction<'static, Postgres>;

    async fn begin(&self) -> Self::Transaction {
        self.database.pool.begin().await.unwrap()
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn roll_back(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }
}

mod processes {
    use super::OnServer;

    retry_scheduler::conformance_tests!(OnServer::new().await);
    retry_scheduler::transactional_conformance_tests!(OnServer::new().await);
}

#[test]
fn whatever_happens_a_cycle_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(Database::new());
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let _runtime = runtime.enter();
    let [one, two] = [database.open(), database.open()].map(|scheduler| scheduler.with_clock(clock.clone()));
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in model::steps())| {
        runtime.block_on(model::run([one.clone(), two.clone()], &clock, steps));
    });
}
