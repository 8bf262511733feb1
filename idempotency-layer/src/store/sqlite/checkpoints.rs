//! WAL checkpoints in the background, which no verb waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};
use tokio::sync::Mutex;

use crate::store::batch::Op;

/// Moves the log into the database file, on a connection of its own beside the writer.
///
/// If the writer goes on meanwhile, a part of the log is left, and the log cannot start over. So
/// the writer has SQLite's own checkpoint set to [`LOG_PAGES`]: it stops writing there and moves
/// the rest, which is little. This also covers the writes of the application, which are not counted
/// here.
pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    /// Locked during a checkpoint.
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    /// An estimate of the pages written since the last checkpoint began.
    pages: AtomicUsize,
}

/// The longest log, except for one long transaction, and for readers that stay, whose pages are
/// kept.
pub(super) const LOG_PAGES: usize = 16 * 1024;
/// The pages between two checkpoints. Each checkpoint waits for the disk twice, and moves a page
/// once however often it was written.
const PAGES: usize = 4 * 1024;
/// The pages that a verb writes in addition to its bytes: that of its row and that of its index
/// entry.
const PAGES_OF_VERB: usize = 2;
const PAGE_BYTES: usize = 4096;

impl Checkpoints {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Arc::default(), pages: AtomicUsize::new(0) }
    }

    /// Counts the pages of these verbs. Begins a checkpoint if one is due and none is running.
    pub(super) fn wrote(&self, ops: &[Op]) {
        let pages = ops.iter().map(|op| PAGES_OF_VERB + op.bytes() / PAGE_BYTES).sum::<usize>();
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages < PAGES {
            return;
        }
        let Ok(mut connection) = self.connection.clone().try_lock_owned() else { return };
        self.pages.store(0, Ordering::Relaxed);
        let options = self.options.clone();
        tokio::spawn(async move {
            // If it fails, the next one is due soon, and the writer's own checkpoint comes last.
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
    // A passive checkpoint waits for nobody.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").await?;
    Ok(connection)
}
