//! The scheduler in PostgreSQL: each handle has connections of its own, as processes on one server have.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "postgres/admin.rs"]
mod admin;
#[path = "postgres/claims.rs"]
mod claims;
#[path = "postgres/crash.rs"]
mod crash;
#[path = "postgres/endings.rs"]
mod endings;
#[path = "first_version/mod.rs"]
mod first_version;
#[path = "postgres/groups.rs"]
mod groups;
#[path = "known_faults/mod.rs"]
mod known_faults;
#[path = "postgres/locks.rs"]
mod locks;
#[path = "postgres/migration.rs"]
mod migration;
#[path = "model/mod.rs"]
mod model;
#[path = "postgres/notices.rs"]
mod notices;
#[path = "postgres/sessions.rs"]
mod sessions;
#[path = "postgres/statement_lock.rs"]
mod statement_lock;
#[path = "postgres/statements.rs"]
mod statements;
#[path = "postgres/unreadable.rs"]
mod unreadable;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use private_postgres::shared_database;
use proptest::prelude::*;
use retry_scheduler::conformance::{Harness, TransactionalHarness, clock};
use retry_scheduler::{
    Activity, BoxError, Cycle, CycleAdmin, CycleKey, EndReason, EndedHook, ManualClock, PostgresScheduler,
    State,
};
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

/// Longer than it takes until a handle looks again for cycles that were due before the latest ones it met.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(4);

struct OnServer {
    database: Database,
    clock: ManualClock,
    /// With a hook, a verb that ends a cycle is a transaction.
    endings: Option<Endings>,
}

impl OnServer {
    async fn new() -> Self {
        Self { database: Database::new().await, clock: clock(), endings: None }
    }

    async fn with_hook() -> Self {
        Self { endings: Some(Endings::default()), ..Self::new().await }
    }
}

/// What the hook was told.
#[derive(Clone, Default)]
struct Endings(Arc<Mutex<Vec<(CycleKey, EndReason)>>>);

#[async_trait]
impl EndedHook<PgConnection> for Endings {
    async fn on_ended(&self, _: &mut PgConnection, cycle: &Cycle, reason: EndReason) -> Result<(), BoxError> {
        self.0.lock().unwrap().push((cycle.key.clone(), reason));
        Ok(())
    }
}

async fn change(pool: &PgPool, set: String, key: &CycleKey) -> bool {
    let text = format!(
        "UPDATE retry_cycles SET {set} WHERE id = (SELECT id FROM retry_subjects WHERE namespace = $1 AND subject = $2)"
    );
    let update = sqlx::query(sqlx::AssertSqlSafe(text)).bind(&key.namespace).bind(&key.subject);
    update.execute(pool).await.unwrap().rows_affected() == 1
}

/// Puts an idle cycle back as it was before a claim.
async fn restore(pool: &PgPool, before: &Cycle) -> bool {
    let State::Pending(Activity::Idle { due }) = before.state else { return false };
    let due = due.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let set = format!(
        "claimed_at = NULL, lease_until = NULL, wake_at = {due}, epoch = {}, nonce = {}, lapses = {}",
        before.epoch,
        before.nonce.cast_signed(),
        before.lapses
    );
    change(pool, set, &before.key).await
}

impl model::Operated for PostgresScheduler {
    async fn set_paused(&self, namespace: &str, paused: bool) -> bool {
        let set = if paused { self.pause(namespace).await } else { self.resume(namespace).await };
        set.is_ok()
    }

    async fn restore(&self, before: &Cycle) -> bool {
        restore(self.pool(), before).await
    }

    fn overlooks_for(&self) -> Duration {
        BETWEEN_SWEEPS
    }
}

impl Harness for OnServer {
    type Scheduler = PostgresScheduler;

    async fn scheduler(&self) -> PostgresScheduler {
        let scheduler = self.database.open().with_clock(self.clock.clone());
        match &self.endings {
            Some(endings) => scheduler.on_ended(endings.clone()),
            None => scheduler,
        }
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn spoil(&self, key: &CycleKey) -> bool {
        change(&self.database.pool, "delays = 'new ' || delays".to_owned(), key).await
    }

    async fn mend(&self, key: &CycleKey) {
        change(&self.database.pool, "delays = replace(delays, 'new ', '')".to_owned(), key).await;
    }

    async fn restore(&self, before: &Cycle) -> bool {
        restore(&self.database.pool, before).await
    }

    fn endings(&self) -> Option<Vec<(CycleKey, EndReason)>> {
        Some(self.endings.as_ref()?.0.lock().unwrap().clone())
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
    retry_scheduler::admin_conformance_tests!(OnServer::new().await);
}

mod processes_with_a_hook {
    use super::OnServer;

    retry_scheduler::conformance_tests!(OnServer::with_hook().await);
    retry_scheduler::transactional_conformance_tests!(OnServer::with_hook().await);
    retry_scheduler::admin_conformance_tests!(OnServer::with_hook().await);
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
