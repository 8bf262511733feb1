//! The scheduler in SQLite: each handle has a connection of its own, as processes on one file have.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "sqlite/files.rs"]
mod files;
#[path = "first_version/mod.rs"]
mod first_version;
#[path = "sqlite/hooks.rs"]
mod hooks;
#[path = "known_faults/mod.rs"]
mod known_faults;
#[path = "sqlite/many.rs"]
mod many;
#[path = "sqlite/migration.rs"]
mod migration;
#[path = "model/mod.rs"]
mod model;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use std::{env, fs, process};

use async_trait::async_trait;
use proptest::prelude::*;
use retry_scheduler::conformance::{Harness, TransactionalHarness, clock};
use retry_scheduler::{
    Activity, BoxError, Cycle, CycleAdmin, CycleKey, EndReason, EndedHook, ManualClock, SqliteScheduler,
    State,
};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

known_faults!(OnFile::new().await);

/// A file that goes with the test.
struct File {
    folder: PathBuf,
}

impl File {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("retry-scheduler-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// A handle as another process would have it.
    async fn open(&self) -> SqliteScheduler {
        SqliteScheduler::open(self.folder.join("cycles.db")).await.unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct OnFile {
    file: File,
    pool: SqlitePool,
    clock: ManualClock,
    endings: Endings,
}

impl OnFile {
    async fn new() -> Self {
        let file = File::new();
        let pool = file.open().await.pool().clone();
        Self { file, pool, clock: clock(), endings: Endings::default() }
    }
}

/// What the hook was told.
#[derive(Clone, Default)]
struct Endings(Arc<Mutex<Vec<(CycleKey, EndReason)>>>);

#[async_trait]
impl EndedHook<SqliteConnection> for Endings {
    async fn on_ended(
        &self,
        _: &mut SqliteConnection,
        cycle: &Cycle,
        reason: EndReason,
    ) -> Result<(), BoxError> {
        self.0.lock().unwrap().push((cycle.key.clone(), reason));
        Ok(())
    }
}

async fn change(pool: &SqlitePool, set: &'static str, key: &CycleKey) -> bool {
    let text = format!(
        "UPDATE retry_cycles SET {set} WHERE id = (SELECT id FROM retry_subjects WHERE namespace = $1 AND subject = $2)"
    );
    let update = sqlx::query(sqlx::AssertSqlSafe(text)).bind(&key.namespace).bind(&key.subject);
    update.execute(pool).await.unwrap().rows_affected() == 1
}

/// Puts an idle cycle back as it was before a claim.
async fn restore(pool: &SqlitePool, before: &Cycle) -> bool {
    let State::Pending(Activity::Idle { due }) = before.state else { return false };
    let due = due.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let text = format!(
        "UPDATE retry_cycles SET claimed_at = NULL, wake_at = {due}, epoch = {}, nonce = {}, lapses = {} \
         WHERE id = (SELECT id FROM retry_subjects WHERE namespace = $1 AND subject = $2)",
        before.epoch,
        before.nonce.cast_signed(),
        before.lapses
    );
    let update = sqlx::query(sqlx::AssertSqlSafe(text)).bind(&before.key.namespace).bind(&before.key.subject);
    update.execute(pool).await.unwrap().rows_affected() == 1
}

impl Harness for OnFile {
    type Scheduler = SqliteScheduler;

    async fn scheduler(&self) -> SqliteScheduler {
        self.file.open().await.with_clock(self.clock.clone()).on_ended(self.endings.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn spoil(&self, key: &CycleKey) -> bool {
        change(&self.pool, "delays = 'new ' || delays", key).await
    }

    async fn mend(&self, key: &CycleKey) {
        change(&self.pool, "delays = replace(delays, 'new ', '')", key).await;
    }

    async fn restore(&self, before: &Cycle) -> bool {
        restore(&self.pool, before).await
    }

    fn endings(&self) -> Option<Vec<(CycleKey, EndReason)>> {
        Some(self.endings.0.lock().unwrap().clone())
    }
}

impl model::Operated for SqliteScheduler {
    async fn set_paused(&self, namespace: &str, paused: bool) -> bool {
        let set = if paused { self.pause(namespace).await } else { self.resume(namespace).await };
        set.is_ok()
    }

    async fn restore(&self, before: &Cycle) -> bool {
        restore(self.pool(), before).await
    }
}

impl TransactionalHarness for OnFile {
    type Connection = SqliteConnection;
    type Transaction = Transaction<'static, Sqlite>;

    async fn begin(&self) -> Self::Transaction {
        self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn roll_back(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }
}

mod processes {
    use super::OnFile;

    retry_scheduler::conformance_tests!(OnFile::new().await);
    retry_scheduler::admin_conformance_tests!(OnFile::new().await);
    retry_scheduler::transactional_conformance_tests!(OnFile::new().await);
}

/// One handle, and the application's transactions on the same connection.
struct OneProcess {
    scheduler: SqliteScheduler,
    clock: ManualClock,
    _file: File,
}

impl OneProcess {
    async fn new() -> Self {
        let (file, clock) = (File::new(), clock());
        Self { scheduler: file.open().await.with_clock(clock.clone()), clock, _file: file }
    }
}

impl Harness for OneProcess {
    type Scheduler = SqliteScheduler;

    async fn scheduler(&self) -> SqliteScheduler {
        self.scheduler.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl TransactionalHarness for OneProcess {
    type Connection = SqliteConnection;
    type Transaction = Transaction<'static, Sqlite>;

    async fn begin(&self) -> Self::Transaction {
        self.scheduler.pool().begin().await.unwrap()
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn roll_back(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }
}

mod one_process {
    use super::OneProcess;

    retry_scheduler::conformance_tests!(OneProcess::new().await);
    retry_scheduler::admin_conformance_tests!(OneProcess::new().await);
    retry_scheduler::transactional_conformance_tests!(OneProcess::new().await);
}

#[test]
fn whatever_happens_a_cycle_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let file = File::new();
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let [one, two] = runtime
        .block_on(async { [file.open().await, file.open().await] })
        .map(|scheduler| scheduler.with_clock(clock.clone()));
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in model::steps())| {
        runtime.block_on(model::run([one.clone(), two.clone()], &clock, steps));
    });
}
