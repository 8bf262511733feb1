//! Moves SQLite's write-ahead log into the database file, where backups and operators look for the data.
//!
//! The store does so only once some MiB were written. Until then, a copy of the file alone lacks all of that.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};

use super::file::DatabaseFile;
use crate::clock;

/// How long nothing is written before the log is moved.
const IDLE: Duration = Duration::from_secs(1);
/// The longest that a log stays while writing goes on.
const AT_LATEST: Duration = Duration::from_secs(30);

/// The length of a log, and when it was last written.
type LogState = (u64, Option<SystemTime>);

/// Moves the log into the file whenever nothing was written for a second, and every half minute. Runs for ever.
///
/// It has a connection of its own, and waits for no writer and no reader, nor they for it.
pub(super) async fn checkpoint_when_idle(writer: &SqlitePool, file: &DatabaseFile) {
    let options = SqliteConnectOptions::clone(&writer.connect_options()).create_if_missing(false);
    let log = file.log();
    let (mut connection, mut seen, mut moved) = (None, None, None);
    let mut since = clock::now();
    loop {
        tokio::time::sleep(IDLE).await;
        let state = log_state(&log).await;
        let is_idle = state == seen;
        seen = state;
        if state.is_none() || state == moved || !(is_idle || since.elapsed() >= AT_LATEST) {
            continue;
        }
        since = clock::now();
        match checkpoint(&mut connection, &options, file).await {
            Ok(true) => moved = state,
            // A reader was in the way, or the file is gone.
            Ok(false) => {}
            Err(error) => {
                connection = None;
                tracing::warn!(%error, "the write-ahead log was not moved into the database file");
                tokio::time::sleep(AT_LATEST).await;
            }
        }
    }
}

/// Moves the log as the last thing before the database is closed, and empties it if nobody else uses it.
pub(super) async fn checkpoint_at_exit(writer: &SqlitePool) -> sqlx::Result<()> {
    let mut connection = writer.acquire().await?;
    // A process that has it open too is not waited for: its own end empties the log.
    for pragma in
        ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(TRUNCATE)"]
    {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Returns whether all of the log was moved.
async fn checkpoint(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
    file: &DatabaseFile,
) -> sqlx::Result<bool> {
    if connection.is_none() {
        let opened = options.connect().await?;
        // Otherwise it is a connection to another file.
        if !file.is_in_place() {
            return Ok(false);
        }
        *connection = Some(opened);
    }
    let Some(connection) = connection else { return Ok(false) };
    let (_busy, pages, moved): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connection).await?;
    Ok(pages == moved)
}

async fn log_state(log: &Path) -> Option<LogState> {
    let metadata = tokio::fs::metadata(log).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
