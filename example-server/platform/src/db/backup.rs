//! The command `backup FILE`: a consistent copy of a SQLite database, even while servers use it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::Database;
use crate::files;

/// An error of a backup. It does not show the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`backup` copies SQLite databases; for PostgreSQL, use `pg_dump`")]
    Postgres,
    #[error("cannot back up a database in memory")]
    InMemory,
    #[error("the database URL must begin with sqlite: or postgres:")]
    Scheme,
    #[error("{} already exists, and `backup` does not overwrite files", .0.display())]
    Exists(PathBuf),
    #[error("the backup needs a file name in UTF-8")]
    Name,
    #[error("cannot open the database file {}", path.display())]
    Source { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot copy the database")]
    Copy(#[from] sqlx::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Copies the database of this URL into a new file that only its owner can access.
///
/// The copy is written to a hidden file in the same folder and gets its name once all of it is on
/// disk. A process that is killed leaves the hidden file behind.
///
/// # Errors
///
/// If the database is not in a file or cannot be read, or if the copy already exists or cannot be
/// written.
///
/// # Cancel safety
///
/// When dropped, it deletes the hidden file.
pub async fn back_up(url: &str, target: &Path) -> Result<(), BackupError> {
    let source = match url.split(':').next() {
        Some("sqlite") => Database::file(url).ok_or(BackupError::InMemory)?,
        Some("postgres" | "postgresql") => return Err(BackupError::Postgres),
        _ => return Err(BackupError::Scheme),
    };
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    let draft = Draft::create(target)?;
    let name = draft.0.to_str().ok_or(BackupError::Name)?;

    let cannot_open = |cause: Box<_>| BackupError::Source { path: source.clone(), source: cause };
    // For the error of a missing or unreadable file, which SQLite does not report. Closing the file
    // again is safe: it releases this process's locks on it, and there are none yet.
    File::open(&source).map_err(|error| cannot_open(error.into()))?;
    let options = SqliteConnectOptions::from_str(url)?.create_if_missing(false).read_only(true);
    let mut connection = options.connect().await.map_err(|error| cannot_open(error.into()))?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await?;
    connection.close().await?;

    draft.keep(target).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(target.to_owned()),
        _ => failed(error),
    })
}

/// The hidden file of an unfinished copy. Deleted when dropped.
#[derive(Debug)]
struct Draft(PathBuf);

impl Draft {
    /// Creates an empty file beside `target`, which SQLite then fills.
    fn create(target: &Path) -> Result<Self, BackupError> {
        let name = target.file_name().and_then(|name| name.to_str()).ok_or(BackupError::Name)?;
        let draft = target.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(|source| BackupError::Write { path: target.to_owned(), source })?;
        Ok(Self(draft))
    }

    /// Gives the file its name, unless another file has that name by now.
    fn keep(self, target: &Path) -> io::Result<()> {
        File::open(&self.0)?.sync_all()?;
        files::publish(&self.0, target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
