//! Checkpoints, which move SQLite's write-ahead log into the database file.
//!
//! The store lets SQLite do so only after some MiB of writes. Until then, a copy of the file alone
//! lacks those writes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};

use super::file::DatabaseFile;
use crate::clock;

/// The time without writes after which to move the log.
const IDLE: Duration = Duration::from_secs(1);
/// The maximum time between checkpoints during constant writes.
const AT_LATEST: Duration = Duration::from_secs(30);

/// The length of a log and the time of its last write.
type LogState = (u64, Option<SystemTime>);

/// Moves the log into the file after each second without writes, and at least every 30 s. Runs
/// forever.
///
/// It uses its own connection. It does not wait for writers and readers, and they do not wait for
/// it.
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
            // A reader still needs a part of the log, or the file was moved.
            Ok(false) => {}
            Err(error) => {
                connection = None;
                tracing::warn!(%error, "could not move the write-ahead log into the database file");
                tokio::time::sleep(AT_LATEST).await;
            }
        }
    }
}

/// Moves the log before the database closes, and truncates it if no other process uses it.
pub(super) async fn checkpoint_at_exit(writer: &SqlitePool) -> sqlx::Result<()> {
    let mut connection = writer.acquire().await?;
    // Do not wait for another process that uses the database. It truncates the log when it ends.
    for pragma in
        ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(TRUNCATE)"]
    {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Runs a checkpoint. Returns whether it moved the whole log.
async fn checkpoint(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
    file: &DatabaseFile,
) -> sqlx::Result<bool> {
    if connection.is_none() {
        let opened = options.connect().await?;
        // Otherwise, this connection may be to another file.
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
