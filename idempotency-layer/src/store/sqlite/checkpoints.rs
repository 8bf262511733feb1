//! What was written goes from the log into the database file: off the path of the verbs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};
use tokio::sync::Mutex;

use crate::store::batch::Op;

/// Moves the log into the file, on a connection of its own, beside the one that goes on writing.
///
/// A log that is written to meanwhile is never moved whole, and only one that is whole can start over. So the writing
/// connection has SQLite's own checkpoint set to [`LOG_PAGES`]: there it stops writing and moves the rest, which is little.
/// That also takes care of what the application writes, which nobody counts here.
pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    /// Locked while one is on its way.
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    /// Written since the last one began, more or less.
    pages: AtomicUsize,
}

/// The log grows no longer than that, but for one transaction and for readers: one that stays keeps what it reads.
pub(super) const LOG_PAGES: usize = 16 * 1024;
/// So often. Every checkpoint waits for the disk twice; pages that were written several times are moved once.
const PAGES: usize = 4 * 1024;
/// What a verb writes beside its bytes: the page of its row and that of its name in the index.
const PAGES_OF_VERB: usize = 2;
const PAGE_BYTES: usize = 4096;

impl Checkpoints {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Arc::default(), pages: AtomicUsize::new(0) }
    }

    /// Counts what was written; begins a checkpoint when it is time for one and the last one is over.
    pub(super) fn wrote(&self, ops: &[Op]) {
        let pages = ops.iter().map(|op| PAGES_OF_VERB + op.bytes() / PAGE_BYTES).sum::<usize>();
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages < PAGES {
            return;
        }
        let Ok(mut connection) = self.connection.clone().try_lock_owned() else { return };
        self.pages.store(0, Ordering::Relaxed);
        let options = self.options.clone();
        tokio::spawn(async move {
            // Where it fails, the next one is due soon, and the writer's own comes at last.
            *connection = checkpoint(connection.take(), &options).await.ok();
        });
    }
}

async fn checkpoint(
    connection: Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => options.connect().await?,
    };
    // Passive: waits for nobody.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").await?;
    Ok(connection)
}
